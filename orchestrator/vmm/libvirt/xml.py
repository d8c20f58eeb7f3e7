"""A machine as libvirt's domain XML. What the snapshot's machine and its clones differ in is a parameter here.

Everything else must be the same, device by device: QEMU's stream of a machine's state names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from guestlib.machine import PORT_NAME
from orchestrator.vmm.image import Image

CONTROL_MAC = "52:54:00:73:6d:00"
"""Of the control interface in the snapshot; every replica gets another when it begins."""
_COMMAND_LINE = "console=ttyS0 quiet panic=-1 mitigations=off audit=0"
_NO_OFFLOADS = (
    "<host csum='off' gso='off' tso4='off' tso6='off' ecn='off' ufo='off'/>"
    "<guest csum='off' tso4='off' tso6='off' ecn='off' ufo='off'/>"
)
"""Frames must carry whole checksums: what a packet socket reads is sent on as it is.

Mergeable receive buffers stay on: without them a Linux guest takes no frame of more than 1,518 bytes, and a relayed
one of full size has 1,526 (`splitmerge.tag`).
"""


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One machine. ``memory`` in MiB."""

    name: str
    uuid: str
    image: Image
    memory: int
    memory_file: Path
    """Its memory; a clone maps the snapshot's and keeps for itself what it changes (share=off)."""
    shared: bool
    """Whether what it writes goes to the file: true for the machine that the snapshot is taken of."""
    incoming: bool
    """Whether it waits for a machine's state instead of booting."""
    kvm: bool
    traffic_tap: str
    traffic_mac: str
    control_tap: str
    channel: Path
    """Unix socket that the agent listens on; the machine's virtio-serial port ends there."""
    console: Path
    """File for what the guest writes on its console."""
    own_taps: bool = False
    """Whether libvirt makes the taps, and they go with the machine; else they are there already and stay."""


def domain(spec: MachineSpec) -> str:
    """The XML."""
    managed = "yes" if spec.own_taps else "no"
    share = "on" if spec.shared else "off"
    backend = f"memory-backend-file,id=sm-memory,mem-path={spec.memory_file},size={spec.memory}M,share={share}"
    arguments = ["-object", backend, "-machine", "memory-backend=sm-memory"]
    arguments += ["-incoming", "defer"] if spec.incoming else []
    return f"""\
<domain type={quoteattr("kvm" if spec.kvm else "qemu")} xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{spec.name}</name>
  <uuid>{spec.uuid}</uuid>
  <memory unit='MiB'>{spec.memory}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{spec.image.vmlinuz}</kernel>
    <initrd>{spec.image.initramfs}</initrd>
    <cmdline>{_COMMAND_LINE}</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <serial type='file'><source path={quoteattr(str(spec.console))}/></serial>
    <channel type='unix'>
      <source mode='connect' path={quoteattr(str(spec.channel))}/>
      <target type='virtio' name={quoteattr(PORT_NAME)}/>
    </channel>
    {_interface(spec.traffic_tap, spec.traffic_mac, managed)}
    {_interface(spec.control_tap, CONTROL_MAC, managed)}
  </devices>
  <qemu:commandline>
    {"".join(f"<qemu:arg value={quoteattr(argument)}/>" for argument in arguments)}
  </qemu:commandline>
</domain>
"""


def _interface(tap: str, mac: str, managed: str) -> str:
    return (
        f"<interface type='ethernet'><mac address={quoteattr(mac)}/>"
        f"<target dev={quoteattr(tap)} managed={quoteattr(managed)}/><model type='virtio'/>"
        f"<driver name='qemu'>{_NO_OFFLOADS}</driver><rom enabled='no'/></interface>"
    )
