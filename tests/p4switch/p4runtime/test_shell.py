"""p4runtime-shell 0.0.6 against the switch, from an environment of its own (build/p4rt-shell-venv, made by pip)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from p4src import P4BLOB, P4INFO
from p4switch.p4runtime import Code
from p4switch.shell import ENVIRONMENT, command, environment, variables
from splitmerge.errors import BadInput

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = """
import json, os, sys, traceback
import p4runtime_sh.shell as sh
from p4runtime_sh.p4runtime import P4RuntimeWriteException

def fail(kind, error, trace):
    traceback.print_exception(kind, error, trace)
    os._exit(1)  # the shell's threads would keep it alive

sys.excepthook = fail

address, p4info, blob = sys.argv[1:]
sh.setup(device_id=1, grpc_addr=address, election_id=(0, 3), config=sh.FwdPipeConfig(p4info, blob), verbose=False)
seen = {}
entry = sh.TableEntry("flow_v4")(action="steer")
entry.match["low_addr"], entry.match["high_addr"] = "10.0.1.2", "10.0.2.2"
entry.match["low_port"], entry.match["high_port"], entry.match["protocol"] = "80", "40000", "6"
entry.action["replica"], entry.action["suspend"] = "7", "0"
entry.insert()
seen["inserted"] = [str(e.action["replica"].value) for e in sh.TableEntry("flow_v4").read()]
try:
    entry.insert()
except P4RuntimeWriteException as error:
    seen["again"] = [error.errors[0][1].canonical_code]
entry.action["suspend"] = "1"
entry.modify()
seen["modified"] = [str(e.action["suspend"].value) for e in sh.TableEntry("flow_v4").read()]
route = sh.TableEntry("route_v4")(action="forward")
route.match["dst"] = "10.0.0.0/8"
route.action["port"], route.action["src_mac"], route.action["dst_mac"] = "1", "02:00:00:00:00:fe", "02:00:00:00:01:02"
route.insert()
seen["routes"] = [e.match["dst"].lpm.prefix_len for e in sh.TableEntry("route_v4").read()]
session = sh.CloneSessionEntry(1)
session.add(510)
session.insert()
seen["sessions"] = [e.session_id for e in sh.CloneSessionEntry(1).read()]
counter = sh.CounterEntry("drops")
counter.index = 3
counter.read(lambda c: seen.update(drops=c.packet_count))
direct = sh.DirectCounterEntry("flow_v4_counter")
direct.read(lambda c: seen.update(direct=c.packet_count))
entry.delete()
seen["deleted"] = len(list(sh.TableEntry("flow_v4").read()))
loop = sh.PacketOut(payload=bytes(60))
for name, value in dict(egress_port="0", _pad="0", kind="4", epoch="7", sequence="9").items():
    loop.metadata[name] = value
packets = sh.PacketIn()
loop.send()
found = []
packets.sniff(found.append, timeout=3)
seen["packet"] = [packet.packet.payload[12:14].hex() for packet in found]
print(json.dumps(seen), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return environment()
    except (BadInput, OSError, subprocess.TimeoutExpired) as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"cannot make {ENVIRONMENT}: {error}")


def run(
    python: Path, *words: str, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    words = (str(python), *words)
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, input=stdin, env=env)


def test_shell_writes_and_reads(python: Path, switch: Any) -> None:
    done = run(python, "-c", SCRIPT, switch.address, str(P4INFO), str(P4BLOB))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {
        "inserted": [r"b'\x07'"],
        "again": [Code.ALREADY_EXISTS],
        "modified": [r"b'\x01'"],
        "routes": [8],
        "sessions": [1],
        "drops": 0,
        "direct": 0,
        "deleted": 0,
        "packet": ["88b5"],
    }


def test_interactive_shell_takes_the_switchs_pipeline_and_leaves_the_home_alone(
    python: Path, switch: Any, configs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("IPYTHONDIR", raising=False)
    switch.primary(configs["splitmerge"], election_id=9)
    words = command(python, switch.address, 1, 1)
    done = run(python, *words[1:], stdin='print("tables:", len(list(tables)))\nexit\n', env=variables(tmp_path / "own"))
    assert "only have read access" in done.stdout, done.stderr
    assert "tables: 9" in done.stdout
    assert (tmp_path / "own" / "profile_default").is_dir() and not (tmp_path / ".ipython").exists()
