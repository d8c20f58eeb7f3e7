"""``p4switch ports``, ``port-add`` and ``port-remove``: commands to a running switch."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from p4switch.config import parse_binding
from splitmerge.errors import BadInput, SplitmergeError

_PATIENCE = 10.0
_COLUMNS = ("port", "interface", "up", "received_packets", "received_bytes", "sent_packets", "sent_bytes")
_ABOUT = {
    "ports": "The ports of a running switch, with what they received and sent.",
    "port-add": "Add interfaces as ports to a running switch. Packets pass meanwhile.",
    "port-remove": "Remove ports from a running switch. What waits there is counted (port_removed); others go on.",
}


def main(command: str, arguments: Sequence[str]) -> int:
    """Carry out one of the three; exit status 0, or 1 with the reason."""
    options = _parser(command).parse_args(arguments)
    try:
        for request in _requests(command, options):
            found = ask(options.socket, request)
            if command == "ports":
                _show(found["ports"], as_json=options.json)
    except SplitmergeError as error:
        sys.stderr.write(f"p4switch {command}: {error}\n")
        return 1
    return 0


def ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The switch's answer. :raises BadInput: it refused, or there is none at this socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except OSError as error:
            reason = error.strerror or str(error)
            raise BadInput(f"--socket {path}", reason, "the switch must run with --control-socket") from None
    if not line:
        raise BadInput(f"--socket {path}", "no answer", "is the switch stopping?")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise BadInput(str(request["do"]), answer["error"])
    return answer


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"p4switch {command}", description=_ABOUT[command])
    parser.add_argument("--socket", type=Path, required=True, help="the switch's --control-socket")
    match command:
        case "ports":
            parser.add_argument("--json", action="store_true", help="for programs")
        case "port-add":
            parser.add_argument("port", nargs="+", metavar="PORT@IFACE", help="in order, until one is refused")
        case "port-remove":
            parser.add_argument("port", nargs="+", type=int, metavar="PORT", help="in order, until one is refused")
    return parser


def _requests(command: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    match command:
        case "ports":
            yield {"do": "ports"}
        case "port-add":
            for item in [parse_binding(text, "port-add") for text in options.port]:
                yield {"do": "port-add", "port": item.port, "interface": item.interface}
        case "port-remove":
            for port in options.port:
                yield {"do": "port-remove", "port": port}


def _show(ports: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(ports, indent=2) + "\n")
        return
    rows = [[column.replace("_", " ") for column in _COLUMNS]]
    rows += [
        ["down" if port[c] is False else "up" if port[c] is True else str(port[c]) for c in _COLUMNS] for port in ports
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    for row in rows:
        sys.stdout.write("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n")
