"""The orchestrator: policy, moves, journal, control network and REST API.

Nothing is re-exported here: importing `orchestrator.vmm` runs this file too, and the agent forks, so neither gRPC nor
its threads may come into that process.

Where something belongs. A part imports only parts that stand below it (`tests/orchestrator/test_layers.py` reads this):

    __main__      the command
    process       the process
    rest          the REST API and metrics: what people and programs ask and see
    service       the orchestrator, put together
    peers         who may come in on the control network, and to whom goes what they say
    ownership     that everything has one living owner: new flows, those of the dead, those that have ended
    simulator     what a policy would do with a load trace, without packets
    scaling       migrate, scale out and in, rebalance, replace the dead: for people and for policies
    moves         who owns what, and the shell that runs moves
    replicas      who lives, on which slot, and how they are
    shared        the shell of coherent state
    switch_drops  what the switches dropped
    background    work that goes on though nobody may wait for it
    vmm           the agents that make replicas, in processes of their own
    journal       what a new process must know after `kill -9`
    config        the configuration file
    migration     core, without I/O: one move
    elasticity    core: policies
    coherence     core: coherent state, and the lock service
    network       what is asked of the SDN
    errors        what can go wrong
"""

__all__: list[str] = []
