"""Python's HTTP server for the lab: python -m tests.integration.web_server ADDRESS PORT DIRECTORY [CERTIFICATE KEY]"""

from __future__ import annotations

import socketserver
import ssl
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Does not ask DNS, which nobody answers in the lab, for its own name: that alone took ten seconds."""

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


class Handler(SimpleHTTPRequestHandler):
    """Says nothing: nobody reads it."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def main(address: str, port: str, directory: str, *keys: str) -> None:
    """Serve until killed, over TLS if there are keys; prints ``ready``."""
    server = Server((address, int(port)), partial(Handler, directory=directory))
    if keys:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*keys)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
