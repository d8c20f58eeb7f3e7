"""What generated code calls where an operation has corner cases."""

import logging

logger = logging.getLogger("p4switch.program")

LARGEST_SHIFT = 1 << 17
"""Left shifts by more give 0, as every field is narrower."""


class AssertionFailed(Exception):
    """An assert or assume of the program was false; the packet ends here."""


def element(index: int, base: int, stride: int, count: int, otherwise: int) -> int:
    """First slot of a stack's element; ``otherwise`` where there is none."""
    return base + index * stride if 0 <= index < count else otherwise


def shift_left(value: int, amount: int) -> int:
    """``value << amount``; 0 for an amount below 0 or beyond all fields."""
    return value << amount if 0 <= amount <= LARGEST_SHIFT else 0


def shift_right(value: int, amount: int) -> int:
    """``value >> amount``; 0 for an amount below 0."""
    return value >> min(amount, LARGEST_SHIFT) if amount >= 0 else 0


def divide(value: int, divisor: int) -> int:
    """Integer division towards zero; 0 for division by 0."""
    if not divisor:
        return 0
    quotient = abs(value) // abs(divisor)
    return quotient if (value < 0) == (divisor < 0) else -quotient


def modulo(value: int, divisor: int) -> int:
    """Remainder of ``divide``; 0 for division by 0."""
    return value - divisor * divide(value, divisor) if divisor else 0


def two_comp_mod(value: int, width: int) -> int:
    """``value`` as a signed number of ``width`` bits."""
    if not 0 < width <= LARGEST_SHIFT:
        return 0
    half = 1 << (width - 1)
    return ((value + half) & ((half << 1) - 1)) - half


def clamp(value: int, low: int, high: int) -> int:
    """``value``, at least ``low`` and at most ``high``."""
    return low if value < low else high if value > high else value


def usat_cast(value: int, width: int) -> int:
    """``value`` saturated to ``width`` unsigned bits."""
    return clamp(value, 0, (1 << width) - 1) if 0 <= width <= LARGEST_SHIFT else 0


def sat_cast(value: int, width: int) -> int:
    """``value`` saturated to ``width`` signed bits."""
    if not 0 < width <= LARGEST_SHIFT:
        return 0
    half = 1 << (width - 1)
    return clamp(value, -half, half - 1)


def push_front(f: list[int], base: int, stride: int, count: int, following: int, amount: int) -> None:
    """Shift a stack's elements towards the end; the first ``amount`` become invalid."""
    amount = clamp(amount, 0, count)
    moved = amount * stride
    f[base : base + count * stride] = [0] * moved + f[base : base + count * stride - moved]
    f[following] = min(count, f[following] + amount)


def pop_front(f: list[int], base: int, stride: int, count: int, following: int, amount: int) -> None:
    """Shift a stack's elements towards the front; the last ``amount`` become invalid."""
    amount = clamp(amount, 0, count)
    moved = amount * stride
    f[base : base + count * stride] = f[base + moved : base + count * stride] + [0] * moved
    f[following] = max(0, f[following] - amount)


def holds(condition: object, what: str) -> None:
    """:raises AssertionFailed: the condition is false; ``what`` names it in the log."""
    if not condition:
        logger.error("%s failed", what)
        raise AssertionFailed(what)


def log_message(pieces: tuple[str, ...], values: tuple[int, ...]) -> None:
    """log_msg: ``pieces`` of the format with the values between them."""
    text = "".join(f"{piece}{value}" for piece, value in zip(pieces, values, strict=False))
    logger.info("%s", text + "".join(pieces[len(values) :]))
