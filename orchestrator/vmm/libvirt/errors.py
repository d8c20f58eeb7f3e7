"""Errors of virtual machines.

SplitmergeError
└── OrchestratorError
    └── MachineError     a machine, or libvirtd, did not do what was asked
        └── HostAway     libvirtd does not answer; it is started again, and may later
"""

from __future__ import annotations

from orchestrator.errors import OrchestratorError


class MachineError(OrchestratorError):
    """``where`` names the machine or part, ``remedy`` says where to look."""


class HostAway(MachineError):
    """libvirtd does not answer."""
