"""`splitmerge certs`: authorities and certificates that are not whole, or in each other's way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from splitmerge.certs import issue, make_ca, show
from splitmerge.cli.app import app
from splitmerge.errors import BadInput
from splitmerge.tls import Identity
from tests.splitmerge.refusals import refusal


def test_an_authority_that_is_not_whole_is_named_by_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"ca\.pem: No such file .*make an authority first"):
        issue(tmp_path, "x", ("x",))
    make_ca(tmp_path)
    (tmp_path / "ca.key").rename(tmp_path / "kept")
    for text in (None, "broken", "another's"):
        if text == "another's":
            make_ca(tmp_path / "other")
            text = (tmp_path / "other" / "ca.key").read_text()
        if text is not None:
            (tmp_path / "ca.key").write_text(text)
        with pytest.raises(BadInput) as caught:
            issue(tmp_path, "x", ("x",))
        assert caught.value.where == f"{tmp_path}/ca.key" and "make an authority first" not in caught.value.remedy
    (tmp_path / "kept").rename(tmp_path / "ca.key")
    assert issue(tmp_path, "x", ("x",)).certificate.exists()
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(BadInput, match=r"ca\.pem: No such file .*put back"):
        issue(tmp_path, "x", ("x",))


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("name", ["../x", "a/b", "a b", ".", "ä", "x" * 64, "x" * 300, "٣"])
def test_an_agents_name_is_refused_not_changed(tmp_path: Path, name: str) -> None:
    make_ca(tmp_path)
    said = refusal("certs", "issue", "agent", "--name", name, "--directory", str(tmp_path))
    assert "not a usable name" in said and "letters, digits" in said
    assert set(files_of(tmp_path)) == {"ca.pem", "ca.key"}


@pytest.mark.parametrize("name", ["ca", "CA", "orchestrator", "Orchestrator"])
def test_an_agents_name_that_is_another_parts_file_is_refused(tmp_path: Path, name: str) -> None:
    make_ca(tmp_path)
    issue(tmp_path, "orchestrator", ("orchestrator",))
    before = files_of(tmp_path)
    said = refusal("certs", "issue", "agent", "--name", name, "--directory", str(tmp_path))
    assert f"{name.lower()}.pem and {name.lower()}.key are another part's" in said and "choose another name" in said
    assert files_of(tmp_path) == before


def test_certificates_are_written_over_by_newer_ones_of_their_own_only(tmp_path: Path) -> None:
    make_ca(tmp_path)
    issue(tmp_path, "left", ("left.agent",))
    before = files_of(tmp_path)
    for file, names in (("ca", ("ca.agent",)), ("CA", ("x",)), ("left", ("right.agent",))):
        with pytest.raises(BadInput, match=r"the authority's own|is for left\.agent, not right\.agent"):
            issue(tmp_path, file, names)
    (tmp_path / "notes.pem").write_text("of somebody")
    with pytest.raises(BadInput, match="not readable as PEM"):
        issue(tmp_path, "notes", ("notes.agent",))
    (tmp_path / "notes.pem").unlink()
    assert files_of(tmp_path) == before
    issue(tmp_path, "left", ("left.agent",))
    assert files_of(tmp_path)["left.pem"] != before["left.pem"]


def test_a_parts_certificate_signs_nothing(tmp_path: Path) -> None:
    make_ca(tmp_path)
    issue(tmp_path, "left", ("left.agent",))
    for kind in ("pem", "key"):
        (tmp_path / f"left.{kind}").replace(tmp_path / f"ca.{kind}")
    with pytest.raises(BadInput, match=r"ca\.pem: a part's certificate, not an authority's"):
        issue(tmp_path, "right", ("right.agent",))


@pytest.mark.parametrize("kind", ["pem", "key"])
def test_no_authority_is_made_over_half_of_another(tmp_path: Path, kind: str) -> None:
    make_ca(tmp_path)
    (tmp_path / f"ca.{kind}").unlink()
    before = files_of(tmp_path)
    assert "there is an authority here already" in refusal("certs", "init", "--directory", str(tmp_path))
    assert files_of(tmp_path) == before


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    ca = make_ca(tmp_path, days=1)
    argv = ["certs", "issue", "orchestrator", "--directory", str(tmp_path)]
    result = CliRunner().invoke(app, argv)
    (line,) = result.stdout.splitlines()  # one line, however long the path is
    assert line.endswith("UTC, as the authority") and f"valid until {ca.until:%Y-%m-%d}" in line
    assert json.loads(CliRunner().invoke(app, [*argv, "--json"]).stdout)["until"] == ca.until.isoformat()
    assert not issue(tmp_path, "short", ("x",), days=0.5).capped
    expired = tmp_path / "expired"
    make_ca(expired, days=-1)
    with pytest.raises(BadInput, match=r"ca\.pem: has expired"):
        issue(expired, "x", ("x",))


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    assert "/proc/x: cannot be written: No such file" in refusal("certs", "init", "--directory", "/proc/x")
    (tmp_path / "file").write_text("")
    said = refusal("certs", "init", "--directory", str(tmp_path / "file" / "certs"))
    assert "certs: cannot be written: Not a directory (name a directory that can be)" in said


def test_show_names_what_is_no_certificate_and_shows_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_ca(tmp_path)
    (tmp_path / "junk.pem").write_text("junk")
    (tmp_path / "folder.pem").mkdir()
    found, bad = show(tmp_path)
    assert [each.certificate.name for each in found] == ["ca.pem"]
    assert [Path(error.where).name for error in bad] == ["folder.pem", "junk.pem"]
    result = CliRunner().invoke(app, ["certs", "show", "--directory", str(tmp_path), "--json"])
    assert result.exit_code == 1 and [each["names"] for each in json.loads(result.stdout)] == [[]]


@pytest.mark.parametrize(("directory", "said"), [("nosuch", "No such file"), (".", "there is no certificate")])
def test_show_without_certificates_says_how_to_make_them(tmp_path: Path, directory: str, said: str) -> None:
    error = refusal("certs", "show", "--directory", str(tmp_path / directory))
    assert said in error and "splitmerge certs init" in error


@pytest.mark.parametrize("days", ["nan", "-1", "0"])
def test_a_certificate_for_no_time_is_refused(tmp_path: Path, days: str) -> None:
    said = refusal("certs", "init", "--days", days, "--directory", str(tmp_path / "c"))
    assert said == f"--days {days}: not a time (days, 0.01 at least)" and not (tmp_path / "c").exists()


def test_a_certificate_for_ever_is_refused(tmp_path: Path) -> None:
    assert "no date is so far away" in refusal("certs", "init", "--days", "inf", "--directory", str(tmp_path / "c"))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("missing", ["ca.pem", "x.pem", "x.key"])
def test_a_missing_tls_file_is_named(tmp_path: Path, missing: str) -> None:
    make_ca(tmp_path)
    issue(tmp_path, "x", ("x",))
    (tmp_path / missing).unlink()
    with pytest.raises(BadInput) as caught:
        Identity(tmp_path / "ca.pem", tmp_path / "x.pem", tmp_path / "x.key").client()
    assert caught.value.where == f"tls: {tmp_path}/{missing}" and caught.value.problem == "No such file or directory"
