"""The paper's §4.1 verification, larger: real flows through the IDS, moved all the while, and an account at the end.

`splitmerge.demo.run.run_demo` runs it; importing this package stays cheap, since every command line does.
"""

from splitmerge.demo.plan import DemoPlan

__all__ = ["DemoPlan"]
