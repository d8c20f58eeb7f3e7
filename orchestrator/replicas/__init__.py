"""The replicas and the agents that make them: who lives, on which slot, how they are, and how to ask them something.

`sessions` is the control network's server side, `agents` and `fleet` who is connected and who lives. `health`,
`noticed` and `doubts` tell how they are; `undertaker` ends those that hang or stay away, `ended` keeps what they had
counted. Imports the cores, the journal and the network. Who owns which flows is none of its business: what becomes of
those of the dead belongs to `orchestrator.ownership`, whether another replica comes to `orchestrator.scaling`.
"""
