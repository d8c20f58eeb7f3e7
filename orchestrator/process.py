"""The orchestrator's process: its options, the network and the API that it is made of, and its end."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import p4src
from orchestrator.config import Config, SwitchConfig, check, load
from orchestrator.errors import JournalError
from orchestrator.journal import Journal
from orchestrator.service import Orchestrator
from p4rt_controller import AddressReply, Controller, ControllerOptions, PuntPort, Route
from p4rt_controller.fabric import Fabric, FabricOptions
from splitmerge import collector
from splitmerge.errors import BadInput
from splitmerge.trunks import split_place

logger = logging.getLogger("orchestrator")

API_WAITS = 2.0
"""Seconds for which the API waits at most for what an earlier process left."""


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


async def _api(orchestrator: Orchestrator, path: Path) -> None:
    """Serve the REST API until cancelled, but first let the moves go on that an earlier process left.

    Packets wait for these, and what the API is made of takes more than half as long to load as all else. A thread does
    that.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(API_WAITS):
            await orchestrator.recovered()
    serve = await asyncio.to_thread(_load_api, orchestrator)
    collector.keep()
    await serve(path)


def _load_api(orchestrator: Orchestrator) -> Callable[[Path], Coroutine[Any, Any, None]]:
    from orchestrator.rest.serving import make_server, serve_api

    return partial(serve_api, make_server(orchestrator))


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
