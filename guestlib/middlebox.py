"""What a middlebox is, and how one is found by name."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

from guestlib.errors import MiddleboxError
from guestlib.plain import not_run, refuse_unplain
from splitmerge.errors import SplitmergeError, shortened
from splitmerge.flowkey import FlowKey
from splitmerge.plugins import REMEDY, found_as, import_here, in_words, instead_of

if TYPE_CHECKING:
    from guestlib.guest import Guest


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One packet for the middlebox: the whole Ethernet frame, and its flow key (None if it is not IP)."""

    frame: bytes
    key: FlowKey | None

    @classmethod
    def of(cls, frame: bytes) -> Packet:
        """The packet of a frame."""
        return cls(frame, FlowKey.from_frame(frame))


@runtime_checkable
class Middlebox(Protocol):
    """A network function.

    It may also have ``on_finish(guest)``, called once when no more packets will come; and, after its setup,
    ``answers``: a sequence of addresses of its own that peers send to, which a topology's ``virtual`` is to have.
    Each is 4 or 16 bytes, or text, or one of `ipaddress`.
    """

    def setup(self, guest: Guest) -> None:
        """Before the snapshot: register state types and timers, create coherent objects, build internal state."""

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """One packet. What should leave the middlebox goes out through ``guest.send``."""


def load_middlebox(name: str) -> Middlebox:
    """A new instance of the class (or the result of the callable) named ``package.module:Name``.

    :raises MiddleboxError: saying which part of the name is wrong.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise MiddleboxError(f"middlebox {name!r}", "no module and class", "write package.module:Class")
    try:
        module = import_here(module_name)
    except ImportError as error:
        raise MiddleboxError(f"middlebox {name!r}", str(error), REMEDY) from error
    except (Exception, SystemExit) as error:  # whatever the module's own text raises
        raise MiddleboxError(
            f"middlebox {name!r}", f"cannot be imported: {in_words(error)}", "correct the module"
        ) from error
    factory = getattr(module, attribute, None)
    if factory is None:
        known = ", ".join(sorted(n for n, v in vars(module).items() if isinstance(v, type) and hasattr(v, "on_packet")))
        remedy = instead_of(module) or f"it has: {known or 'none'}"
        raise MiddleboxError(f"middlebox {name!r}", f"{found_as(module)} has no {attribute}", remedy)
    if not callable(factory):
        raise MiddleboxError(f"middlebox {name!r}", f"{attribute} cannot be called", "name a class")
    try:
        middlebox = factory()
    except TypeError as error:
        raise MiddleboxError(f"middlebox {name!r}", str(error), "it must need no arguments") from error
    except SplitmergeError:  # its own words
        raise
    except (Exception, SystemExit) as error:
        raise MiddleboxError(
            f"middlebox {name!r}", f"cannot be made: {in_words(error)}", "correct its __init__"
        ) from error
    if not isinstance(middlebox, Middlebox):
        raise MiddleboxError(f"middlebox {name!r}", f"{attribute} is no middlebox", "it needs setup and on_packet")
    _check_functions(middlebox, f"middlebox {name!r}")
    return middlebox


def set_up(middlebox: Middlebox, guest: Guest, where: str) -> None:
    """Call its setup.

    :raises MiddleboxError: one of its functions, or its setup itself, would not run when it is called.
    :raises BadInput: for a figure that statistics would leave out. Whatever the setup raises comes as it is.
    """
    _check_functions(middlebox, where)
    made: object = middlebox.setup(guest)  # type: ignore[func-returns-value]  # anybody's code
    if (problem := not_run(made)) is not None:
        raise MiddleboxError(where, f"its setup fails: {problem}", "see its code")
    guest.check_figures(where)


def answers_of(middlebox: Middlebox, where: str) -> tuple[bytes, ...]:
    """After its setup: the addresses at which it answers itself, of 4 or 16 bytes.

    :raises MiddleboxError: if its ``answers`` are something else.
    """
    answers: object = getattr(middlebox, "answers", ())
    if isinstance(answers, str | bytes) or not isinstance(answers, Iterable):
        shown = shortened(repr(answers))
        remedy = "write a list, also of one address: self.answers = [address]"
        raise MiddleboxError(where, f"self.answers is {shown}, no list of addresses", remedy)
    return tuple(_packed(each, where) for each in answers)


def _packed(address: object, where: str) -> bytes:
    problem = f"self.answers has {shortened(repr(address))}, which is no address"
    remedy = "an address is 4 or 16 bytes, or text like 10.0.2.100"
    if not isinstance(address, bytes | str | IPv4Address | IPv6Address):  # ip_address takes a number for one
        raise MiddleboxError(where, problem, remedy)
    try:
        return ip_address(address).packed
    except ValueError:
        raise MiddleboxError(where, problem, remedy) from None


def _check_functions(middlebox: Middlebox, where: str) -> None:
    for name in ("setup", "on_packet", "on_finish"):
        refuse_unplain(where, name, getattr(middlebox, name, None))
