"""Several switches as one network."""

from p4rt_controller.fabric.fabric import Fabric
from p4rt_controller.fabric.options import FabricOptions

__all__ = ["Fabric", "FabricOptions"]
