"""The switch's log, with simple_switch_grpc's flags."""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler

from p4switch.config import LogOptions
from splitmerge.errors import BadInput

TRACE = 5
"""Below DEBUG: one line and more for each packet."""
_LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 1,
}


def set_up(options: LogOptions) -> None:
    """Send ``p4switch``'s log where the options say; without any, warnings go to standard error.

    :raises BadInput: the log file cannot be written.
    """
    logging.addLevelName(TRACE, "TRACE")
    logger = logging.getLogger("p4switch")
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    logger.setLevel(_LEVELS[options.level])
    handler = _handler(options)
    handler.setFormatter(logging.Formatter("[%(asctime)s] [%(name)s] [%(levelname)s] [%(threadName)s] %(message)s"))
    logger.addHandler(handler)


def traces(options: LogOptions) -> bool:
    """Whether what happens to each packet is to be seen."""
    return (options.console or options.file is not None) and options.level in ("trace", "debug")


def _handler(options: LogOptions) -> logging.Handler:
    if options.console:
        return logging.StreamHandler(sys.stdout)
    if options.file is None:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setLevel(logging.WARNING)
        return handler
    path = options.file.with_name(options.file.name + ".txt")
    try:
        return RotatingFileHandler(path, maxBytes=options.max_size, backupCount=max(0, options.max_files - 1))
    except OSError as error:
        raise BadInput("--log-file", f"cannot write {path}: {error.strerror}", "choose another file") from None
