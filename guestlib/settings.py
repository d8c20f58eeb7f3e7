"""A middlebox's own configuration: what it was given, what of that its setup asked for, and how a type checks it.

Two ways lead to it. `configure` takes all of it at once into a msgspec Struct, and refuses what the Struct has no field
for. Or it is read as the dict that it is; then nobody but the reader knows which keys there are, so `Settings` notes
those that were asked for, and the rest can be named before a packet comes (`Guest.unread`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from splitmerge.errors import BadInput

if TYPE_CHECKING:  # typing has no public names of these
    from _collections_abc import dict_items, dict_keys, dict_values

T = TypeVar("T", bound=msgspec.Struct)


def configure(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """The configuration that these values make; a field that is not given has its default.

    What is nested in ``kind`` refuses unknown fields if it was declared with ``forbid_unknown_fields``.
    :raises BadInput: an unknown or missing field, a wrong type, a value out of bounds; with the fields that there are.
    """
    fields = [field.encode_name for field in msgspec.structs.fields(kind)]
    remedy = f"fields: {', '.join(fields)}" if fields else "it has no fields"
    given = dict(values)
    if unknown := sorted(map(str, given.keys() - set(fields))):
        raise BadInput(where, f"no such field: {', '.join(unknown)}", remedy)
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise BadInput(where, str(error), remedy) from None


class Settings(dict[str, Any]):
    """A dict that knows which of its keys were asked for by name; whoever goes through it has asked for all."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._asked: set[str] = set()

    def unread(self) -> tuple[str, ...]:
        """Keys that nobody has asked for.

        None of them if no key was asked for by name: C code (`msgspec.convert`) reads a dict without being seen to.
        """
        return tuple(sorted(super().keys() - self._asked)) if self._asked else ()

    def __getitem__(self, key: str) -> Any:
        self._asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._asked.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._asked.add(key)
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        self._asked.add(key)
        return super().pop(key, *default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        self._asked.add(key)
        return super().setdefault(key, default)

    def __iter__(self) -> Iterator[str]:
        self._asked.update(super().keys())
        return super().__iter__()

    def keys(self) -> dict_keys[str, Any]:
        self._asked.update(super().keys())
        return super().keys()

    def values(self) -> dict_values[str, Any]:
        self._asked.update(super().keys())
        return super().values()

    def items(self) -> dict_items[str, Any]:
        self._asked.update(super().keys())
        return super().items()
