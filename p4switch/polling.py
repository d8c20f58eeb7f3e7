"""How grpcio waits for its connections: said before it is imported, as it looks once."""

import os
import re
from importlib import metadata

_KNOWN = ((1, 81), (1, 85))
"""Versions that were seen to know this setting."""


def poll_on_serving_thread() -> None:
    """Have grpcio's serving thread read from connections itself.

    By default one thread polls and another reads, and then the serving thread is woken: on two cores a tenth of a small
    Write's latency. Whoever has set GRPC_EXPERIMENTS knows better.
    """
    found = re.match(r"(\d+)\.(\d+)", metadata.version("grpcio"))
    if found and _KNOWN[0] <= (int(found[1]), int(found[2])) <= _KNOWN[1]:
        os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
