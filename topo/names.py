"""Names of a lab's hosts, for the commands run in it: ``server`` and 10.0.2.2 stand for one another.

A lab has no DNS. Asked for a name, or for an address's (Python's ``http.server`` asks when it starts), the C library
would wait for servers that nothing in the lab leads to. So commands get files of the lab's own in place of two of the
machine's, as ``ip netns exec`` does it: bound over them in a mount namespace that ends with the command.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

from topo.model import Topology

ETC = Path("/etc")
FILES = ("hosts", "resolv.conf")
_NO_DNS = """\
# There is no DNS in a lab: whoever asks is refused at once by its own namespace.
nameserver 127.0.0.1
options timeout:1 attempts:1
"""


def write_names(directory: Path, topology: Topology) -> None:
    """The files, below a lab's directory. What the machine's own ``hosts`` has follows, for its own name's sake."""
    folder = directory / "etc"
    folder.mkdir(parents=True, exist_ok=True)
    machine = ETC / "hosts"
    lines = [f"{ip_interface(address).ip} {host.name}\n" for host in topology.hosts for address in host.addresses]
    (folder / "hosts").write_text("".join(lines) + (machine.read_text(errors="replace") if machine.exists() else ""))
    (folder / "resolv.conf").write_text(_NO_DNS)


def names_of(directory: Path) -> Iterator[tuple[Path, Path]]:
    """(file of this lab, file in whose place it is to be); where the machine has none there is nothing to replace."""
    for name in FILES:
        if (own := directory / "etc" / name).exists() and (ETC / name).exists():
            yield own, ETC / name
