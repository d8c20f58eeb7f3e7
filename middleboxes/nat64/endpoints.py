"""Which external endpoint a session has, and whom the filter lets in (RFC 6146 §3.5), as one replica knows it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from guestlib import Guest
from middleboxes.nat64.bib import Binding, Bindings, allowed, candidates, name
from middleboxes.nat64.config import Nat64Config
from middleboxes.nat64.errors import Untranslatable
from middleboxes.nat64.incoming import is_stranger
from middleboxes.nat64.parsed import Parsed
from middleboxes.nat64.session import Path
from splitmerge.colocation import Outside
from splitmerge.flowkey import ICMP, ICMPV6, FlowKey

IN_IPV6, IN_IPV4 = {ICMP: ICMPV6}, {ICMPV6: ICMP}
"""Protocol numbers that are another one on that side."""
_REFUSED = 4096
"""Second keys remembered that other flows have."""

_Found = tuple[bytes, int, FlowKey]
"""External address and port, and the session's key outside."""


class Endpoints:
    """``clock`` gives seconds since 1970, ``choose`` random numbers below 2**16."""

    def __init__(self, config: Nat64Config, clock: Callable[[], float], choose: Callable[[], int]) -> None:
        self.bindings = Bindings()
        self.independent = config.mapping == "endpoint-independent"
        self._filtering = config.filtering
        self._prefix, self._pool, self._ports = config.pref64(), config.addresses(), config.ports
        self._secret = config.secret.encode()[:64]
        self._clock, self._choose = clock, choose
        self._refused: OrderedDict[bytes, None] = OrderedDict()

    # -- new sessions ----------------------------------------------------------------------------------------

    def outward(self, guest: Guest, key: FlowKey, data: Parsed, ports: tuple[int, int]) -> tuple[Path, FlowKey]:
        """A new session that begins inside, and its key outside. :raises Untranslatable: ``no_port``."""
        protocol = IN_IPV4.get(data.protocol, data.protocol)
        remote = self._prefix.extract(data.destination)
        choose = self._independent_port if self.independent else self._dependent_port
        for address in (b"",) if self.independent else self._pool:
            found = choose(guest, key, Outside(address, remote, ports[1], protocol), (data.source, ports[0]))
            if found is not None:
                outside, port, second = found
                return Path(data.source, ports[0], outside, port, remote, ports[1], protocol == ICMP), second
        raise Untranslatable("no_port")

    def _dependent_port(self, guest: Guest, key: FlowKey, outside: Outside, inside: tuple[bytes, int]) -> _Found | None:
        found = guest.colocated_port(outside, key, self._ports, self._choose())
        return None if found is None else (outside.address, *found)

    def _independent_port(
        self, guest: Guest, key: FlowKey, outside: Outside, inside: tuple[bytes, int]
    ) -> _Found | None:
        """The external endpoint that is bound to the one inside, else its first candidate that is not another's."""
        free: _Found | None = None
        for address, port in candidates(self._secret, outside.protocol, *inside, self._pool, self._ports):
            second = Outside(address, outside.remote, outside.remote_port, outside.protocol).key(port)
            if second in self._refused or (guest.has_flow(second) and not is_stranger(guest, second)):
                continue
            binding = self.bindings.known(guest, name(outside.protocol, address, port), self._clock())
            if binding is None:
                free = free or (address, port, second)
            elif (binding.inside, binding.inside_port) == inside:
                return address, port, second
        return free

    def inward(self, guest: Guest, data: Parsed, ports: tuple[int, int]) -> tuple[Path, FlowKey]:
        """A new session that begins outside, if the filter lets it in, and its key inside. :raises Untranslatable:"""
        if self._filtering == "address-and-port-dependent":
            raise Untranslatable("filtered")
        path = self.bound(guest, data.protocol, data.destination, ports[1], data.source, ports[0])
        if not self.lets_in(guest, data.protocol, path):
            raise Untranslatable("filtered")
        return path, self._inside_key(data.protocol, path)

    def to_hold(self, guest: Guest, data: Parsed, ports: tuple[int, int]) -> tuple[Path, FlowKey] | None:
        """The same of one that it does not let in; None if nobody is known to have the port."""
        binding = self.bindings.known(guest, name(data.protocol, data.destination, ports[1]), self._clock())
        if binding is None:
            return None
        path = Path(binding.inside, binding.inside_port, data.destination, ports[1], data.source, ports[0])
        return path, self._inside_key(data.protocol, path)

    def _inside_key(self, protocol: int, path: Path) -> FlowKey:
        """The IPv6 key of a session; ``protocol`` is IPv4's number."""
        remote6 = self._prefix.embed(path.remote)
        return FlowKey.of(IN_IPV6.get(protocol, protocol), path.inside, path.inside_port, remote6, path.far6)

    def refuse(self, second: FlowKey) -> None:
        """Another flow has this key outside: its candidate is not taken again."""
        self._refused[second] = None
        if len(self._refused) > _REFUSED:
            self._refused.popitem(last=False)

    # -- what is bound ---------------------------------------------------------------------------------------

    def bind(self, guest: Guest, protocol: int, path: Path, until: float) -> None:
        """Let every replica know whose the external endpoint is, and whom it has sent to."""
        binding, now = Binding(path.inside, path.inside_port, until), self._clock()
        external = name(protocol, path.outside, path.outside_port)
        self.bindings.add(guest, external, binding, now)
        if self._filtering == "address-dependent":
            self.bindings.add(guest, allowed(external, path.remote), binding, now)

    def lets_in(self, guest: Guest, protocol: int, path: Path) -> bool:
        """Whether a remote may send that this session's host has not sent to yet."""
        if self._filtering != "address-dependent":
            return self._filtering == "endpoint-independent"
        permission = allowed(name(protocol, path.outside, path.outside_port), path.remote)
        return self.bindings.find(guest, permission, self._clock()) is not None

    def has_answered(self, guest: Guest, syn: Parsed, port: int) -> bool:
        """Whether the host that a SYN from outside was for has sent to its sender, or to anybody if that is enough."""
        external = name(syn.protocol, syn.destination, port)
        wanted = allowed(external, syn.source) if self._filtering == "address-dependent" else external
        return self.bindings.find(guest, wanted, self._clock()) is not None

    def owner(self, guest: Guest, protocol: int, outside: bytes, port: int) -> Binding:
        """Who has an external endpoint. :raises Untranslatable: ``no_binding``."""
        binding = self.bindings.find(guest, name(protocol, outside, port), self._clock()) if self.independent else None
        if binding is None:
            raise Untranslatable("no_binding")
        return binding

    def bound(self, guest: Guest, protocol: int, outside: bytes, port: int, remote: bytes, remote_port: int) -> Path:
        """What a binding makes of a packet from or to a remote. :raises Untranslatable: ``no_binding``."""
        binding = self.owner(guest, protocol, outside, port)
        return Path(binding.inside, binding.inside_port, outside, port, remote, remote_port, protocol == ICMP)

    def bound_inside(
        self, guest: Guest, protocol: int, inside: tuple[bytes, int], remote: bytes, remote_port: int
    ) -> Path | None:
        """The same of a packet from or to a host inside; None if nothing is bound for it."""
        protocol = IN_IPV4.get(protocol, protocol)
        for asked in (False, True):
            if asked and not self.bindings.pull(guest):
                break
            for outside, port in candidates(self._secret, protocol, *inside, self._pool, self._ports):
                binding = self.bindings.known(guest, name(protocol, outside, port), self._clock())
                if binding is not None and (binding.inside, binding.inside_port) == inside:
                    return Path(*inside, outside, port, remote, remote_port, protocol == ICMP)
        return None
