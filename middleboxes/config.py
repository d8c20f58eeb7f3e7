"""What configurations of middleboxes are made of, beside their msgspec Structs."""

from __future__ import annotations

import ipaddress

from splitmerge.errors import BadInput


def address_of(text: str, where: str) -> bytes:
    """The 4 or 16 bytes of an address. :raises BadInput: naming ``where``."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError as error:
        raise BadInput(where, str(error), "write an address like 10.0.2.1 or fd00:2::1") from None
