"""How grpcio waits for its connections: said before it is imported, as it looks once."""

import os
import re
from importlib import metadata

_KNOWN = ((1, 81), (1, 85))
"""Versions that were seen to know this setting."""


def poll_where_served() -> None:
    """Have the threads that serve calls, or wait for their answers, read from connections themselves.

    By default one thread polls and another reads, and then that one is woken: on two cores a tenth of a small Write's
    latency at the server, and a twentieth at a client with asyncio. Whoever has set GRPC_EXPERIMENTS knows better.
    """
    found = re.match(r"(\d+)\.(\d+)", metadata.version("grpcio"))
    if found and _KNOWN[0] <= (int(found[1]), int(found[2])) <= _KNOWN[1]:
        os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener,-event_engine_client")
