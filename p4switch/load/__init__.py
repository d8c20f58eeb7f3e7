"""From BMv2's JSON, as p4c-bm2-ss writes it, to the frozen IR."""

from p4switch.load.program import load_program

__all__ = ["load_program"]
