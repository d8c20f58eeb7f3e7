"""The load balancer of §2.1: virtual services in front of hidden servers, with health checks."""

from middleboxes.adc.config import AdcConfig, Health, Server, Service
from middleboxes.adc.middlebox import Adc
from middleboxes.adc.state import LOAD, Check, Connection, Load, combine

__all__ = [
    "LOAD",
    "Adc",
    "AdcConfig",
    "Check",
    "Connection",
    "Health",
    "Load",
    "Server",
    "Service",
    "combine",
]
