"""What an agent and its replicas write on standard error."""

from __future__ import annotations

import logging
import sys


def log_as(who: str, level: str) -> None:
    """Log under this name from now on."""
    form = f"%(asctime)s {who} %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=level, format=form, force=True)
