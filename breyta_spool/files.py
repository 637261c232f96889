"""The file system, and the only module that changes it: every mutation of a spool is a call in here.

What the calls have in common stands here once: a stale handle is tried again, a lost reply is looked into, a
half-written new file is taken away, no symlink at the end of a path is followed. ``hook``, when set, is called
with the operation and the path before each mutation, so that tests can stop the process or fail the call there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from breyta_spool.errors import Damaged, InvalidInput

hook: Callable[[str, str], None] | None = None

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CHUNK = 1 << 20
_STALE_TRIES = 4


def _again(error: OSError, call: Callable[..., Any], *args: Any) -> Any:
    """Try a call again that failed with ESTALE, which NFS answers when a directory was replaced under it."""
    for attempt in range(_STALE_TRIES):
        if error.errno != errno.ESTALE:
            break
        time.sleep(0.01 * 4**attempt)
        try:
            return call(*args)
        except OSError as again:
            error = again
    raise error


# -- changing ---------------------------------------------------------------------------------------


def make_dir(path: str, mode: int = 0o777) -> None:
    """Make one directory. Raises FileExistsError."""
    if hook is not None:
        hook("mkdir", path)
    try:
        os.mkdir(path, mode)
    except OSError as error:
        _again(error, os.mkdir, path, mode)


def make_dirs(path: str) -> None:
    """Make a directory and those above it, as far as they are missing."""
    try:
        make_dir(path)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_dirs(os.path.dirname(path))
        make_dirs(path)


def write_new(path: str, data: bytes, mode: int = 0o666) -> None:
    """Write a file that must not exist yet. On failure none is left. Raises FileExistsError."""
    if hook is not None:
        hook("create", path)
    try:
        fd = os.open(path, _NEW, mode)
    except OSError as error:
        fd = _again(error, os.open, path, _NEW, mode)
    try:
        if data:
            if hook is not None:
                hook("write", path)
            written = os.write(fd, data)
            while written < len(data):
                written += os.write(fd, data[written:])
    except BaseException:
        os.close(fd)
        _forget(path)
        raise
    try:
        os.close(fd)  # NFS reports a full disk only here
    except OSError:
        _forget(path)
        raise


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def replace(path: str, data: bytes, mode: int = 0o666) -> None:
    """Write a file whose readers see the old content or the new, never a part. For the few that change."""
    directory, name = os.path.split(path)
    aside = f"{directory}/.{name}.{os.getpid()}.{time.monotonic_ns():x}"
    write_new(aside, data, mode)
    try:
        rename(aside, path)
    except BaseException:
        _forget(aside)
        raise


def append(path: str, data: bytes) -> None:
    """Add to the end of a file, made when missing, in one write where the system allows it."""
    if hook is not None:
        hook("append", path)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, data[written:])
    finally:
        os.close(fd)


def share(directory: str, group: str) -> None:
    """Give a directory to a Unix group; what is made in it will belong to the group too. Raises LookupError."""
    import shutil

    if hook is not None:
        hook("share", directory)
    shutil.chown(directory, group=group)
    os.chmod(directory, 0o2770)  # noqa: S103 - the group is who shares it


@contextmanager
def alone(lock_file: str) -> Iterator[None]:
    """Keep processes of one host that would write the same files apart; where locks do not work, let them in.

    Raises TimeoutError when another one holds the lock for a minute.
    """
    if hook is not None:
        hook("lock", lock_file)
    fd = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        _wait_for_lock(fd, lock_file)
        yield
    finally:
        os.close(fd)


def _wait_for_lock(fd: int, lock_file: str) -> None:
    for _ in range(6000):
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            return None  # no locks on this mount; helpers side by side are rare, and one alone needs none
    raise TimeoutError(errno.ETIMEDOUT, "another process holds the lock for a minute", lock_file)


def open_log(path: str) -> int:
    """A file to append to, as a descriptor that the caller hands to a process and closes."""
    if hook is not None:
        hook("create", path)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def truncate(path: str, size: int) -> None:
    """Cut a file to a size in bytes."""
    if hook is not None:
        hook("truncate", path)
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.ftruncate(fd, size)
    finally:
        os.close(fd)


def symlink(target: str, path: str) -> None:
    """Make a symbolic link. Raises FileExistsError."""
    if hook is not None:
        hook("symlink", path)
    try:
        os.symlink(target, path)
    except OSError as error:
        _again(error, os.symlink, target, path)


def rename(source: str, destination: str) -> None:
    """Rename; what stood at the destination is replaced."""
    if hook is not None:
        hook("rename", destination)
    try:
        os.rename(source, destination)
    except OSError as error:
        _again(error, os.rename, source, destination)


def publish(source: str, destination: str) -> None:
    """Rename a prepared directory into place, and believe a failure only after looking.

    Raises OSError when the source did not arrive.
    """
    try:
        rename(source, destination)
    except OSError as error:
        directory, name = os.path.split(destination)
        # RACE: the reply of an NFS server can be lost; the second try of the rename then finds no source.
        if name not in _names_or_none(directory):
            raise error


def swap(directory: str, old: str, new: str) -> bool:
    """Rename one name of a directory to another; whether it is now there by us. The compare-and-swap of states.

    Of all who try to rename the same old name one wins; the others get False. Raises OSError when the file
    system failed for another reason.
    """
    try:
        rename(f"{directory}/{old}", f"{directory}/{new}")
    except OSError as error:
        # RACE: a lost NFS reply looks like a lost race. The new name is ours alone (it carries the token, or the
        # attempt that only the token's holder may end), so if it is there, the rename was done.
        if new in _names_or_none(directory):
            return True
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def touch(path: str) -> None:
    """Set a file's times to now, by the clock of the file server. Raises FileNotFoundError."""
    if hook is not None:
        hook("touch", path)
    try:
        os.utime(path)
    except OSError as error:
        _again(error, os.utime, path)


def unlink(path: str) -> None:
    """Remove a file or link; one that is gone already is fine."""
    if hook is not None:
        hook("unlink", path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def remove_dir_if_empty(path: str) -> bool:
    """Remove a directory if nothing is in it; whether it is gone."""
    if hook is not None:
        hook("rmdir", path)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_tree(path: str, aside: str) -> None:
    """Take a directory out of the way by one rename, then remove what can be removed of it.

    On NFS a file that somebody still has open cannot go yet; it stays at ``aside`` for a later sweep.
    """
    try:
        rename(path, aside)
    except FileNotFoundError:
        return
    sweep(aside)


def sweep(path: str) -> None:
    """Remove a directory tree or file in tmp/ as far as possible, never following a link."""
    if hook is not None:
        hook("sweep", path)
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil  # late: the helper commands never need it

        shutil.rmtree(path, ignore_errors=True)
    else:
        _forget(path)


def copy_new(source: str, destination: str) -> tuple[int, str]:
    """Copy a regular file to a new name, by the kernel where it can; gives its size in bytes and its sha256.

    Raises InvalidInput when the source is not a regular file or changes while it is copied; then no copy is left.
    """
    import hashlib

    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise InvalidInput(f"not a regular file: {source}", path=source)
        if hook is not None:
            hook("create", destination)
        out = os.open(destination, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            _copy_bytes(fd, out, before.st_size)
            os.lseek(out, 0, os.SEEK_SET)
            with open(out, "rb", closefd=False) as copied:
                digest = hashlib.file_digest(copied, "sha256").hexdigest()
            size = os.fstat(out).st_size
        except BaseException:
            os.close(out)
            _forget(destination)
            raise
        os.close(out)
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or size != before.st_size:
        _forget(destination)
        raise InvalidInput(
            f"{source} changed while it was copied",
            hint="attach it when nothing writes to it any more",
            path=source,
        )
    return size, digest


def _copy_bytes(source: int, destination: int, size: int) -> None:
    try:
        while size > 0 and (count := os.copy_file_range(source, destination, min(size, 1 << 30))):
            size -= count
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            raise
    # Whatever the kernel did not copy, and what has grown since, is copied by hand.
    while chunk := os.read(source, _CHUNK):
        view = memoryview(chunk)
        while view:
            view = view[os.write(destination, view) :]


# -- reading ----------------------------------------------------------------------------------------


def read(path: str, limit: int) -> bytes:
    """The whole of a regular file of at most ``limit`` bytes. Raises FileNotFoundError, Damaged.

    A symlink at the end of the path, a device, a pipe or a larger file is Damaged: nothing of ours looks like that.
    """
    try:
        fd = os.open(path, _READ)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise Damaged(f"{path} is a symbolic link where a file was expected", path=path) from None
        fd = _again(error, os.open, path, _READ)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Damaged(f"{path} is not a regular file", path=path)
        if found.st_size > limit:
            raise Damaged(f"{path} has {found.st_size} bytes; at most {limit} are expected there", path=path)
        data = os.read(fd, found.st_size + 1)
        while len(data) < found.st_size and (more := os.read(fd, found.st_size + 1 - len(data))):
            data += more
        return data
    finally:
        os.close(fd)


def read_ends(path: str, head: int, tail: int) -> tuple[bytes, bytes]:
    """The first and the last bytes of a file that grows; the same bytes twice when it is small."""
    fd = os.open(path, _READ)
    try:
        size = os.fstat(fd).st_size
        first = os.read(fd, head)
        if size <= len(first):
            return first, first
        return first, os.pread(fd, tail, max(0, size - tail))
    finally:
        os.close(fd)


def names(directory: str) -> list[str]:
    """The names in a directory, in no order. A listing is what NFS keeps fresh. Raises FileNotFoundError."""
    try:
        return os.listdir(directory)
    except OSError as error:
        listed: list[str] = _again(error, os.listdir, directory)
        return listed


def _names_or_none(directory: str) -> list[str]:
    try:
        return names(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def names_if_any(directory: str) -> list[str]:
    """The names in a directory, none when it is not there."""
    return _names_or_none(directory)


def modified(path: str) -> float:
    """When a file was last written or touched, in seconds of the file server's clock. Raises FileNotFoundError.

    Opened before it is asked: on NFS that is what brings fresh attributes.
    """
    fd = os.open(path, _READ)
    try:
        return os.fstat(fd).st_mtime
    finally:
        os.close(fd)


def changed(path: str) -> float:
    """When a file was last renamed or written, in seconds of the file server's clock. Raises FileNotFoundError."""
    fd = os.open(path, _READ)
    try:
        return os.fstat(fd).st_ctime
    finally:
        os.close(fd)
