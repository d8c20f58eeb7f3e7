"""Moves of partitioned state, as a replica takes part in them: `moves.Moves`, in two roles.

`source`, `target`: what a replica does in each. `exports`, `imports`: how flows leave and arrive. `carriers`: packets
from replica to replica. `known`, `epochs`: what is remembered of moves. `apart`: flows that were here before their
bucket was.
"""

from guestlib.moves.moves import Moves

__all__ = ["Moves"]
