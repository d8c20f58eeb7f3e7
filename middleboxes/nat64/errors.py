"""Errors of the translator.

SplitmergeError
└── Untranslatable   this packet is dropped; perhaps its sender is told
"""

from __future__ import annotations

from splitmerge.errors import SplitmergeError


class Untranslatable(SplitmergeError):
    """A packet that RFC 7915 or RFC 6146 says to drop.

    ``reason`` is a word to count it by; ``answer`` the ICMP error, a whole IP packet, for its sender (empty: silence).
    """

    def __init__(self, reason: str, answer: bytes = b"") -> None:
        super().__init__(f"not translated: {reason}")
        self.reason, self.answer = reason, answer
