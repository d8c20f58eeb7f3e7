"""The packet replication engine: multicast groups and clone sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from finsy.proto import p4r

from p4switch.p4runtime.bytestrings import decode, encode
from p4switch.p4runtime.entities.base import DELETE, INSERT, Context, Undo, unsupported
from p4switch.p4runtime.status import Code, Refused, invalid
from p4switch.runtime import CloneSession, MulticastGroup, Replica

_LARGEST_STRICT = 32767
_LARGEST_INSTANCE = 0xFFFF


class ReplicationEngine:
    """`Handler` of both."""

    def __init__(self, context: Context) -> None:
        self._multicast = context.state.multicast
        self._sessions = context.state.clone_sessions
        self._strict = context.strict
        self._old_ports: set[tuple[str, int]] = set()
        """Groups and sessions whose client wrote the deprecated ``egress_port``: read back as written."""

    def write(self, kind: int, entity: p4r.PacketReplicationEngineEntry) -> Undo:
        """As `Handler.write`."""
        match entity.WhichOneof("type"):
            case "multicast_group_entry":
                return self._write_group(kind, entity.multicast_group_entry)
            case "clone_session_entry":
                return self._write_session(kind, entity.clone_session_entry)
        raise invalid("packet replication entry: neither a multicast group nor a clone session")

    def _write_group(self, kind: int, entry: p4r.MulticastGroupEntry) -> Undo:
        number = int(entry.multicast_group_id)
        self._check_number(number, "multicast group")
        groups, before = self._multicast, self._multicast.get(number)
        self._note_form("multicast group", number, entry.replicas)
        if kind == DELETE:
            groups.delete(number)
            assert before is not None
            return lambda: groups.insert(number, before)
        group = MulticastGroup(self._replicas(entry.replicas, f"multicast group {number}"), entry.metadata)
        if kind == INSERT:
            groups.insert(number, group)
            return lambda: groups.delete(number)
        groups.modify(number, group)
        assert before is not None
        return lambda: groups.modify(number, before)

    def _write_session(self, kind: int, entry: p4r.CloneSessionEntry) -> Undo:
        number = int(entry.session_id)
        self._check_number(number, "clone session")
        sessions, before = self._sessions, self._sessions.get(number)
        self._note_form("clone session", number, entry.replicas)
        if kind == DELETE:
            sessions.delete(number)
            assert before is not None
            return lambda: sessions.insert(number, before)
        session = self._session(entry)
        if kind == INSERT:
            sessions.insert(number, session)
            return lambda: sessions.delete(number)
        sessions.modify(number, session)
        assert before is not None
        return lambda: sessions.modify(number, before)

    def _session(self, entry: p4r.CloneSessionEntry) -> CloneSession:
        what = f"clone session {entry.session_id}"
        if entry.packet_length_bytes < 0:
            raise invalid(f"{what}: packet_length_bytes {entry.packet_length_bytes} is negative")
        if self._strict and entry.class_of_service:
            raise unsupported(f"{what}: class_of_service (--bmv2-strict)")
        if self._strict and entry.packet_length_bytes:
            message = f"{what}: Error when creating clone session in target: packet_length_bytes (--bmv2-strict)"
            raise Refused(Code.UNKNOWN, message)
        replicas = self._replicas(entry.replicas, what)
        return CloneSession(replicas, entry.class_of_service, entry.packet_length_bytes)

    def _note_form(self, what: str, number: int, replicas: Sequence[p4r.Replica]) -> None:
        if replicas and all(item.WhichOneof("port_kind") == "egress_port" for item in replicas):
            self._old_ports.add((what, number))
        elif replicas:
            self._old_ports.discard((what, number))

    def _check_number(self, number: int, what: str) -> None:
        if number == 0:
            raise invalid(f"{what} 0: 0 is not a number of one")
        largest = _LARGEST_STRICT if self._strict else self._multicast.LARGEST
        if number > largest:
            strict = Code.OUT_OF_RANGE if what == "multicast group" else Code.INVALID_ARGUMENT
            raise Refused(Code.OUT_OF_RANGE, f"{what} {number}: the largest is {largest}", strict)

    def _replicas(self, replicas: Iterable[p4r.Replica], what: str) -> tuple[Replica, ...]:
        found = []
        for item in replicas:
            if item.backup_replicas:
                raise unsupported(f"{what}: backup replicas")
            if item.instance > _LARGEST_INSTANCE:
                raise invalid(f"{what}: instance {item.instance}; egress_rid has 16 bits")
            found.append(Replica(_port(item, what), item.instance))
        if len(set(found)) != len(found):
            raise invalid(f"{what}: two replicas have the same port and instance")
        return tuple(found)

    def read(self, entity: p4r.PacketReplicationEngineEntry) -> Iterator[p4r.Entity]:
        """As `Handler.read`. Number 0: all groups, or all sessions."""
        match entity.WhichOneof("type"):
            case "multicast_group_entry":
                wanted = entity.multicast_group_entry.multicast_group_id
                groups = [(n, group) for n, group in self._multicast.items() if wanted in (0, n)]
                self._check_found(bool(groups), wanted)
                return self._groups(groups)
            case "clone_session_entry":
                wanted = entity.clone_session_entry.session_id
                sessions = [(n, it) for n, it in self._sessions.items() if wanted in (0, n)]
                self._check_found(bool(sessions), wanted)
                return self._sessions_read(sessions)
        raise invalid("packet replication entry: neither a multicast group nor a clone session")

    def _check_found(self, found: bool, wanted: int) -> None:
        """simple_switch_grpc answers NOT_FOUND where the specification has an empty response."""
        if self._strict and wanted and not found:
            raise Refused(Code.NOT_FOUND, f"there is no {wanted} (--bmv2-strict)")

    def _fill(
        self,
        what: str,
        number: int,
        replicas: tuple[Replica, ...],
        into: p4r.MulticastGroupEntry | p4r.CloneSessionEntry,
    ) -> None:
        old = (what, number) in self._old_ports
        for replica in replicas:
            item = into.replicas.add(instance=replica.instance)
            if old:
                item.egress_port = replica.port
            else:
                item.port = encode(replica.port)

    def _groups(self, found: list[tuple[int, MulticastGroup]]) -> Iterator[p4r.Entity]:
        for number, group in found:
            answer = p4r.Entity()
            item = answer.packet_replication_engine_entry.multicast_group_entry
            item.multicast_group_id, item.metadata = number, group.metadata
            self._fill("multicast group", number, group.replicas, item)
            yield answer

    def _sessions_read(self, found: list[tuple[int, CloneSession]]) -> Iterator[p4r.Entity]:
        for number, session in found:
            answer = p4r.Entity()
            item = answer.packet_replication_engine_entry.clone_session_entry
            item.session_id, item.class_of_service = number, session.class_of_service
            item.packet_length_bytes = session.packet_length
            self._fill("clone session", number, session.replicas, item)
            yield answer


def _port(item: p4r.Replica, what: str) -> int:
    match item.WhichOneof("port_kind"):
        case "port":
            return decode(item.port, 32, f"{what}, port")
        case "egress_port":
            return int(item.egress_port)
    raise invalid(f"{what}: a replica without port")
