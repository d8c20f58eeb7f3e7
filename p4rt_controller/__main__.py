"""``python -m p4rt_controller static``: program a switch and keep it so, without an orchestrator.

For courses and tests: flows are spread over the replicas given by hash; events are printed as JSON, one a line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from p4rt_controller.assignment import spread
from p4rt_controller.controller import Controller
from p4rt_controller.errors import ControllerError
from p4rt_controller.events import ControllerEvent
from p4rt_controller.options import AddressReply, ControllerOptions, PuntPort, Route
from p4src import P4BLOB, P4INFO
from splitmerge.decimals import decimal
from splitmerge.errors import BadInput, shortened


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m p4rt_controller", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    static = commands.add_parser(
        "static", help="program a switch with replicas and routes, hold mastership, print events"
    )
    static.add_argument("--address", default="127.0.0.1:9559", metavar="HOST:PORT", help="P4Runtime server")
    static.add_argument("--device-id", type=int, default=1, metavar="N")
    static.add_argument("--p4info", type=Path, default=P4INFO, metavar="FILE")
    static.add_argument("--p4blob", type=Path, default=P4BLOB, metavar="FILE", help="JSON of p4c-bm2-ss")
    static.add_argument("--host", type=int, action="append", default=[], metavar="PORT", help="port with hosts; repeat")
    static.add_argument("--replica", action="append", default=[], metavar="ID=PORT", help="replica at a port; repeat")
    static.add_argument(
        "--route", action="append", default=[], metavar="NET=PORT,SRC_MAC,DST_MAC", help="way to hosts; repeat"
    )
    static.add_argument(
        "--punt", metavar="INTERFACE=PORT", help="punt port: this interface is wired to that port of the switch"
    )
    static.add_argument("--answer", action="append", default=[], metavar="IP=MAC", help="answer ARP/ND for it; repeat")
    return parser


def _pair(flag: str, text: str) -> tuple[str, str]:
    left, separator, right = text.partition("=")
    if not (left and separator and right):
        raise BadInput(flag, f"{text!r}", "write LEFT=RIGHT")
    return left, right


def _integer(flag: str, text: str) -> int:
    number = decimal(text, 0xFFFF_FFFF)
    if number is None:
        raise BadInput(flag, f"{shortened(text)!r} is no number", "0 to 4294967295")
    return number


def _route(text: str) -> Route:
    network, rest = _pair("--route", text)
    parts = rest.split(",")
    if len(parts) != 3:
        raise BadInput("--route", f"{text!r}", "write NET=PORT,SRC_MAC,DST_MAC")
    return Route.parse(network, _integer("--route", parts[0]), parts[1], parts[2])


def _replica(text: str) -> tuple[int, int]:
    number, port = _pair("--replica", text)
    return _integer("--replica", number), _integer("--replica", port)


def _punt(text: str | None) -> PuntPort | None:
    if text is None:
        return None
    interface, port = _pair("--punt", text)
    return PuntPort(interface, _integer("--punt", port))


def _options(arguments: argparse.Namespace) -> ControllerOptions:
    return ControllerOptions(
        address=arguments.address,
        device_id=arguments.device_id,
        p4info=arguments.p4info,
        p4blob=arguments.p4blob,
        punt=_punt(arguments.punt),
        host_ports=tuple(arguments.host),
        routes=tuple(map(_route, arguments.route)),
        addresses=tuple(AddressReply.parse(*_pair("--answer", text)) for text in arguments.answer),
    )


def _show(event: ControllerEvent) -> None:
    body = {"event": type(event).__name__, **msgspec.to_builtins(event, enc_hook=str)}
    sys.stdout.write(json.dumps(body) + "\n")
    sys.stdout.flush()


async def _static(options: ControllerOptions, replicas: dict[int, int]) -> None:
    async with Controller(options, _show) as controller:
        for replica, port in replicas.items():
            await controller.register_replica(replica, port)
        if replicas:
            await controller.set_buckets(spread(replicas, {}))
        await asyncio.get_running_loop().create_future()  # until a signal


async def _until_signal(options: ControllerOptions, replicas: dict[int, int]) -> None:
    task = asyncio.create_task(_static(options, replicas), name="static")
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 after a signal, 2 for wrong arguments, 1 if the switch cannot be programmed."""
    arguments = _parser().parse_args(argv)
    try:
        asyncio.run(_until_signal(_options(arguments), dict(map(_replica, arguments.replica))))
    except BadInput as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except ControllerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
