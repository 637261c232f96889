"""The durability barrier: what was written before it survives a power cut once it returns.

``syncfs`` writes back the whole file system, so one call serves every thread that waits at that moment (group
commit). Where the kernel cannot report its errors (before 5.8) or there is no such call, each file and
directory named by the caller is fsynced instead.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable


def _syncfs() -> Callable[[int], None] | None:
    release = os.uname().release.split(".")
    try:
        if (int(release[0]), int(release[1].split("-")[0])) < (5, 8):
            return None
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).syncfs
    except (ImportError, AttributeError, OSError, ValueError, IndexError):
        return None

    def syncfs(fd: int) -> None:
        if call(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return syncfs


def syncfs_tells() -> bool:
    """Whether this host has a syncfs that tells of writes that were lost, so that one call makes a change durable."""
    return _syncfs() is not None


class Barrier:
    """Makes what was written below ``root`` durable. One instance for each spool and process; thread-safe."""

    def __init__(self, root: str, *, use_syncfs: bool = True) -> None:
        self._root = root
        self._use_syncfs = use_syncfs
        self._call: Callable[[int], None] | None = None
        self._fd = -1
        self._turn = threading.Condition()
        self._started = 0
        self._finished = 0
        self._failure: OSError | None = None

    def __call__(self, written: Callable[[], Iterable[str]]) -> None:
        """Return once everything written so far is on the disk. Raises OSError when the disk reports a failure.

        After a failure every later call fails too: the kernel tells of lost writes once and then forgets them, so a
        later success would vouch for what is gone. A new process starts afresh.

        ``written`` names the files and directories of this change, for systems where each is synced alone.
        """
        if self._failure is not None:
            raise _again(self._failure)
        if self._fd < 0:
            self._open()
        if self._call is None:
            try:
                for path in written():
                    _fsync(path)
            except OSError as error:
                self._failure = error
                raise
        else:
            self._join_a_sync(self._call)

    @property
    def has_failed(self) -> bool:
        """Whether the disk has reported a failure, so that every later call fails."""
        return self._failure is not None

    def _open(self) -> None:
        with self._turn:
            if self._fd < 0:
                self._call = _syncfs() if self._use_syncfs else None
                self._fd = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC)
                weakref.finalize(self, os.close, self._fd)

    def _join_a_sync(self, syncfs: Callable[[int], None]) -> None:
        # DURABLE: only a sync that starts after our writes covers them, so one already under way does not count.
        with self._turn:
            mine = self._started + 1
            while self._finished < mine and self._started > self._finished:
                self._turn.wait()
            if self._failure is not None:
                raise _again(self._failure)
            if self._finished >= mine:
                return
            self._started = mine
        try:
            syncfs(self._fd)
        except OSError as error:
            self._failure = error
            raise
        finally:
            with self._turn:
                self._finished = mine
                self._turn.notify_all()


def _again(failure: OSError) -> OSError:
    return OSError(failure.errno, f"{failure.strerror}; writes before it may be lost, so this process stops here")


def _fsync(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return  # it has moved on since: whoever moved it answers for it
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
