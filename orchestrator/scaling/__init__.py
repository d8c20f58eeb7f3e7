"""How many replicas there are, and which flows each has: asked for by people, by policies, or by a death.

`scaler` does it, as a sequence of moves; `planning` says which buckets and flows move (pure), by load that `measuring`
measures. `autoscaler` is the shell around the policies of `orchestrator.elasticity`, `asking` bounds what they take.
`replacing` makes replicas that nobody asked for, when `replacements` (pure) says so. Imports replicas and moves.
"""
