"""Configuration of a middlebox: a msgspec Struct, read once before the snapshot (internal state)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from splitmerge.errors import BadInput

T = TypeVar("T", bound=msgspec.Struct)


def configure(kind: type[T], values: Mapping[str, object], middlebox: str) -> T:
    """The configuration that these fields make; missing ones have their defaults.

    :raises BadInput: for an unknown field, a wrong type or a value out of bounds, with the fields that there are.
    """
    try:
        return msgspec.convert(dict(values), kind)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.__struct_fields__)
        raise BadInput(f"middlebox {middlebox}", str(error), f"fields: {known}") from None


def address_of(text: str, where: str) -> bytes:
    """The 4 or 16 bytes of an address. :raises BadInput: naming ``where``."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError as error:
        raise BadInput(where, str(error), "write an address like 10.0.2.1 or fd00:2::1") from None
