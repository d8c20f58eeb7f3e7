"""VMM agents (§3.4): they create replicas from a snapshot of the first one, and end them."""

from orchestrator.vmm.agent import AgentCore
from orchestrator.vmm.config import AgentConfig, MachineConfig, SlotConfig

__all__ = ["AgentConfig", "AgentCore", "MachineConfig", "SlotConfig"]
