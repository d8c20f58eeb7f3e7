"""Kills and cuts, at every step of a move, under load: `python -m chaos --help`; the outcome is in docs/reliability.md.

`chaos.cells` says what is tried, `chaos.lanes` strikes in one lab or in several at once, `chaos.strike` does one,
`chaos.lab` is the lab it is done to, `chaos.hook` makes the orchestrator strike at a journalled step, `chaos.verdict`
judges, `chaos.table` writes.
"""
