"""The packet replication engine: multicast groups and clone sessions."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from p4switch.errors import BadEntry, DuplicateEntry, NoSuchEntry


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy: the port, and the number that the program sees as egress_rid."""

    port: int
    instance: int = 0


@dataclass(frozen=True, slots=True)
class MulticastGroup:
    """Copies in the order in which they are sent; ``metadata`` belongs to the control plane."""

    replicas: tuple[Replica, ...]
    metadata: bytes = b""


@dataclass(frozen=True, slots=True)
class CloneSession:
    """``packet_length`` bytes of the copy are sent, 0 means all; ``class_of_service`` is its queue."""

    replicas: tuple[Replica, ...]
    class_of_service: int = 0
    packet_length: int = 0
    metadata: bytes = b""


T = TypeVar("T", bound=MulticastGroup | CloneSession)


class Replicas(Mapping[int, T], Generic[T]):
    """Multicast groups, or clone sessions, by their number (1..65535)."""

    LARGEST = 0xFFFF

    def __init__(self, what: str) -> None:
        self._what = what
        self._sets: dict[int, T] = {}
        self.find: Callable[[int], T | None] = self._sets.get

    def __getitem__(self, number: int) -> T:
        return self._sets[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._sets)

    def __len__(self) -> int:
        return len(self._sets)

    def insert(self, number: int, value: T) -> None:
        """:raises DuplicateEntry: the number is taken.
        :raises BadEntry: the number or a replica is out of range, or a replica is there twice."""
        self._check(number, value)
        if number in self._sets:
            raise DuplicateEntry(self._what, f"{number} exists")
        self._sets[number] = value

    def modify(self, number: int, value: T) -> None:
        """:raises NoSuchEntry: there is none; also as insert."""
        self._check(number, value)
        self._must_exist(number)
        self._sets[number] = value

    def delete(self, number: int) -> None:
        """:raises NoSuchEntry: there is none."""
        self._must_exist(number)
        del self._sets[number]

    def clear(self) -> None:
        """Delete all."""
        self._sets.clear()

    def _must_exist(self, number: int) -> None:
        if number not in self._sets:
            raise NoSuchEntry(self._what, f"{number} does not exist")

    def _check(self, number: int, value: T) -> None:
        if not 1 <= number <= self.LARGEST:
            raise BadEntry(self._what, f"{number} is outside of 1..{self.LARGEST}")
        if len(set(value.replicas)) != len(value.replicas):
            raise BadEntry(f"{self._what} {number}", "two replicas have the same port and instance")
        for replica in value.replicas:
            if not (0 <= replica.port < 1 << 32 and 0 <= replica.instance <= 0xFFFF):
                raise BadEntry(f"{self._what} {number}", f"port {replica.port} or instance {replica.instance}")
