"""The command line: arguments → `SwitchConfig` → a running switch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from p4switch.backend import BackendChoice
from p4switch.config import LARGEST_PORT, InterfaceBinding, LogOptions, SwitchConfig, TlsFiles, parse_binding
from p4switch.flags import Given, help_text, parse
from splitmerge.decimals import decimal
from splitmerge.errors import BadInput, SplitmergeError
from splitmerge.polling import poll_where_served

JSON_VERSION = "2.24"
"""Newest BMv2 JSON that the loader understands."""
_LEVELS = ("trace", "debug", "info", "warn", "error", "off")
_LONGEST_WAIT = 86_400  # seconds
_MOST_QUEUES = 8  # the priority field has three bits
_SOURCES = ("packet-in", "use-files", "dp-grpc-server-addr")
"""Flags that say where packets come from instead of interfaces."""
_REPEATED = frozenset({"interface"})


class _Values:
    """The flags given, with their values looked up and checked."""

    def __init__(self, given: Sequence[Given]) -> None:
        self._given: dict[str, list[str | None]] = {}
        for item in given:
            self._given.setdefault(item.flag.name, []).append(item.value)
        for name, values in self._given.items():
            if len(values) > 1 and name not in _REPEATED:
                raise BadInput(f"--{name}", "is given twice", "give it once")

    def has(self, name: str) -> bool:
        return name in self._given

    def text(self, name: str) -> str | None:
        return self._given.get(name, [None])[0]

    def all(self, name: str) -> list[str]:
        return [value for value in self._given.get(name, []) if value is not None]

    def path(self, name: str) -> Path | None:
        text = self.text(name)
        return None if text is None else Path(text)

    def number(self, name: str, least: int, most: int) -> int | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            value = int(text, 0)
        except ValueError:
            raise BadInput(f"--{name}", f"{text!r} is no number", f"give {least}..{most}") from None
        if not least <= value <= most:
            raise BadInput(f"--{name}", f"{value} is out of range", f"give {least}..{most}")
        return value


def config_of(arguments: Sequence[str]) -> SwitchConfig:
    """The configuration that the arguments say.

    :raises BadInput: naming the flag and what to write instead.
    """
    given, files = parse(arguments)
    values = _Values(given)
    if len(files) > 1:
        raise BadInput(files[1], "a second program", "give one JSON file")
    no_p4 = values.has("no-p4")
    if no_p4 and files:
        raise BadInput("--no-p4", f"contradicts the program {files[0]}", "leave one of them out")
    if not no_p4 and not files:
        raise BadInput("PROGRAM.json", "no program is given", "name p4c's JSON file, or start with --no-p4")
    interfaces = tuple(parse_binding(text) for text in values.all("interface"))
    cpu_port = values.number("cpu-port", 1, LARGEST_PORT)
    _check_ports(interfaces, cpu_port)
    _check_sources(values)
    drop_port = values.number("drop-port", 0, LARGEST_PORT)
    device_id = values.number("device-id", 0, (1 << 64) - 1)
    return SwitchConfig(
        json=None if no_p4 else _readable(files[0], "PROGRAM.json"),
        p4info=_p4info(values, no_p4),
        interfaces=interfaces,
        packet_in=values.text("packet-in"),
        dataplane_address=_dataplane(values),
        files_after=values.number("use-files", 0, _LONGEST_WAIT),
        pcap=_pcap(values),
        device_id=device_id or 0,
        cpu_port=cpu_port,
        drop_port=511 if drop_port is None else drop_port,
        grpc_address=_address("grpc-server-addr", values.text("grpc-server-addr") or "127.0.0.1:9559"),
        grpc_optional=values.has("optional-grpc"),
        tls=_tls(values),
        metrics_address=_metrics(values),
        control_socket=values.path("control-socket"),
        strict=values.has("bmv2-strict"),
        backend=_backend(values),
        log=_log(values),
        thrift_port=values.number("thrift-port", 1, 0xFFFF),
        priority_queues=values.number("priority-queues", 1, _MOST_QUEUES) or 1,
        dump=values.number("dump-packet-data", 0, 1 << 20) or 0,
        notes=tuple(_notes(given, values)),
    )


def _backend(values: _Values) -> BackendChoice:
    text = values.text("backend") or "auto"
    try:
        return BackendChoice(text)
    except ValueError:
        raise BadInput("--backend", f"there is no {text!r}", f"choose one of {', '.join(BackendChoice)}") from None


def _check_ports(interfaces: Sequence[InterfaceBinding], cpu_port: int | None) -> None:
    for position, item in enumerate(interfaces):
        for other in interfaces[:position]:
            if other.port == item.port:
                raise BadInput("-i/--interface", f"port {item.port} is given twice", "give each port one interface")
            if other.interface == item.interface:
                raise BadInput("-i/--interface", f"{item.interface} is given twice", "give each interface one port")
        if item.port == cpu_port:
            raise BadInput("--cpu-port", f"{cpu_port} is also a port of -i", "choose a number that no interface has")


def _check_sources(values: _Values) -> None:
    """Packets come from one place."""
    given = [f"--{name}" for name in _SOURCES if values.has(name)]
    if len(given) > 1:
        raise BadInput(given[1], f"contradicts {given[0]}", "leave one of them out")


def _readable(name: str, what: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise BadInput(what, f"there is no file {name}", "compile the program with p4c-bm2-ss, or start with --no-p4")
    return path


def _p4info(values: _Values, no_p4: bool) -> Path | None:
    text = values.text("p4info")
    if text is None:
        return None
    if no_p4:
        raise BadInput("--p4info", "contradicts --no-p4", "give the program's JSON file too")
    return _readable(text, "--p4info")


def _pcap(values: _Values) -> Path | None:
    if not values.has("pcap"):
        return None
    path = values.path("pcap") or Path()
    if not path.is_dir():
        raise BadInput("--pcap", f"there is no directory {path}", f"mkdir {path}")
    return path


def _address(flag: str, text: str) -> str:
    if text.startswith("unix:"):
        if len(text) == len("unix:"):
            raise BadInput(f"--{flag}", "no path after unix:", "for instance unix:switch.sock")
        return text
    host, colon, port = text.rpartition(":")
    if not colon or not host or decimal(port, LARGEST_PORT) is None:
        raise BadInput(f"--{flag}", f"{text!r} is no address", "give HOST:PORT, for instance 127.0.0.1:9559")
    return text


def _metrics(values: _Values) -> str | None:
    text = values.text("metrics-addr")
    if text is not None and text.startswith("unix:"):
        raise BadInput("--metrics-addr", "Unix sockets are not supported here", "give HOST:PORT")
    return None if text is None else _address("metrics-addr", text)


def _dataplane(values: _Values) -> str | None:
    text = values.text("dp-grpc-server-addr")
    return None if text is None else _address("dp-grpc-server-addr", text)


def _tls(values: _Values) -> TlsFiles | None:
    cert, key, ca = (values.path(f"grpc-server-{name}") for name in ("cert", "key", "cacert"))
    if not values.has("grpc-server-ssl"):
        return None
    if cert is None or key is None:
        missing = "--grpc-server-cert" if cert is None else "--grpc-server-key"
        raise BadInput(missing, "is missing, --grpc-server-ssl needs it", "give a PEM file")
    for flag, path in (("cert", cert), ("key", key), ("cacert", ca)):
        if path is not None and not path.is_file():
            raise BadInput(f"--grpc-server-{flag}", f"there is no file {path}", "give a PEM file")
    client_auth = values.has("grpc-server-with-client-auth")
    if client_auth and ca is None:
        raise BadInput("--grpc-server-with-client-auth", "nothing to verify against", "give --grpc-server-cacert")
    return TlsFiles(cert, key, ca, client_auth)


def _log(values: _Values) -> LogOptions:
    if values.has("log-console") and values.has("log-file"):
        raise BadInput("--log-file", "contradicts --log-console", "leave one of them out")
    level = values.text("log-level") or "info"
    if level not in _LEVELS:
        raise BadInput("-L/--log-level", f"{level!r} is no level", f"one of {', '.join(_LEVELS)}")
    for name in ("log-flush", "log-file-max-size", "log-file-max-files"):
        if values.has(name) and not values.has("log-file"):
            raise BadInput(f"--{name}", "needs --log-file", "add --log-file FILE")
    defaults = LogOptions()
    return LogOptions(
        console=values.has("log-console"),
        file=values.path("log-file"),
        level=level,
        flush=values.has("log-flush"),
        max_size=values.number("log-file-max-size", 1, 1 << 40) or defaults.max_size,
        max_files=values.number("log-file-max-files", 1, 1000) or defaults.max_files,
    )


def _notes(given: Sequence[Given], values: _Values) -> list[str]:
    notes = [f"--{item.flag.name}: {item.flag.ignored}" for item in given if item.flag.ignored]
    if not values.has("grpc-server-ssl"):
        unused = [i.flag.name for i in given if i.flag.name.startswith("grpc-server-")]
        tls = [name for name in unused if name not in ("grpc-server-addr", "grpc-server-ssl")]
        notes += [f"--{name}: has no effect without --grpc-server-ssl" for name in tls]
    source = next((f"--{name}" for name in _SOURCES if values.has(name)), None)
    if source not in (None, "--use-files") and values.has("interface"):
        notes.append(f"-i/--interface: not opened, because {source} is given")
    if source is not None and values.has("pcap"):
        notes.append(f"--pcap: nothing is written with {source}")
    return notes


def _command(name: str) -> Callable[[list[str]], int] | None:
    """What the first word stands for, if it is not a flag or a file of the switch's."""
    match name:
        case "stf":
            from p4switch.stf.__main__ import main as stf

            return stf
        case "shims":
            from p4switch.shims import main as shims

            return shims
        case "ports" | "port-add" | "port-remove":
            from p4switch.admin.cli import main as ports

            return lambda arguments: ports(name, arguments)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the switch until SIGTERM or SIGINT; the exit status: 0, or 1 for bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    program = Path(sys.argv[0]).name.replace("__main__.py", "p4switch")
    command = _command(words[0]) if words else None
    if command is not None:
        return command(words[1:])
    try:
        given, _ = parse(words)
        names = {item.flag.name for item in given}
        if "help" in names:
            _say(help_text(program))
        elif "version" in names:
            _say(metadata.version("splitmerge"))
        elif "json-version" in names:
            _say(JSON_VERSION)
        else:
            poll_where_served()
            from p4switch.app import run  # gRPC and the rest are not needed to say --help

            return run(config_of(words))
    except SplitmergeError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 0  # Ctrl-C before the signals were taken over
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
