"""``python -m splitmerge``: the same as the ``splitmerge`` command."""

try:
    from splitmerge.cli import main
except KeyboardInterrupt:  # what was interrupted is imported anew: it has the words
    from splitmerge.cli import interrupted_early

    interrupted_early()

if __name__ == "__main__":
    main()
