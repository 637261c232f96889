"""The three system calls that Python does not offer: inotify, to sleep until something happens, and syncfs."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from collections.abc import Iterator

IN_OPEN, IN_MOVED_TO = 0x20, 0x80
_HEAD = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


def syncfs(fd: int) -> None:
    """Write back the whole file system that ``fd`` is on."""
    _checked(_libc.syncfs(fd))


def settle(directory: str) -> None:
    """Let nothing that was written before disturb what is measured next."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


class Inotify:
    """One inotify descriptor."""

    def __init__(self) -> None:
        self.fd: int = _checked(_libc.inotify_init1(os.O_CLOEXEC))

    def add(self, directory: str, mask: int) -> int:
        """Watch a directory; gives the number that its events carry."""
        return _checked(_libc.inotify_add_watch(self.fd, os.fsencode(directory), mask))

    def remove(self, watch: int) -> None:
        """Stop watching."""
        _checked(_libc.inotify_rm_watch(self.fd, watch))

    def read(self, seconds: float) -> Iterator[tuple[int, str]]:
        """Wait for events; each is the watch's number and the name. Raises TimeoutError."""
        if not select.select([self.fd], [], [], seconds)[0]:
            raise TimeoutError("no event came")
        data = os.read(self.fd, 1 << 16)
        at = 0
        while at < len(data):
            watch, _, _, size = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            yield watch, data[at : at + size].rstrip(b"\0").decode()
            at += size

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)
