"""Reading the file system so that what is seen is what is there, also on a share and where others put links.

A stale handle is tried again, a name is missing only after a fresh look, no link is followed where a file or a
directory of the spool is expected, and what is larger than it may be is not read.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from breyta_spool import freshness
from breyta_spool.errors import Damaged

T = TypeVar("T")

READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WALK = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
_NO_DIRECTORY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_STALE_TRIES = 4
_SMALL = 1 << 13


def again_if_stale(call: Callable[..., T], *args: Any) -> T:
    """Do something, and again while the answer is ESTALE: NFS says so when what was meant was replaced under us."""
    try:
        return call(*args)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
    for attempt in range(_STALE_TRIES):
        time.sleep(0.01 * 4**attempt)
        try:
            return call(*args)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return call(*args)


def _look(call: Callable[..., T], path: str, *args: Any) -> T:
    """The same, and believe that something is missing only after a fresh look.

    To list the directory above corrects what a client of a file server has taken as missing (freshness.py).
    """
    try:
        return again_if_stale(call, path, *args)
    except FileNotFoundError:
        directory, name = os.path.split(path)
        if directory in ("", path) or not freshness.HERE.may_hide() or name not in names_if_any(directory):
            raise
    return again_if_stale(call, path, *args)


def _open_directory(path: str, flags: int) -> int:
    """Open a directory to read it from the server, not from what a client has kept of it."""
    fd = os.open(path, flags)
    if freshness.HERE.keeps_listings(fd):
        with suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return fd


def _open(path: str) -> int:
    try:
        return os.open(path, READ)
    except OSError as error:
        raise no_file(error, path) from None


def no_file(error: OSError, path: str) -> OSError | Damaged:
    """What to raise when a file could not be opened: Damaged for a link, a directory or a socket in its place."""
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return Damaged(f"{path} is a symbolic link where a file was expected", path=path)
    if error.errno in (errno.EISDIR, errno.ENXIO):
        return Damaged(f"{path} is not a regular file", path=path)
    return error


def read(path: str, limit: int) -> bytes:
    """The whole of a regular file of at most ``limit`` bytes. Raises FileNotFoundError, Damaged.

    A symlink at the end of the path, a device, a pipe or a larger file is Damaged: nothing of ours looks like that.
    """
    # All of it is tried again, not only the open: on NFS a file that is replaced between the two goes stale.
    return _look(_read, path, limit)


def _read(path: str, limit: int) -> bytes:
    fd = _open(path)
    try:
        # Most are small: to read on to the end is cheaper than to ask first how much there is.
        data = os.read(fd, _SMALL)
        more = data and os.read(fd, _SMALL)
        if data and not more and len(data) <= limit:
            return data
        return _rest(fd, path, limit, data + more)
    except (BlockingIOError, IsADirectoryError):
        raise Damaged(f"{path} is not a regular file", path=path) from None
    finally:
        os.close(fd)


def _rest(fd: int, path: str, limit: int, data: bytes) -> bytes:
    """The whole of a file of which the first ``data`` was read: one that is large, empty or no file."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise Damaged(f"{path} is not a regular file", path=path)
    if found.st_size > limit or len(data) > limit:
        raise Damaged(f"{path} has {found.st_size} bytes; at most {limit} are expected there", path=path)
    while len(data) < found.st_size and (more := os.read(fd, found.st_size - len(data))):
        data += more
    return data


def read_ends(path: str, head: int, tail: int, *, may_come: bool = True) -> tuple[bytes, bytes]:
    """The first and the last bytes of a file that grows; the same bytes twice when it is small.

    ``may_come``: it may have been made since somebody on this host looked for it in vain. Raises FileNotFoundError,
    Damaged for what is no regular file.
    """
    return _look(_read_ends, path, head, tail) if may_come else again_if_stale(_read_ends, path, head, tail)


def _read_ends(path: str, head: int, tail: int) -> tuple[bytes, bytes]:
    fd = _open(path)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Damaged(f"{path} is not a regular file", path=path)
        first = os.read(fd, head)
        if found.st_size <= len(first):
            return first, first
        return first, os.pread(fd, tail, max(0, found.st_size - tail))
    finally:
        os.close(fd)


def open_below(top: str, place: str) -> int:
    """Open a regular file at ``place`` below a directory for reading, following no link on the way; a descriptor.

    For files that somebody else wrote: a link in their directories could lead anywhere, and be put there between a
    check and the open. Raises FileNotFoundError, and Damaged for a link or whatever else is no regular file.
    """
    *directories, name = place.split("/")
    fd: int | None = None
    try:
        # Each directory is opened, so what is below it is looked for afresh.
        fd = _look(os.open, top, _WALK)
        for directory in directories:
            below = again_if_stale(_open_at, fd, directory, _WALK)
            os.close(fd)
            fd = below
        found = again_if_stale(_open_at, fd, name, READ)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.ENXIO):
            raise Damaged(f"{top}/{place} is not reached by directories alone, or is no file", path=top) from None
        raise
    finally:
        if fd is not None:
            os.close(fd)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise Damaged(f"{top}/{place} is not a regular file", path=f"{top}/{place}")
    return found


def _open_at(above: int, name: str, flags: int) -> int:
    return os.open(name, flags, dir_fd=above)


def read_below(top: str, place: str, limit: int) -> bytes:
    """The whole of a file of at most ``limit`` bytes, following no link. Raises FileNotFoundError, Damaged."""
    with open(open_below(top, place), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise Damaged(f"{top}/{place} has {size} bytes; at most {limit} are expected there", path=f"{top}/{place}")
        return file.read(limit)


def names(directory: str) -> list[str]:
    """The names in a directory, in no order, fresh also on NFS. Raises FileNotFoundError."""
    return _look(_listed, directory, _WALK & ~os.O_NOFOLLOW)


def names_if_any(directory: str) -> list[str]:
    """The names in a directory, none when it is not there, or is a link that somebody has put in its place."""
    return _listed_if_any(directory, _WALK)


def names_at_root(root: str) -> list[str]:
    """The same for the root of a spool, which may be reached by a link."""
    return _listed_if_any(root, _WALK & ~os.O_NOFOLLOW)


def _listed_if_any(directory: str, flags: int) -> list[str]:
    try:
        return _look(_listed, directory, flags)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY:
            raise
        return []


def _listed(directory: str, flags: int) -> list[str]:
    fd = _open_directory(directory, flags)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


@contextmanager
def scanning(directory: str) -> Iterator[Iterator[str]]:
    """The names in a directory that may have many, one by one; none where ``names_if_any`` gives none."""
    with _entries(directory) as entries:
        yield (entry.name for entry in entries)


def kinds_if_any(directory: str) -> dict[str, bool]:
    """The names in a directory but hidden ones, each with whether it is a directory itself, and not a link to one."""
    with _entries(directory) as entries:
        return {e.name: e.is_dir(follow_symlinks=False) for e in entries if e.name[0] != "."}


@contextmanager
def _entries(directory: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    try:
        fd = _look(_open_directory, directory, _WALK)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY:
            raise
        yield iter(())
        return
    try:
        with os.scandir(fd) as entries:
            yield _until_gone(entries)
    finally:
        os.close(fd)


def _until_gone(entries: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    try:
        yield from entries
    except OSError as error:
        # RACE: the directory was removed as it was read. NFS has another word for that.
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise


def check_no_link(top: str, place: str) -> None:
    """Raise Damaged when one of the directories at ``place`` below ``top`` is a link, or something else than one.

    For the moment before a write: what is put there later than that is not seen. What is not there is fine.
    """
    at = top
    for name in place.split("/"):
        at = f"{at}/{name}"
        if not check_directory(at):
            return


def check_directory(path: str) -> bool:
    """The same for one directory; whether it is there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(mode):
        raise Damaged(f"{path} is a link or a file, not a directory", path=path)
    return True


def modified(path: str) -> float:
    """When a file was last written or touched, in seconds of the file server's clock. Raises FileNotFoundError.

    Opened before it is asked: on NFS that is what brings fresh attributes. Raises Damaged for a link.
    """
    return _look(_asked, path).st_mtime


def changed(path: str) -> float:
    """When a file was last renamed or written, in seconds of the file server's clock. Raises FileNotFoundError."""
    return _look(_asked, path).st_ctime


def inode(path: str) -> int:
    """Which file a name stands for. Raises FileNotFoundError."""
    return _look(_asked, path).st_ino


def _asked(path: str) -> os.stat_result:
    fd = _open(path)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)
