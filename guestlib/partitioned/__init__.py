"""Partitioned state: flows, by whose keys they are found, and what has been decided about these keys.

`flows`: the table. `fences`: what moves have decided. `steering`, `ports`: keys that the switch must be told of, and
ports chosen so that it need not be. `timers`, `gone`: what ends flows, and of which ended ones the orchestrator is
told. `relations`, `questions`: what the orchestrator asks about them.
"""
