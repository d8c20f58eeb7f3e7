"""The orchestrator: policy, moves, journal, control network and REST API.

Nothing is re-exported here: importing `orchestrator.vmm` runs this file too, and the agent forks, so neither gRPC nor
its threads may come into that process. The parts: `service.Orchestrator`, `migration.Move`, `journal.Journal`,
`api.make_app`, `config.Config`.
"""

__all__: list[str] = []
