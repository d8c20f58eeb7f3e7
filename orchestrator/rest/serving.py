"""The REST API on its Unix socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from orchestrator.rest.api import make_app
from orchestrator.service import Orchestrator


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: ending is `process`'s business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


def make_server(orchestrator: Orchestrator) -> uvicorn.Server:
    """What `serve_api` serves: all that takes long, which a thread may do. It loads more than this module does."""
    config = uvicorn.Config(make_app(orchestrator), log_config=None, access_log=False, lifespan="off")
    config.load()
    return _Server(config)


async def serve_api(server: uvicorn.Server, path: Path) -> None:
    """Serve the REST API on a Unix socket, which is for its owner only, until cancelled: open requests are cut then."""
    with _private_socket(path) as listener:  # uvicorn's own would be everybody's
        try:
            await server.serve(sockets=[listener])
        finally:
            for each in getattr(server, "servers", ()):  # none before it listens
                each.close()


def _private_socket(path: Path) -> socket.socket:
    """A Unix socket that only its owner may connect to (mode 0600); one left by a dead process is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener
