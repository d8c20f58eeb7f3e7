"""Packet tests in p4c's STF format, run on a device in memory: ``python -m p4switch.stf PROGRAM.json TEST.stf``."""

from p4switch.stf.commands import Command, StfError, parse_stf
from p4switch.stf.runner import run_stf

__all__ = ["Command", "StfError", "parse_stf", "run_stf"]
