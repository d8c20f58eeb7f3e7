"""The traces that come along, made anew: ``python -m orchestrator.simulator.samples``. Both are five minutes long.

``burst``: flows with random lives; from second 60 to 150 many more come, as the attacks of §5.1 do. ``day``: a day's
load in five minutes, a wave with noise, where single flows send more and less as time goes on.
"""

from __future__ import annotations

import csv
import io
import math
import random
from pathlib import Path

SECONDS = 300
SEED = 2013


def burst() -> str:
    """As ``time,flow,event,packets``: 0.7 new flows per second that live about 40 s, in the burst 3 per second."""
    rng = random.Random(SEED)
    events: list[tuple[float, str, str, str]] = []
    time, number = 0.0, 0
    while (time := time + rng.expovariate(3.0 if 60 <= time < 150 else 0.7)) < SECONDS:
        number += 1
        end = time + rng.expovariate(1 / 40)
        name = f"10.0.1.{number % 250 + 2}:{40_000 + number}"
        events.append((round(time, 2), "start", name, str(rng.randint(5, 15))))
        if end < SECONDS:
            events.append((round(end, 2) + 0.01, "end", name, ""))
    events.sort()
    rows = ((f"{time:.2f}", name, event, packets) for time, event, name, packets in events)
    return _csv(("time", "flow", "event", "packets"), rows)


def day() -> str:
    """As ``time,flow,packets``: 40 flows that change what they send now and then, at the peak eight times as much."""
    rng = random.Random(SEED)
    rows = []
    for second in range(0, SECONDS, 3):
        wave = 1 + 3.5 * (1 - math.cos(2 * math.pi * second / SECONDS))
        changing = sorted(rng.sample(range(40), 6 if second else 40))
        rows += [(f"{second}", f"flow-{flow}", f"{10 * wave * rng.uniform(0.5, 1.5):.1f}") for flow in changing]
    rows += [(f"{SECONDS}", f"flow-{flow}", "0") for flow in range(40)]
    return _csv(("time", "flow", "packets"), rows)


def _csv(header: tuple[str, ...], rows: object) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)  # type: ignore[arg-type]  # any rows of text
    return out.getvalue()


def main() -> None:
    """Write them where `orchestrator.simulator.trace` finds them."""
    folder = Path(__file__).parent / "traces"
    folder.mkdir(exist_ok=True)
    for name, text in (("burst", burst()), ("day", day())):
        (folder / f"{name}.csv").write_text(text)


if __name__ == "__main__":
    main()
