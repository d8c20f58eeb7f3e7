"""The orchestrator's process: its options, the network and the API that it is made of, and its end."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn

import p4src
from orchestrator.config import Config, SwitchConfig, check, load
from orchestrator.errors import JournalError
from orchestrator.journal import Journal
from orchestrator.rest.api import make_app
from orchestrator.service import Orchestrator
from p4rt_controller import AddressReply, Controller, ControllerOptions, PuntPort, Route
from p4rt_controller.fabric import Fabric, FabricOptions
from splitmerge import collector
from splitmerge.errors import BadInput
from splitmerge.trunks import split_place

logger = logging.getLogger("orchestrator")

STOP = 5
"""Seconds that open API requests get at the end."""


def controller_options(switch: SwitchConfig) -> ControllerOptions:
    """The controller's options as configured. :raises BadInput: naming the field."""
    known = {each.name for each in dataclasses.fields(ControllerOptions)}
    for name in switch.tuning:
        if name not in known:
            raise BadInput(f"switch.tuning.{name}", "unknown", "name a field of p4rt_controller.ControllerOptions")
    tuning: dict[str, Any] = dict(switch.tuning)
    punt = switch.punt
    return ControllerOptions(
        address=switch.address,
        device_id=switch.device_id,
        p4info=switch.p4info or p4src.P4INFO,
        p4blob=switch.p4blob or p4src.P4BLOB,
        cpu_port=switch.cpu_port,
        punt=None if punt is None else PuntPort(punt.interface, punt.port, punt.ring_bytes),
        host_ports=switch.host_ports,
        routes=tuple(Route.parse(each.network, each.port, each.src_mac, each.dst_mac) for each in switch.routes),
        addresses=tuple(AddressReply.parse(each.address, each.mac) for each in switch.addresses),
        assignment=switch.assignment,
        **tuning,
    )


def network_options(config: Config) -> ControllerOptions | FabricOptions:
    """The options of the one switch, or of all and their trunks. :raises BadInput: naming the field."""
    if config.switch is not None:
        return controller_options(config.switch)
    switches = {name: controller_options(switch) for name, switch in config.switches.items()}
    options = FabricOptions(switches=switches, trunks=config.trunks)
    options.planned()
    for slot, place in config.slots.items():
        if split_place(place)[0] >= len(switches):
            raise BadInput(f"slots.{slot}", f"place {place} is at no switch", "write switch:port")
    return options


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: ending is `_serve`'s business."""

    def install_signal_handlers(self) -> None:
        """None."""


async def _api(orchestrator: Orchestrator, path: Path) -> None:
    """Serve the REST API on a Unix socket, which is for its owner only, until cancelled."""
    config = uvicorn.Config(
        make_app(orchestrator), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=STOP
    )
    server = _Server(config)
    with _private_socket(path) as listener:  # uvicorn's own would be everybody's
        try:
            await server.serve(sockets=[listener])
        finally:
            for each in getattr(server, "servers", ()):  # none before it listens
                each.close()


def _private_socket(path: Path) -> socket.socket:
    """A Unix socket that only its owner may connect to (mode 0600); one left by a dead process is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


async def _serve(config: Config, options: ControllerOptions | FabricOptions, journal: Journal) -> None:
    orchestrator = Orchestrator(config, journal)
    listen = orchestrator.network_event
    controller = Controller(options, listen) if isinstance(options, ControllerOptions) else Fabric(options, listen)
    orchestrator.restore(controller)

    async def connect() -> None:
        async with controller:
            await asyncio.get_running_loop().create_future()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(orchestrator.run(controller, connect()), name="orchestrator")
        tasks.create_task(_api(orchestrator, Path(config.api.removeprefix("unix:"))), name="api")


async def _until_told(config: Config, options: ControllerOptions | FabricOptions, journal: Journal) -> None:
    """Run until SIGTERM or SIGINT, which cancel the work once."""
    work = asyncio.create_task(_serve(config, options, journal), name="main")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    await asyncio.wait([work])
    if not work.cancelled():
        work.result()


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit status, as `orchestrator.__main__` says."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator", description="Splitmerge orchestrator")
    parser.add_argument("--config", type=Path, required=True, help="TOML or JSON; see orchestrator/config.py")
    arguments = parser.parse_args(argv)
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level="INFO", format=form)
    try:
        config = check(load(arguments.config, Config))
        logging.getLogger().setLevel(config.log_level)
        options = network_options(config)
        journal = Journal(config.journal, durability=config.durability)
    except (BadInput, JournalError) as error:
        logger.error("%s", error)
        return 2
    collector.settle()
    try:
        asyncio.run(_until_told(config, options, journal))
    except BadInput as error:  # the journal has what the configuration does not: a port, a switch
        logger.error("%s", error)
        return 2
    except BaseExceptionGroup:
        logger.exception("ended")
        return 1
    finally:
        journal.close()
    logger.info("ended")
    return 0
