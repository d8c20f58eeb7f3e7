"""``agent``, ``certs``: agents on machines of their own, and who may talk to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from splitmerge.cli.options import Json
from splitmerge.cli.output import console, show_json
from splitmerge.errors import BadInput
from splitmerge.tls import ORCHESTRATOR, REPLICA, agent_name

Directory = Annotated[Path, typer.Option("--directory", help="Where the certificates are.")]
Days = Annotated[float, typer.Option(help="Valid for so many days.", min=0.01)]
HERE = Path("certs")

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
        case "orchestrator":
            issued = make(directory, ORCHESTRATOR, (ORCHESTRATOR,), days)
        case "agent" if name and not name.replace("-", "").replace("_", "").isalnum():
            raise BadInput(f"--name {name!r}", "not a usable name", "letters, digits, - and _")
        case "agent" if name:
            issued = make(directory, agent_name(name).removesuffix(".agent"), (agent_name(name), REPLICA), days)
        case "agent":
            raise BadInput("--name", "an agent needs one", "the same as `name` in its configuration")
        case _:
            raise BadInput(f"part {part!r}", "no such part", "orchestrator or agent")
    _say(issued, as_json=as_json)


@certs.command()
def show(directory: Directory = HERE, as_json: Json = False) -> None:
    """Which certificates there are, whose, and until when."""
    from splitmerge.certs import show as find

    found = [_as_json(each) for each in find(directory)]
    if as_json:
        return show_json(found)
    table = Table("file", "for", "until", title=f"certificates in {directory}", title_justify="left")
    for each in found:
        table.add_row(Path(each["certificate"]).name, ", ".join(each["names"]) or "the authority", each["until"])
    console.print(table)
    return None


def _say(issued: Any, *, as_json: bool) -> None:
    if as_json:
        return show_json(_as_json(issued))
    console.print(f"{issued.certificate} and {issued.key}: valid until {issued.until:%Y-%m-%d %H:%M} UTC")
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
