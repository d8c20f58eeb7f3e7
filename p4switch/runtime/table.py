"""A table's entries: what the control plane inserts and the data plane looks up."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import TypeAlias

from p4switch import ir
from p4switch.errors import BadEntry, ConstError, DuplicateEntry, NoSuchEntry, SwitchError, TableFull
from p4switch.ir import Key, MatchKind
from p4switch.runtime.actions import ActionCall, EntryAction
from p4switch.runtime.match import FieldMatch, Found, Match, Matcher, make_matcher
from p4switch.runtime.meters import Meter
from p4switch.runtime.profiles import ActionProfile

_PRIORITY_KINDS = frozenset({MatchKind.TERNARY, MatchKind.RANGE, MatchKind.OPTIONAL})
_NO_ACTION = -1
_NOTHING = ActionCall("")

Change: TypeAlias = Callable[[Sequence[Match]], Mapping[int, SwitchError]]
"""Changes entries that differ in their match only, in order; the errors of those it refused, by position."""


class Entry:
    """An entry. Only its table changes ``action``; counters and ``meter`` are the holder's of the device's lock to set.

    ``action_id`` and ``args`` are ``action`` made ready for the back end (-1 where the table is indirect).
    ``last_hit_us`` is the device's clock at the last hit, at first at insertion; kept only if the table has
    ``support_timeout``. ``idle_timeout_us`` 0 means never. ``meter`` exists where the table has a direct meter.
    """

    __slots__ = (
        "action",
        "action_id",
        "args",
        "bytes",
        "const",
        "idle_timeout_us",
        "last_hit_us",
        "match",
        "metadata",
        "meter",
        "packets",
        "priority",
        "reported_us",
    )

    def __init__(self, match: Match, priority: int, metadata: bytes, now_us: int) -> None:
        self.match = match
        self.priority = priority
        self.metadata = metadata
        self.action: EntryAction = _NOTHING
        self.action_id = _NO_ACTION
        self.args: tuple[int, ...] = ()
        self.packets = 0
        self.bytes = 0
        self.meter: Meter | None = None
        self.idle_timeout_us = 0
        self.last_hit_us = now_us
        self.reported_us = 0
        self.const = False

    def idle_since_us(self) -> int:
        """From when the idle timeout runs: the last hit, or the last report if that was later."""
        return max(self.last_hit_us, self.reported_us)


class Table:
    """Entries of one table of the program. Every change either succeeds whole or raises and changes nothing.

    A match is a tuple with one item for each of ``spec.keys``, in order: exact: the value; lpm: (value, prefix length);
    ternary: (value, mask); range: (low, high); optional: the value or None. Don't-care is (0, 0),
    (0, largest) or None.
    ``priority`` is above 0 where a key is ternary, range or optional (larger wins), else 0.
    """

    def __init__(
        self, spec: ir.Table, actions: Mapping[int, ir.Action], profile: ActionProfile | None, clock: Callable[[], int]
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.profile = profile
        self.actions: Mapping[str, ir.Action] = {actions[i].name: actions[i] for i in spec.action_ids}
        """The table's actions by name."""
        self.needs_priority = any(key.kind in _PRIORITY_KINDS for key in spec.keys)
        self._clock = clock
        self._entries: dict[tuple[Match, int], Entry] = {}
        self._matcher: Matcher[Entry] = self._make_matcher()
        self.find: Callable[[Found], Entry | None] = self._matcher.find
        """The entry for a packet's key values (the bare number where there is one key); None is a miss."""
        self._deadlines: list[tuple[int, int, Entry]] = []
        self._serial = count()
        self._limits = tuple(1 << key.width for key in spec.keys)
        self._all_exact = all(key.kind is MatchKind.EXACT for key in spec.keys)
        self._calls = {
            name: (action.id, tuple(1 << param.width for param in action.params))
            for name, action in self.actions.items()
        }
        self.default: Entry | None = None
        """What a miss does; None: nothing."""
        self._const_entries = spec.const_entries
        self._load()

    def _make_matcher(self) -> Matcher[Entry]:
        """Another back end keeps its entries elsewhere."""
        return make_matcher(self.spec)

    def _load(self) -> None:
        self.reset_default()
        for const in self.spec.entries:
            entry = self._new(const.match, const.priority, b"")  # type: ignore[arg-type]  # checked by _new
            entry.action_id, entry.args = const.action_id, const.args
            entry.action = ActionCall(self._name_of(const.action_id), const.args)
            entry.const = self._const_entries
            self._add(entry)

    def open_entries(self) -> None:
        """Let the entries that the program came with be changed like any others.

        BMv2's JSON does not tell ``entries`` from ``const entries``; P4Info does.
        """
        self._const_entries = False
        for entry in self._entries.values():
            entry.const = False

    def _name_of(self, action_id: int) -> str:
        return next(name for name, action in self.actions.items() if action.id == action_id)

    # -- reading -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> Iterator[Entry]:
        """All entries except the default one, in order of insertion."""
        return iter(self._entries.values())

    def get(self, match: Match, priority: int = 0) -> Entry:
        """:raises NoSuchEntry: there is no entry with this match and priority."""
        entry = self._entries.get((match, priority))
        if entry is None:
            raise NoSuchEntry(self.name, f"no entry matches {match} at priority {priority}")
        return entry

    def choose(self, entry: Entry | None, number: int) -> tuple[int, tuple[int, ...]]:
        """(action id, arguments) of an indirect table's entry for a packet with this selector hash; -1: no action.

        None, a miss, is what the default entry does.
        """
        entry = entry or self.default
        if entry is None:
            return _NO_ACTION, ()
        if self.profile is None or entry.action_id != _NO_ACTION:
            return entry.action_id, entry.args
        action = self.profile.choose(entry.action, number)
        found = None if action is None else self.actions.get(action.name)
        if action is None or found is None:
            return _NO_ACTION, ()
        return found.id, action.args

    # -- changing ----------------------------------------------------------------------------------------------------

    def insert(
        self,
        match: Match,
        action: EntryAction,
        *,
        priority: int = 0,
        idle_timeout_ns: int = 0,
        metadata: bytes = b"",
    ) -> Entry:
        """Add an entry.

        :raises DuplicateEntry: an entry with this match and priority exists.
        :raises TableFull: ``spec.size`` entries are in.
        :raises ConstError: the program fixed the entries.
        :raises BadEntry: match, priority, action, or timeout do not fit the program.
        :raises NoSuchEntry: the profile has no such member or group.
        """
        self._check_writable()
        if (match, priority) in self._entries:
            raise DuplicateEntry(self.name, f"an entry matches {match} at priority {priority}")
        entry = self._new(match, priority, metadata)
        action_id, args = self._resolve(action, default=False)
        timeout_us = self._timeout(idle_timeout_ns) if idle_timeout_ns else 0
        if len(self._entries) >= self.spec.size:
            raise TableFull(self.name, f"{self.spec.size} entries are in")
        entry.action, entry.action_id, entry.args = action, action_id, args
        if self.profile is not None:
            self.profile.refer(action)
        self._add(entry)
        if timeout_us:
            self._set_timeout(entry, timeout_us)
        return entry

    def inserter(self, action: EntryAction, *, idle_timeout_ns: int = 0, metadata: bytes = b"") -> Change:
        """`insert` of priority 0 for many entries that differ in their match only, which must fit the key."""
        return one_by_one(partial(self.insert, action=action, idle_timeout_ns=idle_timeout_ns, metadata=metadata))

    def modify(
        self,
        match: Match,
        action: EntryAction,
        *,
        priority: int = 0,
        idle_timeout_ns: int = 0,
        metadata: bytes = b"",
    ) -> Entry:
        """Give an entry another action, timeout and metadata; counter and meter stay.

        :raises NoSuchEntry: there is none; else as insert.
        """
        entry = self.get(match, priority)
        self._check_const(entry)
        action_id, args = self._resolve(action, default=False)
        timeout_us = self._timeout(idle_timeout_ns)
        if self.profile is not None:
            self.profile.refer(action)
            self.profile.release(entry.action)
        entry.action, entry.action_id, entry.args = action, action_id, args
        entry.metadata = metadata
        entry.last_hit_us = self._clock()
        self._set_timeout(entry, timeout_us)
        return entry

    def modifier(self, action: EntryAction, *, idle_timeout_ns: int = 0, metadata: bytes = b"") -> Change:
        """`modify` of priority 0 for many entries that differ in their match only."""
        return one_by_one(partial(self.modify, action=action, idle_timeout_ns=idle_timeout_ns, metadata=metadata))

    def delete(self, match: Match, priority: int = 0) -> Entry:
        """Remove an entry and return it.

        :raises NoSuchEntry: there is none.
        :raises ConstError: the program fixed it.
        """
        entry = self.get(match, priority)
        self._check_const(entry)
        del self._entries[match, priority]
        self._matcher.remove(entry)
        if self.profile is not None:
            self.profile.release(entry.action)
        entry.idle_timeout_us = 0
        return entry

    def deleter(self, priority: int = 0) -> Change:
        """`delete` for many entries."""
        return one_by_one(partial(self.delete, priority=priority))

    def clear(self) -> None:
        """Remove all entries that are not const."""
        for match, priority in [key for key, entry in self._entries.items() if not entry.const]:
            self.delete(match, priority)

    def set_default(self, action: ActionCall, metadata: bytes = b"") -> Entry:
        """Set what a miss does.

        :raises ConstError: the program fixed it.
        :raises BadEntry: the action does not fit, or the table is indirect.
        """
        spec = self.spec.default
        if spec is not None and spec.const_action:
            raise ConstError(self.name, "the default action is const")
        if self.profile is not None:
            raise BadEntry(self.name, "an indirect table has no default entry of the control plane")
        action_id, args = self._resolve(action, default=True)
        entry = Entry((), 0, metadata, self._clock())
        entry.action, entry.action_id, entry.args = action, action_id, args
        self.default = entry
        return entry

    def reset_default(self) -> None:
        """Back to the default entry of the program."""
        spec = self.spec.default
        if spec is None:
            self.default = None
            return
        entry = Entry((), 0, b"", self._clock())
        entry.action_id, entry.args = spec.action_id, spec.args
        entry.action = ActionCall(self._name_of(spec.action_id), spec.args)
        entry.const = spec.const_action
        self.default = entry

    # -- idle timeouts -----------------------------------------------------------------------------------------------

    def expired(self, now_us: int) -> list[Entry]:
        """Entries that were idle for their timeout, each reported again after another timeout without a hit.

        The cost is that of the entries whose deadline came, not of all.
        """
        found: list[Entry] = []
        while self._deadlines and self._deadlines[0][0] <= now_us:
            deadline, _, entry = heapq.heappop(self._deadlines)
            if not entry.idle_timeout_us or self._entries.get((entry.match, entry.priority)) is not entry:
                continue
            if entry.idle_since_us() + entry.idle_timeout_us > deadline:
                self._push_deadline(entry)
                continue
            entry.reported_us = now_us
            found.append(entry)
            self._push_deadline(entry)
        return found

    def next_deadline_us(self) -> int | None:
        """When ``expired`` may have something to say; None: never as things are."""
        return self._deadlines[0][0] if self._deadlines else None

    def _set_timeout(self, entry: Entry, timeout_us: int) -> None:
        if timeout_us == entry.idle_timeout_us:
            return
        entry.idle_timeout_us = timeout_us
        if timeout_us:
            self._push_deadline(entry)

    def _push_deadline(self, entry: Entry) -> None:
        heapq.heappush(self._deadlines, (entry.idle_since_us() + entry.idle_timeout_us, next(self._serial), entry))

    def _timeout(self, idle_timeout_ns: int) -> int:
        if idle_timeout_ns == 0:
            return 0
        if not self.spec.support_timeout:
            raise BadEntry(self.name, "the table has no idle timeouts (support_timeout)")
        if idle_timeout_ns < 0:
            raise BadEntry(self.name, "an idle timeout is not negative")
        return max(1, idle_timeout_ns // 1000)

    # -- checks ------------------------------------------------------------------------------------------------------

    def _check_writable(self) -> None:
        if self._const_entries:
            raise ConstError(self.name, "the entries are const")
        if not self.spec.keys:
            raise BadEntry(self.name, "the table has no key, so it has only a default entry")

    def _check_const(self, entry: Entry) -> None:
        if entry.const:
            raise ConstError(self.name, "the entry is const")

    def _new(self, match: Match, priority: int, metadata: bytes) -> Entry:
        self._check_match(match)
        if self.needs_priority and priority <= 0:
            raise BadEntry(self.name, "a priority above 0 is needed, as a key is ternary, range or optional")
        if not self.needs_priority and priority != 0:
            raise BadEntry(self.name, "the priority must be 0, as no key is ternary, range or optional")
        return self._make_entry(match, priority, metadata)

    def _make_entry(self, match: Match, priority: int, metadata: bytes) -> Entry:
        """Another back end has entries of its own."""
        return Entry(match, priority, metadata, self._clock())

    def _check_match(self, match: Match) -> None:
        if len(match) != len(self._limits):
            raise BadEntry(self.name, f"{len(match)} match fields instead of {len(self._limits)}")
        if self._all_exact:
            self._check_exact(match)
            return
        for value, key in zip(match, self.spec.keys, strict=True):
            _check_field(f"{self.name}.{key.name}", key, value)

    def _check_exact(self, match: Match) -> None:
        for position, value in enumerate(match):
            if value.__class__ is not int or not 0 <= value < self._limits[position]:
                key = self.spec.keys[position]
                raise BadEntry(f"{self.name}.{key.name}", f"{value!r} is no number of {key.width} bits")

    def _resolve(self, action: EntryAction, *, default: bool) -> tuple[int, tuple[int, ...]]:
        if not isinstance(action, ActionCall):
            if self.profile is None or default:
                raise BadEntry(self.name, "the table has no action profile: give an action")
            self.profile.check(action)
            return _NO_ACTION, ()
        if self.profile is not None and not default:
            self.profile.check(action)
        found = self._calls.get(action.name)
        if found is None:
            raise BadEntry(self.name, f"action {action.name} is not one of the table's")
        if not args_fit(action.args, found[1]):
            check_args(self.name, self.actions[action.name], action.args)
        return found[0], action.args

    def _add(self, entry: Entry) -> None:
        if self.spec.direct_meter is not None:
            entry.meter = Meter()
        self._entries[entry.match, entry.priority] = entry
        self._matcher.add(entry)


def one_by_one(change: Callable[[Match], object]) -> Change:
    """What ``change`` does, for each match; an error of the switch's own keeps none of the others from it."""

    def change_all(matches: Sequence[Match]) -> dict[int, SwitchError]:
        refused = {}
        for position, match in enumerate(matches):
            try:
                change(match)
            except SwitchError as error:
                refused[position] = error
        return refused

    return change_all


def args_fit(args: tuple[int, ...], limits: tuple[int, ...]) -> bool:
    """Whether number and widths of arguments are right; a quick look before ``check_args`` says what is wrong."""
    return len(args) == len(limits) and all(0 <= value < limit for value, limit in zip(args, limits, strict=True))


def check_args(where: str, action: ir.Action, args: tuple[int, ...]) -> None:
    """:raises BadEntry: number or width of the arguments does not fit the action."""
    if len(args) != len(action.params):
        raise BadEntry(where, f"{action.name} takes {len(action.params)} arguments, not {len(args)}")
    for value, param in zip(args, action.params, strict=True):
        if not 0 <= value < 1 << param.width:
            raise BadEntry(where, f"{action.name}: {param.name} = {value:#x} does not fit {param.width} bits")


def _check_field(where: str, key: Key, match: FieldMatch) -> None:
    limit = 1 << key.width
    match key.kind, match:
        case MatchKind.OPTIONAL, None:
            return
        case ((MatchKind.EXACT | MatchKind.OPTIONAL), int(value)) if 0 <= value < limit:
            return
        case MatchKind.LPM, (int(value), int(length)) if 0 <= length <= key.width and 0 <= value < limit:
            if value & (limit - 1) >> length:
                raise BadEntry(where, f"{value:#x} has bits below its prefix of {length}")
            return
        case MatchKind.TERNARY, (int(value), int(mask)) if 0 <= value < limit and 0 <= mask < limit:
            if value & ~mask:
                raise BadEntry(where, f"{value:#x} has bits outside of its mask {mask:#x}")
            return
        case MatchKind.RANGE, (int(low), int(high)) if 0 <= low <= high < limit:
            return
    raise BadEntry(where, f"{match!r} is no {key.kind} match of {key.width} bits")
