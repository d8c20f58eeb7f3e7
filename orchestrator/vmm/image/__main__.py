"""``python -m orchestrator.vmm.image``: make the image of a middlebox."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from orchestrator.vmm.image.build import build
from splitmerge.errors import SplitmergeError


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.vmm.image",
        description="Make the image that replicas' virtual machines are booted from: Debian's kernel for virtual "
        "machines, this Python, the guest library and the middlebox. Nothing is installed on this machine.",
    )
    parser.add_argument(
        "--middlebox", default="middleboxes.ids:Ids", metavar="MODULE:CLASS", help="%(default)s if not given"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("build/vm-image"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--include", action="append", default=[], metavar="MODULE", help="a further module; may be given again"
    )
    parser.add_argument(
        "--kernel", type=Path, metavar="DIR", help="an unpacked kernel package, instead of fetching one"
    )
    options = parser.parse_args()
    started = time.monotonic()
    try:
        image = build(options.middlebox, options.output, include=tuple(options.include), kernels=options.kernel)
    except SplitmergeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    size = Path(image.initramfs).stat().st_size / 2**20
    sys.stdout.write(
        f"{options.output}: {image.middlebox}, Linux {image.kernel}, Python {image.python}, "
        f"initramfs {size:.0f} MiB, made in {time.monotonic() - started:.1f} s\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
