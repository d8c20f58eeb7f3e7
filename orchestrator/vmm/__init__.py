"""VMM agents (§3.4): they create replicas from a snapshot of the first one, and end them.

Processes of their own: of the orchestrator they import `errors` and how a file is read (`config`), nothing else.
"""

from orchestrator.vmm.agent import AgentCore
from orchestrator.vmm.config import AgentConfig, MachineConfig, SlotConfig

__all__ = ["AgentConfig", "AgentCore", "MachineConfig", "SlotConfig"]
