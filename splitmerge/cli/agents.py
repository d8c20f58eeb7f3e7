"""``agent``, ``certs``: agents on machines of their own, and who may talk to whom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from splitmerge.cli.options import Json
from splitmerge.cli.output import say, show_error, show_json, show_table
from splitmerge.errors import BadInput, shortened
from splitmerge.tls import ORCHESTRATOR, REPLICA, agent_name

Directory = Annotated[Path, typer.Option("--directory", help="Where the certificates are.")]
FEWEST_DAYS = 0.01


def _days(days: float) -> float:
    """:raises BadInput: for fewer, and for what is no number; how many are too many, `splitmerge.certs` knows."""
    if not days >= FEWEST_DAYS:
        raise BadInput(f"--days {days:g}", "not a time", f"days, {FEWEST_DAYS} at least")
    return days


Days = Annotated[float, typer.Option(help=f"Valid for so many days ({FEWEST_DAYS} at least).", callback=_days)]
HERE = Path("certs")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""An agent's name: a label of a DNS name in its certificate, and a file's name."""
RESERVED = ("ca", ORCHESTRATOR)
"""Names of other parts' files."""

certs = typer.Typer(
    name="certs",
    no_args_is_help=True,
    help=(
        "The lab's certificate authority: `init` once, then `issue orchestrator` and `issue agent --name NAME`. "
        "Copy ca.pem and a part's own two files to its machine; ca.key stays here."
    ),
)


def agent(
    config: Annotated[Path, typer.Option(help="TOML or JSON; its keys are in docs/vmm.md.", exists=True)],
) -> None:
    """Run a VMM agent: it makes replicas, on this machine, for an orchestrator here or elsewhere."""
    from orchestrator.vmm.__main__ import main

    raise typer.Exit(main(["--config", str(config)]))


@certs.command()
def init(directory: Directory = HERE, days: Days = 3650, as_json: Json = False) -> None:
    """Make the authority."""
    from splitmerge.certs import make_ca

    _say(make_ca(directory, days), as_json=as_json)


@certs.command()
def issue(
    part: Annotated[str, typer.Argument(help="orchestrator or agent.")],
    name: Annotated[str, typer.Option(help="The agent's name, as in its configuration.")] = "",
    directory: Directory = HERE,
    days: Days = 365,
    as_json: Json = False,
) -> None:
    """Make a certificate for a part; an agent's is its replicas' too."""
    from splitmerge.certs import issue as make

    match part:
        case "orchestrator" if name:
            raise BadInput(f"--name {name!r}", "only agents have one", "leave it out")
        case "orchestrator":
            issued = make(directory, ORCHESTRATOR, (ORCHESTRATOR,), days)
        case "agent":
            issued = make(directory, _file_of(name), (agent_name(name), REPLICA), days)
        case _:
            raise BadInput(f"part {part!r}", "no such part", "orchestrator or agent")
    _say(issued, as_json=as_json)


def _file_of(name: str) -> str:
    """The name of an agent's two files. :raises BadInput: for a name that cannot be one, or is another part's."""
    if not name:
        raise BadInput("--name", "an agent needs one", "the same as `name` in its configuration")
    if not NAME.fullmatch(name):
        remedy = "a letter or digit, then up to 62 letters, digits, - and _, all of ASCII"
        raise BadInput(f"--name {shortened(name)!r}", "not a usable name", remedy)
    file = agent_name(name).removesuffix(".agent")
    if file in RESERVED:
        raise BadInput(f"--name {name!r}", f"{file}.pem and {file}.key are another part's files", "choose another name")
    return file


@certs.command()
def show(directory: Directory = HERE, as_json: Json = False) -> None:
    """Which certificates there are, whose, and until when."""
    from splitmerge.certs import show as find

    certificates, bad = find(directory)
    found = [_as_json(each) for each in certificates]
    if as_json:
        show_json(found)
    elif found:
        rows = [
            (Path(each["certificate"]).name, ", ".join(each["names"]) or "the authority", each["until"])
            for each in found
        ]
        show_table(f"certificates in {directory}", ("file", "for", "until"), rows)
    for error in bad:
        show_error(error)
    if bad:
        raise typer.Exit(1)


def _say(issued: Any, *, as_json: bool) -> None:
    if as_json:
        return show_json(_as_json(issued))
    until = f"valid until {issued.until:%Y-%m-%d %H:%M} UTC" + (", as the authority" if issued.capped else "")
    say(f"{issued.certificate} and {issued.key}: {until}")
    return None


def _as_json(issued: Any) -> dict[str, Any]:
    return {
        "certificate": str(issued.certificate),
        "key": str(issued.key),
        "names": list(issued.names),
        "until": issued.until.isoformat(timespec="seconds"),
    }


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(agent)
    app.add_typer(certs)
