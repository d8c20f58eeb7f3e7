"""``python -m splitmerge``: the same as the ``splitmerge`` command."""

from splitmerge.cli import main

if __name__ == "__main__":
    main()
