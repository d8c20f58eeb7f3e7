"""``python -m orchestrator.vmm --config FILE``: a VMM agent; `splitmerge agent` is the same."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.config import load
from orchestrator.vmm.config import AgentConfig
from orchestrator.vmm.logs import log_as
from orchestrator.vmm.loop import Agent, Backend
from splitmerge.errors import SplitmergeError

logger = logging.getLogger("agent")


def backend_of(config: AgentConfig) -> Backend:
    """What makes this configuration's replicas. :raises SplitmergeError: if it cannot."""
    if config.kind == "process":
        from orchestrator.vmm.process import ProcessBackend

        return ProcessBackend(config)
    from orchestrator.vmm.machines import MachineBackend

    return MachineBackend(config)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.vmm", description="VMM agent: makes replicas from a snapshot of the first one."
    )
    parser.add_argument("--config", type=Path, required=True, help="TOML or JSON; see orchestrator/vmm/config.py")
    arguments = parser.parse_args(argv)
    log_as("agent", "INFO")
    try:
        config = load(arguments.config, AgentConfig, "docs/vmm.md").check()
        log_as("agent", config.log_level)
        agent = Agent(config, backend_of(config))
    except SplitmergeError as error:
        logger.error("%s", error)
        return 2
    agent.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
