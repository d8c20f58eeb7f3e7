"""The paper's §4.1 verification, larger: real flows through the IDS, moved all the while, and an account at the end."""

from splitmerge.demo.plan import DemoPlan
from splitmerge.demo.result import DemoResult
from splitmerge.demo.run import run_demo

__all__ = ["DemoPlan", "DemoResult", "run_demo"]
