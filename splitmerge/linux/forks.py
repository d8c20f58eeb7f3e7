"""Why the kernel makes no further process, and what to do about it: fork(2)."""

from __future__ import annotations

import errno

FORK_REMEDIES = {
    errno.EAGAIN: "end some: a limit of this user's or the machine's is reached (ulimit -u, pids.max, threads-max)",
    errno.ENOMEM: "end something that takes memory",
}
"""By the number of the error."""
