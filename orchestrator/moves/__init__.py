"""Who owns what, and the shell that runs moves: around `orchestrator.migration`, which decides about each.

`placement` says who owns which buckets and flows (pure), and `registrar` adds the keys that replicas ask for. A move
comes into being in `turns`, is run by `mover` and reported by `reports`; `sequel` is what follows from it, `recovery`
what a new process asks first. Imports the cores, the journal, the network and the replicas. That somebody wants a move
belongs to `orchestrator.scaling`, that something has no owner to `orchestrator.ownership`.
"""
