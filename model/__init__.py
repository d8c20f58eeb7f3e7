"""An exhaustive model of the move protocol: two replicas, one controller, a few packets, one fault.

`model.world` is what there is (queues, replicas, the switch's entry, the orchestrator), `model.replica` and
`model.orchestrator` are what the parts do, `model.faults` what may go wrong, `model.search` visits every state that any
interleaving reaches. ``python -m model --help`` runs it; docs/model.md says what it shows and what it leaves out.
"""

from model.rules import CONFIGURATIONS, RULES, Configuration
from model.search import Result, search

__all__ = ["CONFIGURATIONS", "RULES", "Configuration", "Result", "search"]
