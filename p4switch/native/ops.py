"""Commands through which Python changes what generated code reads."""

from enum import IntEnum

COMMAND_WORDS = 4


class Op(IntEnum):
    """First of a command's four words of 64 bits; the others follow."""

    ADD = 1  # table, entry
    REMOVE = 2  # table, entry
    COPY = 3  # to, from, bytes: region offsets
    POKE = 4  # region offset, value
