"""Who may change the switch: P4Runtime's client arbitration as a sans-IO core.

Rules of section "Client Arbitration and Controller Replication" of the specification, for one device:

* A stream joins a role with its first arbitration message; role and device may not change afterwards.
* The primary of a role is the live stream whose election id equals the highest that the role has *ever* seen.
  When the primary leaves or lowers its id there is none, until a client sends that id or a higher one.
* A stream without election id is a backup for ever.
* Every change of primary, and every new role configuration, is told to all streams of the role, the new primary last.

``strict`` has simple_switch_grpc's rules instead: no roles, the highest *connected* id is primary, so the next one is
promoted when the primary leaves; with no stream at all, writes without an election id pass (PI's device_mgr.cpp).

No clock, no socket: `Arbitration.handle` takes an event and gives the instructions to carry out, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from p4switch.p4runtime.status import Code, Refused

MAX_STREAMS = 16
"""Live streams of one role; simple_switch_grpc's limit for a device."""
DEFAULT_ROLE = ""


@dataclass(frozen=True, slots=True)
class Update:
    """A client's arbitration message. ``election_id`` is 128 bits, None if unset; ``role_config`` a serialised Any."""

    stream: int
    device_id: int
    role: str = DEFAULT_ROLE
    election_id: int | None = None
    role_config: bytes | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """The stream ended, for whatever reason. Unknown streams are ignored."""

    stream: int


Event: TypeAlias = Update | Closed


@dataclass(frozen=True, slots=True)
class Notify:
    """Send an arbitration message. ``election_id``: the highest that the role has seen, None if there was none."""

    stream: int
    role: str
    role_config: bytes | None
    election_id: int | None
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """End the stream with this status."""

    stream: int
    code: Code
    message: str


Instruction: TypeAlias = Notify | Terminate


@dataclass(slots=True)
class _Role:
    highest: int | None = None
    config: bytes | None = None
    primary: int | None = None
    members: dict[int, int | None] = field(default_factory=dict)
    """Live streams with their election ids, in order of arrival."""
    since: float = 0.0


class Arbitration:
    """The arbitration of one device."""

    def __init__(self, device_id: int, *, strict: bool = False, max_streams: int = MAX_STREAMS) -> None:
        self.device_id = device_id
        self._strict = strict
        self._max_streams = max_streams
        self._roles: dict[str, _Role] = {DEFAULT_ROLE: _Role()}
        self._role_of: dict[int, str] = {}

    # -- events ------------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """What to do about ``event`` at ``now`` (seconds, any origin)."""
        match event:
            case Update():
                return self._update(event, now)
            case Closed(stream):
                return self._closed(stream, now)

    def _update(self, update: Update, now: float) -> list[Instruction]:
        role_name = DEFAULT_ROLE if self._strict else update.role
        problem = self._problem(update, role_name)
        if problem is not None:
            return [Terminate(update.stream, *problem)]
        role = self._roles.setdefault(role_name, _Role())
        self._role_of[update.stream] = role_name
        role.members[update.stream] = update.election_id
        return self._elect(role_name, role, update, now)

    def _problem(self, update: Update, role_name: str) -> tuple[Code, str] | None:
        """Why the stream must end, or None."""
        known = self._role_of.get(update.stream)
        if update.device_id != self.device_id:
            code = Code.NOT_FOUND if known is None else Code.FAILED_PRECONDITION
            return code, f"device id {update.device_id}: this switch is device {self.device_id} (--device-id)"
        if known is not None and known != role_name:
            return Code.FAILED_PRECONDITION, f"the stream has role {known!r}; open another for role {role_name!r}"
        role = self._roles.get(role_name)
        if role is None:
            return None
        if update.election_id is not None and any(
            stream != update.stream and used == update.election_id for stream, used in role.members.items()
        ):
            return Code.INVALID_ARGUMENT, f"election id {update.election_id} is in use by another live client"
        if known is None and len(role.members) >= self._max_streams:
            return Code.RESOURCE_EXHAUSTED, f"too many connections: {self._max_streams} are open"
        return None

    def _elect(self, name: str, role: _Role, update: Update, now: float) -> list[Instruction]:
        stream, election_id = update.stream, update.election_id
        was_primary = role.primary == stream
        if self._strict:
            return self._elect_connected(name, role, stream, now)
        if election_id is not None and (role.highest is None or election_id >= role.highest):
            role.highest, role.primary, role.config = election_id, stream, update.role_config
            role.since = now
            return self._tell_all(name, role)
        if was_primary:
            role.primary = None
            return self._tell_all(name, role)
        return [self._notice(name, role, stream)]

    def _elect_connected(self, name: str, role: _Role, stream: int | None, now: float) -> list[Instruction]:
        """simple_switch_grpc's rule. ``stream`` asked; None if one left."""
        before = role.primary
        ids = {member: used for member, used in role.members.items() if used is not None}
        role.primary = max(ids, key=lambda member: ids[member]) if ids else None
        role.highest = ids[role.primary] if role.primary is not None else None
        if role.primary != before or role.primary == stream:
            role.since = now
            return self._tell_all(name, role)
        return [] if stream is None else [self._notice(name, role, stream)]

    def _closed(self, stream: int, now: float) -> list[Instruction]:
        name = self._role_of.pop(stream, None)
        if name is None:
            return []
        role = self._roles[name]
        del role.members[stream]
        if role.primary != stream:
            return []
        role.primary = None
        if self._strict:
            return self._elect_connected(name, role, None, now)
        return self._tell_all(name, role)

    def _tell_all(self, name: str, role: _Role) -> list[Instruction]:
        others: list[Instruction] = [
            self._notice(name, role, stream) for stream in role.members if stream != role.primary
        ]
        if role.primary is not None:
            others.append(self._notice(name, role, role.primary))
        return others

    @staticmethod
    def _notice(name: str, role: _Role, stream: int) -> Notify:
        if role.primary is None:
            code, message = Code.NOT_FOUND, "There is no primary"
        elif role.primary == stream:
            code, message = Code.OK, "Is primary"
        else:
            code, message = Code.ALREADY_EXISTS, "Is backup"
        return Notify(stream, name, role.config, role.highest, code, message)

    # -- questions ---------------------------------------------------------------------------------------------------

    def check_write(self, device_id: int, role_name: str, election_id: int | None) -> None:
        """Whether a Write or SetForwardingPipelineConfig with these values comes from a primary.

        :raises Refused: NOT_FOUND for an unknown device or role, PERMISSION_DENIED if it does not.
        """
        self.check_device(device_id)
        role = self._roles.get(DEFAULT_ROLE if self._strict else role_name)
        if role is None:
            raise Refused(Code.NOT_FOUND, f"no client has claimed role {role_name!r}")
        if self._strict and not role.members and election_id is None:
            return
        if role.primary is None:
            raise Refused(Code.PERMISSION_DENIED, "Not primary: there is none; open a stream and send an election id")
        if election_id != role.highest:
            shown = "unset" if election_id is None else str(election_id)
            raise Refused(Code.PERMISSION_DENIED, f"Not primary: election id {shown}, the primary's is {role.highest}")

    def check_device(self, device_id: int) -> None:
        """:raises Refused: NOT_FOUND if this is another device."""
        if device_id != self.device_id:
            message = f"device id {device_id}: this switch is device {self.device_id} (--device-id)"
            raise Refused(Code.NOT_FOUND, message)

    def is_primary(self, stream: int) -> bool:
        """Whether the stream is its role's primary."""
        name = self._role_of.get(stream)
        return name is not None and self._roles[name].primary == stream

    def primaries(self) -> list[int]:
        """The primary streams of all roles."""
        return [role.primary for role in self._roles.values() if role.primary is not None]

    def has_role(self, role_name: str) -> bool:
        """Whether a client ever claimed the role; the default role always exists."""
        return role_name in self._roles

    def validate_state(self) -> None:
        """Assert what must always hold."""
        for name, role in self._roles.items():
            ids = [used for used in role.members.values() if used is not None]
            assert len(ids) == len(set(ids)), f"election ids of role {name!r} are not unique: {ids}"
            assert all(self._role_of[stream] == name for stream in role.members)
            if role.primary is not None:
                assert role.members[role.primary] == role.highest
            if ids and not self._strict:
                assert role.highest is not None and max(ids) <= role.highest
        assert set(self._role_of) == {stream for role in self._roles.values() for stream in role.members}
