"""The P4Runtime server: `ControlPlane` is all of it but gRPC, `Server` listens."""

from p4switch.p4runtime.answers import BatchRefused
from p4switch.p4runtime.core import API_VERSION, ControlPlane, ServerOptions
from p4switch.p4runtime.pipeline import Pipeline, PipelineOptions
from p4switch.p4runtime.service import Server, TlsOptions
from p4switch.p4runtime.status import Code, Refused
from p4switch.p4runtime.streams import StreamLimits

__all__ = [
    "API_VERSION",
    "BatchRefused",
    "Code",
    "ControlPlane",
    "Pipeline",
    "PipelineOptions",
    "Refused",
    "Server",
    "ServerOptions",
    "StreamLimits",
    "TlsOptions",
]
