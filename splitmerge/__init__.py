"""The vocabulary that every part of Splitmerge shares, and the command line.

Names are imported when they are first asked for: the command line comes through here, and is to be able to say that it
was interrupted (`splitmerge.cli.main`) as early as can be.
"""

TYPE_CHECKING = False  # `typing` itself takes its time; type checkers know the name

if TYPE_CHECKING:
    from splitmerge.errors import BadInput, PeerError, SplitmergeError, WireError
    from splitmerge.flowkey import BUCKETS, FlowKey
    from splitmerge.tag import Tag, TagKind
else:
    _MODULES = {
        "BUCKETS": "flowkey", "BadInput": "errors", "FlowKey": "flowkey", "PeerError": "errors",
        "SplitmergeError": "errors", "Tag": "tag", "TagKind": "tag", "WireError": "errors",
    }  # fmt: skip

    def __getattr__(name):
        """PEP 562."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        return value


__all__ = ["BUCKETS", "BadInput", "FlowKey", "PeerError", "SplitmergeError", "Tag", "TagKind", "WireError"]
