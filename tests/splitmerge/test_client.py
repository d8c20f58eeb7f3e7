"""The client of the REST API."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitmerge.client import OrchestratorClient
from splitmerge.errors import Unreachable


def test_no_certificates_are_read_for_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab that is being built asks its orchestrator again and again, often on a busy machine."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with OrchestratorClient(tmp_path / "api.sock") as client, pytest.raises(Unreachable):
        client.get("/status")
