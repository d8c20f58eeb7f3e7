"""What a switch needs before any flow: pipeline, clone session, the rows that the options give."""

from __future__ import annotations

import logging
from typing import Any

from finsy import P4CloneSessionEntry
from finsy.proto import p4r

from p4rt_controller import bmv2
from p4rt_controller.errors import Refusal, SwitchUnavailable, WriteRejected
from p4rt_controller.link import BatchRefused, Link
from p4rt_controller.options import ControllerOptions
from p4rt_controller.schema import Pipeline
from p4rt_controller.tables import CONTROLLER, HERE, NOBODY, TRUNK, Forward, OverTrunk, Table, TableState
from p4src.reasons import DropReason
from splitmerge.flowkey import BUCKETS

_logger = logging.getLogger(__name__)


def fill(desired: TableState, options: ControllerOptions) -> None:
    """Add the rows that the options ask for."""
    for port in options.host_ports:
        desired.put(Table.PORT_ROLE, port, 0)
    if options.punt is not None:
        desired.put(Table.PORT_ROLE, options.punt.port, CONTROLLER)
    for port in options.trunk_ports:
        desired.put(Table.PORT_ROLE, port, TRUNK)
    if options.number:
        desired.put(Table.REPLICA, options.number, HERE)
    for number, port in options.beyond:
        desired.put(Table.REPLICA, number, OverTrunk(port))
    for route in options.routes:
        desired.put(Table.ROUTE, route.network, Forward(route.port, route.src_mac, route.dst_mac))
    for reply in options.addresses:
        desired.put(Table.ADDRESS, reply.address, reply.mac)
    if options.assignment != "hash":
        for bucket in range(BUCKETS):
            desired.put(Table.BUCKET, bucket, NOBODY)


async def load_pipeline(link: Link, pipeline: Pipeline, options: ControllerOptions) -> bool:
    """Load the P4 program unless the switch has it; whether it did. :raises SwitchUnavailable: if that fails."""
    cookie = await link.cookie()
    if cookie == pipeline.schema.p4cookie:
        return False
    if cookie is not None and bmv2.DELETE_CLONE_SESSION_BEFORE_PIPELINE:
        await _delete_clone_session(link, pipeline, options)
    await link.set_pipeline(pipeline.schema.get_pipeline_config())
    _logger.info("pipeline loaded: %s", pipeline.schema.get_pipeline_info())
    return True


async def ensure_clone_session(link: Link, pipeline: Pipeline, options: ControllerOptions) -> None:
    """Have the session copy to the controller's port, once. A right one is left alone: deleting it would lose clones.

    :raises SwitchUnavailable, WriteRejected: if that fails.
    """
    wanted = _session_entity(pipeline, options)
    if await _read_clone_session(link, options) == _essence(wanted):
        return
    await _delete_clone_session(link, pipeline, options)
    try:
        for _ in range(bmv2.CLONE_SESSION_INSERTIONS - 1):
            await link.write([p4r.Update(type=p4r.Update.INSERT, entity=wanted)])
            await _delete_clone_session(link, pipeline, options)
        await link.write([p4r.Update(type=p4r.Update.INSERT, entity=wanted)])
    except BatchRefused as refused:
        code, message = refused.failures[0]
        raise WriteRejected([Refusal(f"insert clone session {options.clone_session}", code, message)]) from None


def _session_entity(pipeline: Pipeline, options: ControllerOptions) -> Any:
    port = options.cpu_port if options.punt is None else options.punt.port
    entry = P4CloneSessionEntry(options.clone_session, replicas=[(port, 1)])
    return entry.encode(pipeline.schema)


async def _delete_clone_session(link: Link, pipeline: Pipeline, options: ControllerOptions) -> None:
    try:
        await link.write([p4r.Update(type=p4r.Update.DELETE, entity=_session_entity(pipeline, options))])
    except (BatchRefused, SwitchUnavailable) as error:  # no session, or no pipeline yet; what follows tells
        _logger.debug("no clone session to delete: %s", error)


async def _read_clone_session(link: Link, options: ControllerOptions) -> Any:
    request = p4r.ReadRequest(device_id=options.device_id)
    entry = request.entities.add().packet_replication_engine_entry.clone_session_entry
    entry.session_id = options.clone_session
    found: list[Any] = []
    try:
        async for entities in link.read(request):
            found += entities
    except SwitchUnavailable as error:  # not every switch reads one that is missing, or any
        _logger.debug("clone session cannot be read: %s", error)
        return None
    return _essence(found[0]) if len(found) == 1 else None


def _essence(entity: Any) -> Any:
    """What a session does: id, length, (port, instance) of each copy; port forms differ between P4Runtime versions."""
    session = entity.packet_replication_engine_entry.clone_session_entry
    copies = sorted((int.from_bytes(copy.port, "big") or copy.egress_port, copy.instance) for copy in session.replicas)
    return session.session_id, session.packet_length_bytes, copies


async def read_drops(link: Link, pipeline: Pipeline, device_id: int) -> dict[DropReason, int]:
    """The counter ``drops``, in packets. :raises SwitchUnavailable: if the connection breaks."""
    request = p4r.ReadRequest(device_id=device_id)
    request.entities.add().counter_entry.counter_id = pipeline.drops_counter
    drops = dict.fromkeys(DropReason, 0)
    async for entities in link.read(request):
        for entity in entities:
            entry = entity.counter_entry
            if entry.index.index in drops:
                drops[DropReason(entry.index.index)] = entry.data.packet_count
    return drops
