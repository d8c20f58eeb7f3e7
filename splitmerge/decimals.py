"""Numbers that others wrote, in decimal digits."""

from __future__ import annotations


def decimal(text: str, most: int) -> int | None:
    """The number, if it is one of at most ``most`` in digits of ASCII; else None.

    However long the text is: ``int`` raises for more than 4,300 digits, and takes other alphabets' digits too.
    """
    if not text.isascii() or not text.isdecimal():
        return None
    digits = text.lstrip("0")
    if len(digits) > len(str(most)):
        return None
    number = int(digits or "0")
    return number if number <= most else None
