"""SYNCH in a lab: two replicas draw numbers from one value for every packet, while their flows move and one ends."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from guestlib.coherence.history import check_linearizable, load
from tests.integration.labs import SERVER, build_lab, troubled, whole
from tests.integration.numbering import NUMBER
from traffic.udp_report import SideReport, account

pytestmark = [pytest.mark.integ, pytest.mark.timeout(120), pytest.mark.usefixtures("namespaces")]


def test_every_packet_has_a_number_of_its_own_while_flows_move(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("y")  # short, for the paths of Unix sockets
    settings = {"middlebox": "tests.integration.numbering:Numbering", "middlebox_config": {"directory": str(directory)}}
    with build_lab(directory, **settings) as lab, ExitStack() as stack, lab.client() as client:
        echo = lab.command("server", "udp", "server", "--bind", SERVER)
        stack.callback(echo.kill)
        udp = lab.command("client", "udp", "client", "--server", SERVER, "--flows", "8", "--rate", "20")
        stack.callback(udp.kill)
        lab.wait("flows", lambda client: len(lab.owners()) == 8)
        client.post("/scale-out", {})
        lab.wait("numbers from both", lambda _: (directory / "history-2").exists())
        for source, target in ((1, 2), (2, 1)):
            # A flow whose number is being drawn is in use: on a busy machine for longer than moves wait by default.
            body = {"all": True, "source": source, "target": target, "references": 20.0}
            moves = client.post("/migrate", body)["moves"]
            assert moves and all(move["step"] == "done" for move in moves)
        client.post("/scale-in", {"replica": 2})
        udp.ask_to_stop()
        sent = udp.report(SideReport)
        echo.ask_to_stop()
        result = account(sent, echo.report(SideReport))
        shown = client.get(f"/shared/{NUMBER}")
        (left,) = client.get("/replicas")
    assert whole(result), troubled(result)
    drawn = load(directory.glob("history-*"))[NUMBER]
    assert {each.process for each in drawn} == {"1", "2"} and check_linearizable(drawn, 0) is not None
    assert sorted(each.wrote for each in drawn) == list(range(1, len(drawn) + 1))
    assert (shown["value"]["value"], shown["holder"]) == ({"number": len(drawn)}, None)
    assert len(drawn) >= sum(flow.forward.sent + flow.backward.sent for flow in result.flows)
    assert not left["custom"].get("backwards")
