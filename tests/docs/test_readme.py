"""The README is true: its commands run, its folders and pages are there, its middlebox works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from splitmerge import FlowKey

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"`make ([a-z]+)|^\$ make ([a-z]+)", README, re.MULTILINE))
    targets = {first or second for first, second in targets}
    assert {"demo", "test"} <= targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=20)


def test_every_folder_and_page_named_exists() -> None:
    pages = re.findall(r"\]\((docs/[^)]+)\)", README)
    folders = re.findall(r"^\| `([a-z0-9_]+/)`", README, re.MULTILINE)
    assert len(pages) > 5 and len(folders) > 8
    for name in pages + folders:
        assert (ROOT / name).exists(), name


def sections(page: Path) -> set[str]:
    """By the names that links have for them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_links_between_pages_lead_somewhere() -> None:
    found = 0
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link, section in re.findall(r"\]\(([^)#:]*\.md)?(?:#([\w-]+))?\)", page.read_text()):
            target = page.parent / link if link else page
            assert target.exists() and (not section or section in sections(target)), f"{page.name}: {link}#{section}"
            found += bool(section)
    assert found > 10


def test_the_middlebox_in_it_works() -> None:
    from guestlib import Guest, Packet

    source = re.search(r"```python\n(.+?)```", README, re.DOTALL)
    assert source is not None
    module = types.ModuleType("readme_middlebox")
    sys.modules[module.__name__] = module
    exec(source[1], module.__dict__)
    guest = Guest()
    middlebox = module.Counter()
    middlebox.setup(guest)
    key = FlowKey.parse("udp,10.0.1.2:1,10.0.2.2:2")
    for number in range(3):
        middlebox.on_packet(guest, Packet(bytes([number]), key))
    with guest.flow(key) as state:
        assert state == module.Count(packets=3)
    assert guest.sent == [b"\0", b"\1", b"\2"]


@pytest.mark.integ
@pytest.mark.slow
@pytest.mark.timeout(630)
@pytest.mark.usefixtures("namespaces")
def test_the_session_by_hand_runs_as_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every line, one after the other, by a shell that stops at the first failure."""
    state = tmp_path_factory.mktemp("r")
    lines = [line for line in COMMANDS if line.startswith("splitmerge ")]
    assert lines[0] == "splitmerge up" and lines[-1] == "splitmerge down" and len(lines) > 8
    listening = "splitmerge exec server -- ss -Hltn src 10.0.2.2:80 | grep -q LISTEN"
    wait_for_server = f"for i in $(seq 100); do {listening} && break; sleep 0.1; done"
    wait_for_flows = "for i in $(seq 100); do splitmerge flows --json | grep -q tcp && break; done"
    script = "\n".join(["set -e", lines[0], lines[1], wait_for_server, lines[2], wait_for_flows, *lines[3:], "wait"])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["sh", "-c", script],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "SPLITMERGE_STATE_DIR": str(state)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert os.listdir(state) == []
