"""What a policy would do with a load trace: `read_trace`, `Simulation`, and the `Result` that reports show.

Imports `orchestrator.elasticity`, and of `orchestrator.scaling` how a policy is asked and which flows move.
"""

from orchestrator.simulator.simulation import Action, Look, Model, Result, Simulation
from orchestrator.simulator.trace import TRACES, read_trace

__all__ = ["TRACES", "Action", "Look", "Model", "Result", "Simulation", "read_trace"]
