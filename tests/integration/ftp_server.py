"""A real FTP server (pyftpdlib) for the lab: one user, one directory, at the address given.

python -m tests.integration.ftp_server ADDRESS PORT DIRECTORY [DATA_PORT]

DATA_PORT: where active data connections begin (RFC 959 says 20); any free one if it is left out.
"""

from __future__ import annotations

import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers.ftp.control import FTPHandler
from pyftpdlib.handlers.ftp.dispatchers import ActiveDTP
from pyftpdlib.servers import FTPServer


def main(address: str, port: str, directory: str, data_port: str = "0") -> None:
    """Serve until killed; prints ``ready``."""

    class FromPort(ActiveDTP):
        def bind(self, addr):
            if int(data_port):
                self.set_reuse_addr()
            super().bind((addr[0], int(data_port)))

    class Handler(FTPHandler):
        active_dtp = FromPort
        authorizer = DummyAuthorizer()
        permit_privileged_ports = False
        auth_failed_timeout = 0.2  # of a login; three seconds are for people

    Handler.authorizer.add_user("lab", "lab", directory, perm="elradfmw")
    server = FTPServer((address, int(port)), Handler)
    print("ready", flush=True)
    server.serve_forever(handle_exit=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
