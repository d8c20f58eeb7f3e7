"""Every flag of the command line as data, and the parser that reads it.

The flags are those of ``simple_switch_grpc`` (behavioral-model's options_parse.cpp and its target's main.cpp) and a few
of ours. Core options come first, then ``--``, then the target's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from splitmerge.errors import BadInput


class Side(Enum):
    """Where a flag stands with respect to ``--``."""

    CORE = "core"
    TARGET = "target"
    EITHER = "either"


class Takes(Enum):
    """Whether a flag takes a value."""

    NOTHING = 0
    VALUE = 1
    MAYBE = 2
    """``--pcap``, ``--pcap DIR`` and ``--pcap=DIR``."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``ignored``: taken, does nothing, for this reason. ``refused``: not taken, with reason and remedy."""

    name: str
    help: str
    side: Side = Side.CORE
    takes: Takes = Takes.VALUE
    metavar: str = ""
    short: str = ""
    ignored: str = ""
    refused: tuple[str, str] = ("", "")


_N, _V, _M = Takes.NOTHING, Takes.VALUE, Takes.MAYBE
_NO_NANO = "simple_switch_grpc only warns about it too"

FLAGS: tuple[Flag, ...] = (
    Flag("help", "this text", takes=_N, short="h", side=Side.EITHER),
    Flag("version", "version of this switch", takes=_N, short="v"),
    Flag("json-version", "newest version of BMv2 JSON that is understood", takes=_N),
    Flag("interface", "attach a Linux interface as a port; repeat it", metavar="PORT@IFACE", short="i"),
    Flag("pcap", "write IFACE_in.pcap and IFACE_out.pcap into DIR (default .)", takes=_M, metavar="DIR"),
    Flag("use-files", "after SECONDS read IFACE_in.pcap, write IFACE_out.pcap; -i names no device", metavar="SECONDS"),
    Flag("packet-in", "all ports over a nanomsg PAIR socket (PTF: --platform nn); -i is not opened", metavar="ADDR"),
    Flag("thrift-port", "listen there and hang up: wrappers wait for it, tables go over P4Runtime", metavar="PORT"),
    Flag("device-id", "P4Runtime device id (default 0; finsy and others use 1)", metavar="ID"),
    Flag("nanolog", "", metavar="ADDR", ignored=_NO_NANO),
    Flag("notifications-addr", "", metavar="ADDR", ignored=_NO_NANO),
    Flag("log-console", "log to standard output", takes=_N),
    Flag("log-file", "log to FILE.txt, in rotation", metavar="FILE"),
    Flag("log-level", "trace, debug, info, warn, error or off (default info)", metavar="LEVEL", short="L"),
    Flag("log-flush", "with --log-file: write every line at once", takes=_N),
    Flag("log-file-max-size", "with --log-file: bytes of one file (default 5242880)", metavar="BYTES"),
    Flag("log-file-max-files", "with --log-file: files kept (default 3)", metavar="N"),
    Flag("debugger", "", takes=_N, ignored="there is no debugger"),
    Flag("debugger-addr", "", metavar="ADDR", ignored="there is no debugger"),
    Flag(
        "restore-state",
        "",
        metavar="FILE",
        refused=("BMv2's state files are not read", "let the controller write the tables"),
    ),
    Flag("dump-packet-data", "log the first BYTES of every frame, at level info", metavar="BYTES"),
    Flag("no-p4", "start without a program; all packets are dropped until a controller sends one", takes=_N),
    Flag("max-port-count", "", metavar="N", ignored="ports are not limited"),
    Flag(
        "grpc-server-addr", "P4Runtime here: HOST:PORT or unix:/PATH (default 127.0.0.1:9559)", Side.TARGET, _V, "ADDR"
    ),
    Flag("grpc-server-ssl", "TLS; needs certificate and key", Side.TARGET, _N),
    Flag("grpc-server-cacert", "CA that client certificates are verified against", Side.TARGET, _V, "FILE"),
    Flag("grpc-server-cert", "certificate of the server, PEM", Side.TARGET, _V, "FILE"),
    Flag("grpc-server-key", "key of the server, PEM", Side.TARGET, _V, "FILE"),
    Flag("grpc-server-with-client-auth", "ask clients for a certificate and verify it", Side.TARGET, _N),
    Flag("cpu-port", "port of packet-in and packet-out; none by default", Side.TARGET, _V, "PORT"),
    Flag("drop-port", "port that means drop (default 511)", Side.TARGET, _V, "PORT"),
    Flag("dp-grpc-server-addr", "all ports over gRPC's PacketStream here; -i is not opened", Side.TARGET, _V, "ADDR"),
    Flag("priority-queues", "queues of each port, strict priority, 0 goes last (default 1)", Side.TARGET, _V, "N"),
    Flag("max-mc-groups", "", Side.TARGET, _V, "N", ignored="multicast groups are limited to 65535"),
    Flag("max-l1-entries", "", Side.TARGET, _V, "N", ignored="replicas are not limited"),
    Flag("max-l2-entries", "", Side.TARGET, _V, "N", ignored="replicas are not limited"),
    Flag("disable-swap", "", Side.TARGET, _N, ignored="a new program always replaces the old one at once"),
    Flag(
        "load-modules",
        "",
        Side.TARGET,
        _V,
        "SO,…",
        refused=("externs in C++ modules cannot be loaded", "only v1model's own externs are there"),
    ),
    Flag(
        "p4info",
        "P4Info (text or binary) of the JSON file, so that it is served from the start",
        Side.EITHER,
        _V,
        "FILE",
    ),
    Flag("metrics-addr", "Prometheus metrics, all drops by reason: HOST:PORT", Side.EITHER, _V, "ADDR"),
    Flag(
        "control-socket",
        "Unix socket for `ports`, `port-add`, `port-remove`; its owner alone may use it",
        Side.EITHER,
        _V,
        "PATH",
    ),
    Flag(
        "backend",
        "auto (native, or the interpreter where native cannot), native, interpreter",
        Side.EITHER,
        _V,
        "NAME",
    ),
    Flag(
        "optional-grpc",
        "go on without P4Runtime if its address is taken: BMv2's simple_switch has none (its shim says this)",
        Side.EITHER,
        _N,
    ),
    Flag("bmv2-strict", "refuse over P4Runtime what simple_switch_grpc refuses", Side.EITHER, _N),
)

_BY_NAME = {flag.name: flag for flag in FLAGS}
_BY_SHORT = {flag.short: flag for flag in FLAGS if flag.short}


@dataclass(frozen=True, slots=True)
class Given:
    """A flag that was given; ``value`` None if it took none."""

    flag: Flag
    value: str | None


def parse(arguments: Iterable[str]) -> tuple[list[Given], list[str]]:
    """The flags given, in order, and the other arguments.

    :raises BadInput: naming the flag and what to write instead.
    """
    words = iter(arguments)
    given: list[Given] = []
    others: list[str] = []
    pending: list[str] = []
    side = Side.CORE

    def following() -> Iterator[str]:
        while pending:
            yield pending.pop()
        yield from words

    for word in iter(lambda: next(following(), None), None):
        if word == "--":
            if side is Side.TARGET:
                raise BadInput("--", "there are two of them", "one separates the target's options")
            side = Side.TARGET
        elif word.startswith("-") and word != "-":
            given.append(_flag(word, side, following, pending.append))
        elif side is Side.TARGET:
            raise BadInput(word, "only options may follow `--`", "put the program's JSON file before it")
        else:
            others.append(word)
    return given, others


def _flag(word: str, side: Side, following: Callable[[], Iterator[str]], put_back: Callable[[str], None]) -> Given:
    flag, attached = _find(word)
    shown = f"--{flag.name}"
    if flag.refused[0]:
        raise BadInput(shown, *flag.refused)
    if flag.side is Side.TARGET and side is Side.CORE:
        raise BadInput(shown, "is an option of the target", f"put it after `--`:  … -- {shown} …")
    if flag.side is Side.CORE and side is Side.TARGET:
        raise BadInput(shown, "is not an option of the target", "put it before `--`")
    match flag.takes:
        case Takes.NOTHING if attached is not None:
            raise BadInput(shown, f"takes no value, got {attached!r}")
        case Takes.NOTHING:
            return Given(flag, None)
        case Takes.MAYBE:
            return Given(flag, attached if attached is not None else _directory(following, put_back))
    value = attached if attached is not None else next(following(), None)
    if value is None or value == "--" or value == "":
        raise BadInput(shown, "needs a value", f"{shown} {flag.metavar}")
    return Given(flag, value)


def _directory(following: Callable[[], Iterator[str]], put_back: Callable[[str], None]) -> str | None:
    """The next word if it can be the directory of ``--pcap``: not a flag, and not the program's JSON file."""
    word = next(following(), None)
    if word is None:
        return None
    if word.startswith("-") or (word.endswith(".json") and not Path(word).is_dir()):
        put_back(word)
        return None
    return word


def _find(word: str) -> tuple[Flag, str | None]:
    if not word.startswith("--"):
        flag = _BY_SHORT.get(word[1])
        if flag is None:
            raise BadInput(word, "unknown option", "see --help")
        return flag, word[2:].removeprefix("=") or None
    name, equals, value = word[2:].partition("=")
    found = _BY_NAME.get(name)
    if found is None:
        candidates = [flag for flag in FLAGS if flag.name.startswith(name)]
        if len(candidates) != 1:
            near = " or ".join(f"--{flag.name}" for flag in candidates)
            raise BadInput(f"--{name}", "unknown option", f"{near}?" if near else "see --help")
        found = candidates[0]
    return found, value if equals else None


def help_text(program: str) -> str:
    """What ``--help`` prints."""
    lines = [
        f"usage: {program} [options] PROGRAM.json [-- target options]",
        f"       {program} [options] --no-p4 [-- target options]",
        f"       {program} stf PROGRAM.json TEST.stf [--backend NAME]",
        f"       {program} shims DIRECTORY",
        f"       {program} ports | port-add PORT@IFACE… | port-remove PORT…  --socket PATH",
        "",
        "A P4 switch: runs what p4c-bm2-ss compiles, speaks P4Runtime, takes simple_switch_grpc's flags.",
    ]
    titles = {Side.CORE: "options:", Side.TARGET: "target options, after `--`:", Side.EITHER: "on either side:"}
    for side, title in titles.items():
        lines += ["", title]
        lines += [_line(flag) for flag in FLAGS if flag.side is side and flag.help]
    lines += ["", "taken, and without effect here:"]
    lines += [f"  --{flag.name:28} {flag.ignored}" for flag in FLAGS if flag.ignored]
    lines += ["", "refused:"]
    lines += [f"  --{flag.name:28} {flag.refused[0]}; {flag.refused[1]}" for flag in FLAGS if flag.refused[0]]
    lines += ["", "examples:"]
    lines += [
        "  two interfaces, a controller on port 9559 that sends the program:",
        f"    {program} --device-id 1 -i 1@veth1 -i 2@veth2 --no-p4 -- --grpc-server-addr [::1]:9559 --cpu-port 510",
        "  without root, packets from PTF (ptf --platform nn --device-socket 0-{0-64}@ipc://packets.ipc):",
        f"    {program} --packet-in ipc://packets.ipc --no-p4 -- --grpc-server-addr 127.0.0.1:9559",
        "",
        "  ports that come and go while it runs:",
        f"    {program} --control-socket sw.sock -i 1@veth1 --no-p4      then, elsewhere:",
        f"    {program} port-add --socket sw.sock 2@veth2 && {program} ports --socket sw.sock",
        "",
        "SIGTERM or Ctrl-C end it; SIGUSR1 writes all counts of packets and drops to the log.",
    ]
    return "\n".join(lines)


def _line(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    value = {Takes.NOTHING: "", Takes.VALUE: f" {flag.metavar}", Takes.MAYBE: f" [{flag.metavar}]"}[flag.takes]
    return f"  {short}--{flag.name + value:32} {flag.help}"
