"""A real FTP client (ftplib) for the lab: uploads and downloads until its input ends, slowly, and compares.

python -m tests.integration.ftp_client ADDRESS PORT active|passive BYTES CHUNKS_A_SECOND

Prints ``ready`` when it is logged in, and at the end a line of JSON.
"""

from __future__ import annotations

import ftplib
import hashlib
import io
import json
import os
import select
import sys
import time

CHUNK = 8192


def main(address: str, port: str, mode: str, size: str, rate: str) -> None:
    """One control connection, as many data connections as there is time for, at least two."""
    content = os.urandom(int(size))
    ftp = ftplib.FTP()
    ftp.connect(address, int(port), timeout=30)
    ftp.login("lab", "lab")
    ftp.set_pasv(mode == "passive")
    print("ready", flush=True)
    pause = 1 / float(rate)
    transfers = 0
    while True:
        ftp.storbinary("STOR file", io.BytesIO(content), CHUNK, lambda block: time.sleep(pause))
        digest = hashlib.sha256()

        def take(block: bytes, digest: hashlib._Hash = digest) -> None:
            digest.update(block)
            time.sleep(pause)

        ftp.retrbinary("RETR file", take, CHUNK)
        if digest.digest() != hashlib.sha256(content).digest():
            raise SystemExit("the file came back changed")
        transfers += 2
        if select.select([sys.stdin], [], [], 0)[0]:
            break
    assert ftp.nlst() == ["file"]
    ftp.quit()
    print(json.dumps({"transfers": transfers}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
