"""How grpcio waits for its connections: said before it is imported, as it looks once."""

import os
import re
from importlib import metadata

_SINCE = {"-event_engine_listener": (1, 81), "-event_engine_client": (1, 85)}
"""Setting → the first version that was seen to know it."""
_LAST = (1, 85)
"""The last one."""


def poll_where_served() -> None:
    """Have the threads that serve calls, or wait for their answers, read from connections themselves.

    By default one thread polls and another reads, and then that one is woken: on two cores a tenth of a small Write's
    latency at the server, and a twentieth at a client with asyncio. Whoever has set GRPC_EXPERIMENTS knows better.
    """
    found = re.match(r"(\d+)\.(\d+)", metadata.version("grpcio"))
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if settings := [name for name, since in _SINCE.items() if since <= version <= _LAST]:
        os.environ.setdefault("GRPC_EXPERIMENTS", ",".join(settings))
