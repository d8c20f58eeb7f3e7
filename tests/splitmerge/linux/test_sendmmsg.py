"""Frames in batches: the kernel takes all of them in one call, and each arrives as it was."""

from __future__ import annotations

import socket

from splitmerge.linux import sendmmsg


class _Counting:
    """The C library, with its calls counted."""

    def __init__(self, libc):
        self._libc = libc
        self.calls = 0

    def sendmmsg(self, *arguments):
        self.calls += 1
        return self._libc.sendmmsg(*arguments)


def test_a_batch_is_one_call(monkeypatch):
    libc = _Counting(sendmmsg._LIBC)
    monkeypatch.setattr(sendmmsg, "_LIBC", libc)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setblocking(False)
        sender = sendmmsg.BatchSender(ours.fileno(), longest=100, batch=8)
        frames = [bytes((number,)) * (10 + number) for number in range(8)]
        assert sender.send(frames) == 8
        assert [theirs.recv(200) for _ in frames] == frames
    assert (libc.calls, sender.failures) == (1, 0)
