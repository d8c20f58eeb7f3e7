"""``python -m orchestrator --config FILE``.

Exit status 0 after SIGTERM or SIGINT, 2 for a configuration or journal that cannot be used, 1 for anything else.
"""

from __future__ import annotations

import sys

from splitmerge.polling import poll_where_served


def main() -> int:
    """The command line; the exit status."""
    poll_where_served()
    from orchestrator.process import main as run  # it brings grpcio, which looks at that once

    return run()


if __name__ == "__main__":
    sys.exit(main())
