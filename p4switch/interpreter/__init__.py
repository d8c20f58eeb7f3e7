"""The interpreter back end: readable, and the oracle that other back ends are compared with.

It specialises the IR to Python source when a program is loaded, one writer for each language element, and calls that.
``Interpreter.source`` is the text: straight lines with the P4 source's lines beside them.
"""

from p4switch.interpreter.engine import Interpreter

__all__ = ["Interpreter"]
