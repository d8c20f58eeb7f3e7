"""Python's cyclic garbage collector in processes that keep hundreds of thousands of small objects.

By default it walks all of them whenever a quarter more has come, packets and moves waiting meanwhile: staging 100,000
flows it stopped a replica for over a second at a time. What this project keeps by the hundred thousand (flows, entries,
rows) goes by reference counts and is part of no cycle once it is let go; cycles that others make are still found, young
ones as before, old ones after ten million objects more have been made than freed.
"""

from __future__ import annotations

import gc

YOUNG, MIDDLE, OLD = 50_000, 20, 10
"""`gc.set_threshold`; each generation counts collections of the one before."""


def settle() -> None:
    """After all has been imported and set up: that is never walked again. Children of fork(2) inherit it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)


def keep() -> None:
    """What has been imported since is not walked again either; nothing is looked for now, while packets may wait."""
    gc.freeze()
