"""Coherent state (§3.1), without I/O: the hub that collects replicas' parts, and the lock service of `SYNCH`.

What decides about shared objects belongs here. The shell with journal, connections and timers is
`orchestrator.shared`; the replicas' side is `guestlib`. Imports nothing of the orchestrator, nor any clock or socket.
"""
