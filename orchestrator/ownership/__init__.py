"""That everything has one living owner, which knows it.

`assigning`: new flows that the controller announces. `settling`: what the dead had, and what nobody has yet.
`reattaching`: what an earlier process of the orchestrator left. `endings`: entries of flows that have ended. `owned`:
what replicas are told of it. Imports replicas, moves and scaling; nothing below imports it.
"""
