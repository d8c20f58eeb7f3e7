"""FTP control connections (RFC 959): logins that failed are signs.

A reply says nothing of its command but its order: so commands that have no final reply yet are remembered, oldest
first. A reply 530 is a failed login only if the command was USER, PASS or ACCT (others are refused with it too).
A connection that goes over to TLS (RFC 4217, reply 234) is done.
"""

from __future__ import annotations

import re

import msgspec

from middleboxes.ids.analysis import BOTH, NOTHING_READ, Outcome, Reading, Side, Sign
from middleboxes.ids.config import IdsConfig
from middleboxes.ids.http import begins_request

_LINE = 4096
"""Bytes of a line that are read; what is beyond them is skipped, and the line counted as an overflow."""
_PENDING = 64
"""Commands without a reply that are remembered; a client that sends more at once is answered out of step."""
_TELNET = b"\xff\xf4\xf2"
"""IAC, IP, DM: what clients send before ABOR (RFC 959 §4.1.3)."""
_LOGIN = frozenset(("USER", "PASS", "ACCT"))
_REFUSED = frozenset((430, 530, 532))
_COMMAND = re.compile(rb"[A-Za-z]{3,4}[ \r\n]")


class Lines(msgspec.Struct):
    """One side's line that is not whole yet."""

    buffer: bytearray = msgspec.field(default_factory=bytearray)
    skipping: bool = False
    """What comes up to the next line's end belongs to a line that was taken already, or torn."""


class FtpState(msgspec.Struct, tag="ftp"):
    """All that is known of a control connection."""

    client: Lines = msgspec.field(default_factory=Lines)
    server: Lines = msgspec.field(default_factory=Lines)
    known: bool = False
    """Whether the client's first line was FTP's."""
    commands: list[str] = []
    """Verbs that have no final reply yet, oldest first."""
    user: str = ""
    multi_line: int = 0
    """The reply code whose lines are being read; 0: none."""


class FtpAnalyser:
    """Reads both sides on FTP's port."""

    name = "ftp"
    state = FtpState
    sides = BOTH
    first_bytes: frozenset[int] = frozenset()

    def __init__(self, config: IdsConfig) -> None:
        self.ports = frozenset(config.ftp_ports)

    def begin(self) -> FtpState:
        """The state of a connection of which nothing was read."""
        return FtpState()

    def begins(self, payload: bytes, port: int) -> bool:
        """Whether a command goes to an FTP port."""
        return port in self.ports and _COMMAND.match(payload) is not None

    def feed(self, state: FtpState, side: Side, data: bytes) -> Reading:
        """Take the next bytes of one side."""
        if side is Side.CLIENT:
            return self._commands(state, data)
        lines, overflows = take_lines(state.server, data)
        signs: list[Sign] = []
        for line in lines:
            if self._reply(state, line, signs):
                return Reading(signs=signs, overflows=overflows, outcome=Outcome.DONE)
        return Reading(signs=signs, overflows=overflows) if signs or overflows else NOTHING_READ

    def gap(self, state: FtpState, side: Side, missing: int) -> Reading:
        """Which reply is whose is not known any more: begin anew with the next line."""
        lines = state.client if side is Side.CLIENT else state.server
        lines.buffer.clear()
        lines.skipping = True
        state.commands.clear()
        state.multi_line = 0
        state.known = True
        return NOTHING_READ

    def _commands(self, state: FtpState, data: bytes) -> Reading:
        if not state.known:
            begun = bytes(state.client.buffer) + data
            if b"\n" not in begun and len(begun) <= _LINE:
                state.client.buffer += data
                return NOTHING_READ
            if begins_request(begun):
                return Reading(outcome=Outcome.FOREIGN, rest=begun)
            state.known = True
        lines, overflows = take_lines(state.client, data)
        for line in lines:
            verb, _, argument = line.lstrip(_TELNET).partition(b" ")
            name = verb.decode("latin-1").upper()[:8]
            if name == "USER":
                state.user = argument.decode("utf-8", "replace")[:64]
            if len(state.commands) < _PENDING:
                state.commands.append(name)
        return Reading(messages=len(lines), overflows=overflows)

    @staticmethod
    def _reply(state: FtpState, line: bytes, signs: list[Sign]) -> bool:
        """Whether the connection is encrypted from here on."""
        code = int(line[:3]) if len(line) >= 3 and line[:3].isdigit() else 0
        if state.multi_line and (code != state.multi_line or line[3:4] == b"-"):
            return False
        state.multi_line = code if line[3:4] == b"-" else 0
        if state.multi_line or code < 200 or not state.commands:
            return False  # more lines follow, or it is preliminary, or the greeting
        verb = state.commands.pop(0)
        if verb in _LOGIN and code in _REFUSED:
            signs.append(Sign("ftp-login", f"{state.user}: {line.decode('utf-8', 'replace')}"))
        return verb == "AUTH" and code == 234


def take_lines(state: Lines, data: bytes) -> tuple[list[bytes], int]:
    """The lines that end in ``data``, without their ends, and how many of them were cut at the limit."""
    state.buffer += data
    lines: list[bytes] = []
    overflows = 0
    while state.buffer:
        end = state.buffer.find(b"\n", 0, None if state.skipping else _LINE + 1)
        if state.skipping:
            del state.buffer[: end + 1 if end >= 0 else len(state.buffer)]
            state.skipping = end < 0
        elif end >= 0:
            lines.append(bytes(state.buffer[:end]).rstrip(b"\r"))
            del state.buffer[: end + 1]
        elif len(state.buffer) > _LINE:
            lines.append(bytes(state.buffer[:_LINE]))
            del state.buffer[:_LINE]
            state.skipping, overflows = True, overflows + 1
        else:
            break
    return lines, overflows
