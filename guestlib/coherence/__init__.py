"""Coherent state: values that all replicas share, by a combiner or under a lock.

`coherent`, `objects`: the values of one replica. `synch`, `transactions`: strong consistency by a lock service, which
is the orchestrator or `etcd`, in the thread of a `worker`. `history`: what is checked of it.
"""
