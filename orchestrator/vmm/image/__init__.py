"""Images of replicas' machines: Debian's kernel, an initramfs with this Python, the guest library, the middlebox."""

from orchestrator.vmm.image.build import Image, build, find
from orchestrator.vmm.image.errors import ImageError

__all__ = ["Image", "ImageError", "build", "find"]
