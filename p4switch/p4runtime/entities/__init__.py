"""Every kind of entity that P4Runtime reads and writes, by its name in ``p4.v1.Entity``."""

from p4switch.p4runtime.entities.base import DELETE, INSERT, MODIFY, Context, Handler, Undo
from p4switch.p4runtime.entities.registry import Entities

__all__ = ["DELETE", "INSERT", "MODIFY", "Context", "Entities", "Handler", "Undo"]
