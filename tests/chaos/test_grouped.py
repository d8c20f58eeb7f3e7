"""Flows of the middlebox for moves by key have a group and a second key from their first packet on."""

from __future__ import annotations

from chaos.grouped import GROUPS, group_of, second_key
from splitmerge.flowkey import FlowKey


def test_a_flow_is_in_the_group_of_its_clients_port_and_its_second_key_is_nobody_elses() -> None:
    flows = [FlowKey.parse(f"udp,10.0.1.2:{port},10.0.2.2:9000") for port in range(50000, 50016)]
    assert {group_of(flow) for flow in flows} == set(range(GROUPS))
    seconds = {second_key(flow) for flow in flows}
    assert len(seconds) == len(flows) and not seconds & set(flows)
    assert all(group_of(second_key(flow)) == group_of(flow) for flow in flows)
