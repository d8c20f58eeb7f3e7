"""``python -m splitmerge``: the same as the ``splitmerge`` command."""

from splitmerge.cli import main

main()
