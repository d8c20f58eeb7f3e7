"""The compute-bound middlebox in a lab: its cost is the replicas' load, and its flows move under it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.labs import SERVER, build_lab, troubled, whole
from traffic.udp_report import SideReport, account

pytestmark = [pytest.mark.integ, pytest.mark.timeout(120), pytest.mark.usefixtures("namespaces")]

COST_US = 200


def test_every_packet_costs_what_is_set_while_flows_move(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("c")
    settings = {"middlebox": "middleboxes.compute:Compute", "middlebox_config": {"cost_us": COST_US}}
    with build_lab(Path(directory), **settings) as lab, ExitStack() as stack, lab.client() as client:
        echo = lab.command("server", "udp", "server", "--bind", SERVER)
        stack.callback(echo.kill)
        udp = lab.command("client", "udp", "client", "--server", SERVER, "--flows", "8", "--rate", "20")
        stack.callback(udp.kill)
        lab.wait("flows", lambda client: len(lab.owners()) == 8)
        client.post("/scale-out", {})
        both = lab.wait(
            "both work", lambda client: [r for r in client.get("/replicas") if r["custom"].get("worked")][1:]
        )
        assert both
        for source, target in ((1, 2), (2, 1)):
            moves = client.post("/migrate", {"all": True, "source": source, "target": target})["moves"]
            assert moves and all(move["step"] == "done" for move in moves)
        udp.ask_to_stop()
        sent = udp.report(SideReport)
        echo.ask_to_stop()
        result = account(sent, echo.report(SideReport))
        assert whole(result), troubled(result)
        elements = client.get("/shared/compute.totals")["elements"]
        totals = [element["value"] for element in elements]
        packets = sum(each["packets"] for each in totals)
        assert packets >= sum(flow.forward.sent + flow.backward.sent for flow in result.flows)
        assert sum(each["cpu_ns"] for each in totals) >= packets * COST_US * 1000
