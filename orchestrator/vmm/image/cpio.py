"""The archive format of an initramfs: cpio "newc" (Linux: driver-api/early-userspace/buffer-format)."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath
from types import TracebackType

_TRAILER = "TRAILER!!!"


class Archive:
    """Writes a cpio archive; directories on the way are made by themselves. Equal content gives equal bytes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._names: set[str] = set()
        self._inode = 0

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if kind is None:
            self._entry(_TRAILER, 0, b"")
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name.lstrip("/") in self._names

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """A regular file; one that is there already stays as it is."""
        self._add(name, stat.S_IFREG | mode, content)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def directory(self, name: str, mode: int = 0o755) -> None:
        """A directory."""
        self._add(name, stat.S_IFDIR | mode, b"")

    def character_device(self, name: str, major: int, minor: int) -> None:
        """A device node."""
        self._add(name, stat.S_IFCHR | 0o600, b"", (major, minor))

    def _add(self, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        name = name.strip("/")
        if name in self._names:
            return
        parent = str(PurePosixPath(name).parent)
        if parent != ".":
            self.directory(parent)
        self._names.add(name)
        self._entry(name, mode, content, device)

    def _entry(self, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._inode, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(encoded), 0)
        self._padded(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self._padded(content)

    def _padded(self, data: bytes) -> None:
        self._file.write(data + b"\0" * (-len(data) % 4))
