"""The command line: every flag of simple_switch_grpc is taken or refused by name; bad input is one clear line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p4switch.cli import config_of, main
from p4switch.config import InterfaceBinding, SwitchConfig
from p4switch.flags import FLAGS, Side, Takes, help_text
from splitmerge.errors import BadInput

# The complete list, from behavioral-model's options_parse.cpp, its simple_switch_grpc's main.cpp, and --load-modules.
CORE = {
    *("help", "version", "json-version", "interface", "pcap", "use-files", "packet-in", "thrift-port", "device-id"),
    *("nanolog", "notifications-addr", "log-console", "log-file", "log-level", "log-flush", "log-file-max-size"),
    *("log-file-max-files", "debugger", "debugger-addr", "restore-state", "dump-packet-data", "no-p4"),
    "max-port-count",
}
TARGET = {
    *("grpc-server-addr", "grpc-server-ssl", "grpc-server-cacert", "grpc-server-cert", "grpc-server-key"),
    *("grpc-server-with-client-auth", "cpu-port", "drop-port", "dp-grpc-server-addr", "priority-queues"),
    *("max-mc-groups", "max-l1-entries", "max-l2-entries", "disable-swap", "load-modules"),
}


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.json"
    path.write_text("{}")
    return str(path)


def test_every_flag_is_known() -> None:
    known = {flag.name for flag in FLAGS if flag.side is not Side.EITHER or flag.name == "help"}
    assert known == CORE | TARGET


def test_the_labs_command_line() -> None:
    words = "--device-id 1 -i 1@c0 -i 2@s0 -i 11@r1 --no-p4 -- --grpc-server-addr 127.0.0.1:9559 --cpu-port 510"
    assert config_of(words.split()) == SwitchConfig(
        interfaces=(InterfaceBinding(1, "c0"), InterfaceBinding(2, "s0"), InterfaceBinding(11, "r1")),
        device_id=1,
        cpu_port=510,
        grpc_address="127.0.0.1:9559",
    )


@pytest.mark.parametrize(
    "words",
    [
        "-i 0@veth0 -i 1@veth2 --log-console --thrift-port 9090 {program}",
        "--no-p4 --device-id 1 --thrift-port 9090 --notifications-addr ipc://n --debugger-addr ipc://d -- --cpu-port 5",
        "--no-p4 --nanolog ipc://l --log-console --dump-packet-data 80 -Ldebug --pcap -- --grpc-server-addr [::]:5",
        "{program} --log-file log --log-flush -L info -- --grpc-server-addr 0.0.0.0:50051 --priority-queues 8",
        "--no-p4 -- --grpc-server-addr=unix:x.sock --max-mc-groups 1 --max-l1-entries=2 --max-l2-entries 3",
        "--device-id=7 -i1@a {program} -- --drop-port 500 --disable-swap",
    ],
    ids=["mininet", "onos", "more-onos", "p4net", "unix", "attached"],
)
def test_command_lines_of_wrappers(words: str, program: str) -> None:
    config_of(words.format(program=program).split())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("--pcap", "."), ("--pcap {dir}", "{dir}"), ("--pcap={dir}", "{dir}"), ("--pcap --log-console", ".")],
)
def test_pcap_in_all_its_forms(words: str, wanted: str, program: str, tmp_path: Path) -> None:
    line = f"{words.format(dir=tmp_path)} {program}"
    config = config_of(line.split())
    assert config.pcap == Path(wanted.format(dir=tmp_path))
    assert config.json == Path(program)


def test_ignored_flags_say_why(program: str) -> None:
    notes = config_of([program, "--nanolog", "ipc://l", "--", "--grpc-server-cert", "x"]).notes
    assert any(note.startswith("--nanolog: simple_switch_grpc only") for note in notes)
    assert any("--grpc-server-ssl" in note for note in notes)


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ("", "PROGRAM.json"),
        ("nothing.json", "PROGRAM.json"),
        ("{program} {program}", "{program}"),
        ("{program} --no-p4", "--no-p4"),
        ("--no-p4 --frobnicate", "--frobnicate"),
        ("--no-p4 -x", "-x"),
        ("--no-p4 --log-f x", "--log-f"),
        ("--no-p4 --device-id", "--device-id"),
        ("--no-p4 --device-id --", "--device-id"),
        ("--no-p4 --device-id one", "--device-id"),
        ("--no-p4 --device-id -1", "--device-id"),
        ("--no-p4 --device-id 1 --device-id 2", "--device-id"),
        ("--no-p4 -i eth0", "-i/--interface"),
        ("--no-p4 -i x@eth0", "-i/--interface"),
        ("--no-p4 -i 1@", "-i/--interface"),
        ("--no-p4 -i 70000@eth0", "-i/--interface"),
        ("--no-p4 -i 1@abcdefghijklmnop", "-i/--interface"),
        ("--no-p4 -i 1@a -i 1@b", "-i/--interface"),
        ("--no-p4 -i 1@a -i 2@a", "-i/--interface"),
        ("--no-p4 -i 5@a -- --cpu-port 5", "--cpu-port"),
        ("--no-p4 -- --cpu-port 0", "--cpu-port"),
        ("--no-p4 --cpu-port 5", "--cpu-port"),
        ("--no-p4 -- --device-id 5", "--device-id"),
        ("--no-p4 -- --drop-port x", "--drop-port"),
        ("-- {program}", "{program}"),
        ("--no-p4 -- --", "--"),
        ("--no-p4=1", "--no-p4"),
        ("--no-p4 --log-console --log-file x", "--log-file"),
        ("--no-p4 --log-flush", "--log-flush"),
        ("--no-p4 -L loud", "-L/--log-level"),
        ("--no-p4 --pcap=/nowhere", "--pcap"),
        ("--no-p4 -- --grpc-server-addr 9559", "--grpc-server-addr"),
        ("--no-p4 -- --grpc-server-addr host:port", "--grpc-server-addr"),
        ("--no-p4 -- --grpc-server-addr unix:", "--grpc-server-addr"),
        ("--no-p4 -- --grpc-server-ssl", "--grpc-server-cert"),
        ("--no-p4 -- --grpc-server-ssl --grpc-server-cert x", "--grpc-server-key"),
        ("--no-p4 -- --grpc-server-ssl --grpc-server-cert x --grpc-server-key y", "--grpc-server-cert"),
        ("--no-p4 --metrics-addr unix:/x", "--metrics-addr"),
        ("--no-p4 --p4info {program}", "--p4info"),
        ("--no-p4 --use-files soon", "--use-files"),
        ("--no-p4 --use-files 0 --packet-in ipc://p", "--use-files"),
        ("--no-p4 --restore-state x", "--restore-state"),
        ("--no-p4 -- --dp-grpc-server-addr x", "--dp-grpc-server-addr"),
        ("--no-p4 --packet-in ipc://p -- --dp-grpc-server-addr x:1", "--dp-grpc-server-addr"),
        ("--no-p4 -- --load-modules x.so", "--load-modules"),
    ],
)
def test_bad_input_names_the_flag(words: str, where: str, program: str) -> None:
    with pytest.raises(BadInput) as caught:
        config_of(words.format(program=program).split())
    assert caught.value.where == where.format(program=program)
    assert caught.value.problem


def test_prefixes_that_are_clear_are_taken() -> None:
    assert config_of(["--no-p", "--device", "3"]).device_id == 3


def test_help_names_every_flag() -> None:
    text = help_text("p4switch")
    assert all(f"--{flag.name}" in text for flag in FLAGS)


def test_every_flag_has_help_or_a_reason() -> None:
    for flag in FLAGS:
        assert bool(flag.help) + bool(flag.ignored) + bool(flag.refused[0]) == 1, flag
        assert (flag.takes is Takes.NOTHING) == (not flag.metavar), flag


def test_exit_status_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--no-p4", "-i", "eth0"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and "-i/--interface" in err and "PORT@INTERFACE" in err


@pytest.mark.parametrize(("flag", "words"), [("--help", "usage:"), ("-v", "."), ("--json-version", "2.")])
def test_questions(capsys: pytest.CaptureFixture[str], flag: str, words: str) -> None:
    assert main([flag]) == 0
    assert words in capsys.readouterr().out


def test_missing_interface_is_one_line() -> None:
    words = [
        sys.executable,
        "-m",
        "p4switch",
        "--no-p4",
        "-i",
        "1@nosuchif0",
        "--",
        "--grpc-server-addr",
        "unix:no.sock",
    ]
    run = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1 and "nosuchif0" in run.stderr
