"""The vocabulary that every part of Splitmerge shares, and the command line."""

from splitmerge.errors import BadInput, PeerError, SplitmergeError, WireError
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.tag import Tag, TagKind

__all__ = ["BUCKETS", "BadInput", "FlowKey", "PeerError", "SplitmergeError", "Tag", "TagKind", "WireError"]
