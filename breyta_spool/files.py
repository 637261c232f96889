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
from typing import Any, TypeVar

from breyta_spool import freshness, looking, paths
from breyta_spool.errors import Damaged, InvalidInput

T = TypeVar("T")

hook: Callable[[str, str], None] | None = None

_OWN = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_LOCK = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_CHUNK = 1 << 20


def _do(operation: str, path: str, call: Callable[..., T], *args: Any) -> T:
    """One change of the disk."""
    try:
        if hook is not None:
            hook(operation, path)
        return call(*args)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise

    def change() -> T:
        if hook is not None:
            hook(operation, path)
        return call(*args)

    return looking.again_if_stale(change)


def make_dir(path: str, mode: int = 0o777) -> None:
    """Make one directory. Raises FileExistsError."""
    _do("mkdir", path, os.mkdir, path, mode)


def make_own_dir(path: str, mode: int = 0o777) -> None:
    """Make a directory of a name that nobody else can make. Raises FileExistsError when something else has it."""
    try:
        _do("mkdir", path, os.mkdir, path, mode)
    except FileExistsError:
        # RACE: an NFS server that loses its power after it has done as it was told cannot say so. The client asks
        # again when it is back, and is told that there is such a directory: ours.
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise


def make_dirs(path: str, top: str, *, in_spool: bool = False) -> None:
    """Make a directory and those above it, as far as they are missing, up to ``top``, which must be there.

    ``in_spool``: ``top`` is the root of a spool, and nothing is made there once its spool.json is gone. Below an empty
    mount point, it would be hidden as soon as the share is back. Raises FileNotFoundError.
    """
    above = os.path.dirname(path)
    if in_spool and above == top and paths.SPOOL_FILE not in looking.names(top):
        raise FileNotFoundError(errno.ENOENT, "the spool is gone; is the share mounted?", top)
    try:
        make_dir(path)
    except FileExistsError:
        pass
    except FileNotFoundError:
        if above == top:
            raise
        make_dirs(above, top, in_spool=in_spool)
        try:
            make_dir(path)
        except FileExistsError:
            pass


def write(path: str, data: bytes) -> None:
    """Write a file whose name nobody else may make, in a directory of one's own. On failure none is left.

    To make it without asking whether it is there saves NFS a question: an exclusive one sets its times by another.
    """
    _write(path, data, _OWN, 0o666)


def write_new(path: str, data: bytes, mode: int = 0o666) -> None:
    """Write a file that must not exist yet. On failure none is left. Raises FileExistsError."""
    _write(path, data, _NEW, mode)


def _write(path: str, data: bytes, flags: int, mode: int) -> None:
    fd = _do("create", path, os.open, path, flags, mode)
    if data:
        try:
            _write_all(fd, path, data)
        except BaseException:
            os.close(fd)
            forget(path)
            raise
    try:
        os.close(fd)  # NFS reports a full disk only here
    except OSError:
        forget(path)
        raise


def _write_all(fd: int, path: str, data: bytes) -> None:
    if hook is not None:
        hook("write", path)
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def make_empty(path: str) -> None:
    """Make an empty file of a name that nobody else may make."""
    _do("create", path, _make_empty, path)


def _make_empty(path: str) -> None:
    if not freshness.HERE.may_hide():
        try:
            os.mknod(path, 0o666)  # the same as to open and close it, in one call; but for NFS one more
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise  # else it is a file system that makes files only by opening them
        else:
            return
    os.close(os.open(path, _OWN, 0o666))


@contextmanager
def writing_new(path: str) -> Iterator[Callable[[bytes], None]]:
    """Write a file that must not exist yet piece by piece, with the function this gives. On failure none is left.

    Raises FileExistsError.
    """
    fd = _do("create", path, os.open, path, _NEW, 0o666)
    try:
        yield lambda data: _write_all(fd, path, data)
    except BaseException:
        os.close(fd)
        forget(path)
        raise
    try:
        os.close(fd)
    except OSError:
        forget(path)
        raise


def aside_of(path: str) -> str:
    """A name beside a file, for what is on its way to it: nobody else uses it, and readers pass over it."""
    directory, name = os.path.split(path)
    name = os.fsdecode(os.fsencode(name)[:200])  # names are bounded in bytes
    return os.path.join(directory, f".{name}.{os.getpid()}.{time.monotonic_ns():x}")


def forget(path: str) -> None:
    """Take away what was written aside and is not wanted any more, as far as possible."""
    try:
        os.unlink(path)
    except OSError:
        pass


def replace(path: str, data: bytes, mode: int = 0o666) -> None:
    """Write a file whose readers see the old content or the new, never a part. For the few that change."""
    aside = aside_of(path)
    write_new(aside, data, mode)
    try:
        put(aside, path)
    except BaseException:
        forget(aside)
        raise


def put(aside: str, path: str) -> None:
    """Rename a file that was prepared aside into place, and believe a failure only after looking. Raises OSError."""
    prepared = os.lstat(aside).st_ino
    try:
        rename(aside, path)
    except OSError as error:
        # RACE: the reply of an NFS server can be lost; the second try of the rename then finds no source.
        if not _is_there(path, prepared):
            raise error


def _is_there(path: str, inode: int) -> bool:
    try:
        return looking.inode(path) == inode
    except OSError:
        return False


def append(path: str, data: bytes) -> None:
    """Add a line or lines to a file, made when missing, in one write where the system allows it.

    Half a line that an earlier writer left is ended first, so that it spoils only itself.
    """
    try:
        fd = _do("append", path, os.open, path, _APPEND, 0o666)
    except OSError as error:
        raise looking.no_file(error, path) from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):  # a write to a pipe may wait for ever
            raise Damaged(f"{path} is not a regular file", path=path)
        size = found.st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            data = b"\n" + data
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, data[written:])
    finally:
        os.close(fd)


def publish_new(path: str, data: bytes, mode: int = 0o666, *, sync: bool = False) -> None:
    """Write a file that must not exist yet and is seen whole or not at all. Raises FileExistsError.

    ``sync``: not even a power cut leaves the name with a part of the content.
    """
    aside = aside_of(path)
    write_new(aside, data, mode)
    if sync:
        _sync(aside)
    place(aside, path)


def _sync(aside: str) -> None:
    """Bring a prepared file to the disk before it gets its name; on failure none is left."""
    fd = -1
    try:
        fd = _do("sync", aside, os.open, aside, looking.READ)
        os.fsync(fd)  # DURABLE: a name that counts by being there must never stand for a torn file
    except BaseException:
        forget(aside)
        raise
    finally:
        if fd >= 0:
            os.close(fd)


def place(aside: str, path: str) -> None:
    """Give a prepared file its name, if nobody has it. Raises FileExistsError."""
    directory, name = os.path.split(path)
    try:
        link(aside, path)
    except FileExistsError:
        # RACE: the reply of an NFS server can be lost; the second try of the link then finds what the first made.
        if not _is_there(path, os.lstat(aside).st_ino):
            raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if name in looking.names(directory):
            raise FileExistsError(errno.EEXIST, "somebody else was faster", path) from None
        rename(aside, path)  # a file system without hard links
    finally:
        forget(aside)


def link(source: str, path: str) -> None:
    """Give a file a second name. Raises FileExistsError."""
    _do("link", path, os.link, source, path)


def truncate(path: str, size: int) -> None:
    """Cut a file to a size in bytes."""
    fd = _do("truncate", path, os.open, path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.ftruncate(fd, size)
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
    try:
        fd = _do("lock", lock_file, os.open, lock_file, _LOCK, 0o666)
    except OSError as error:
        raise looking.no_file(error, lock_file) from None
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
    return _do("create", path, os.open, path, _APPEND, 0o666)


def symlink(target: str, path: str) -> None:
    """Make a symbolic link. Raises FileExistsError."""
    _do("symlink", path, os.symlink, target, path)


def rename(source: str, destination: str) -> None:
    """Rename; what stood at the destination is replaced."""
    _do("rename", destination, os.rename, source, destination)


def publish(source: str, destination: str) -> None:
    """Rename a prepared directory into place, and believe a failure only after looking.

    Raises OSError when the source did not arrive.
    """
    try:
        rename(source, destination)
    except OSError as error:
        directory, name = os.path.split(destination)
        # RACE: the reply of an NFS server can be lost; the second try of the rename then finds no source.
        if name not in looking.names_if_any(directory):
            raise error


def swap(directory: str, old: str, new: str) -> bool:
    """Rename one name of a directory to another: the compare-and-swap of states. Whether it was done.

    Of all who try to rename the same old name one wins; the others get False. Raises OSError when the rename failed
    for another reason, and a look shows that it was not done all the same.
    """
    try:
        rename(f"{directory}/{old}", f"{directory}/{new}")
    except FileNotFoundError:
        return False
    except OSError:
        found = looking.names_if_any(directory)
        if new not in found or old in found:
            raise
    return True


def swap_to_ours(directory: str, old: str, new: str) -> bool:
    """The same for a new name that nobody else can have made."""
    # RACE: the reply of an NFS server can be lost; the second try of the rename then finds no old name.
    return swap(directory, old, new) or new in looking.names_if_any(directory)


def touch(path: str) -> None:
    """Set a file's times to now, by the clock of the file server. Raises FileNotFoundError."""
    _do("touch", path, _touch, path)


def _touch(path: str) -> None:
    os.utime(path, follow_symlinks=False)


def unlink(path: str) -> None:
    """Remove a file or link; one that is gone already is fine."""
    try:
        _do("unlink", path, os.unlink, path)
    except FileNotFoundError:
        pass


def remove_dir_if_empty(path: str) -> bool:
    """Remove a directory if nothing is in it; whether it is gone."""
    try:
        _do("rmdir", path, os.rmdir, path)
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
    """Remove a directory tree or file that nobody else uses as far as possible, never following a link."""
    if hook is not None:
        hook("sweep", path)
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil  # late: the helper commands never need it

        shutil.rmtree(path, ignore_errors=True)
    else:
        forget(path)


def copy_new(source: str, destination: str) -> tuple[int, str]:
    """Copy a regular file to a new name, by the kernel where it can; gives its size in bytes and its sha256.

    The copy is seen whole or not at all. Raises FileExistsError, and InvalidInput when the source is not a regular
    file or changes while it is copied.
    """
    if os.path.lexists(destination):
        raise FileExistsError(errno.EEXIST, "there is a file of that name", destination)
    aside = aside_of(destination)
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise InvalidInput(f"not a regular file: {source}", path=source)
        size, digest = _copy_aside(fd, aside, before.st_size)
        if size != before.st_size or _has_changed(fd, before, digest):
            forget(aside)
            hint = "attach it when nothing writes to it any more"
            raise InvalidInput(f"{source} changed while it was copied", hint=hint, path=source)
    finally:
        os.close(fd)
    place(aside, destination)
    return size, digest


def _has_changed(fd: int, before: os.stat_result, digest: str) -> bool:
    """Whether a file was written to since it was looked at, though its size and times may have been put back."""
    after = os.fstat(fd)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        return True
    if after.st_ctime_ns == before.st_ctime_ns:
        return False
    # Nobody can set this time: it was written and its mtime set, or only renamed, linked or given another mode.
    import hashlib

    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as again:
        return hashlib.file_digest(again, "sha256").hexdigest() != digest


def _copy_aside(source: int, aside: str, size: int) -> tuple[int, str]:
    import hashlib

    out = _do("create", aside, os.open, aside, _LOCK | os.O_EXCL, 0o666)
    try:
        if hook is not None:
            hook("write", aside)
        _copy_bytes(source, out, size)
        os.lseek(out, 0, os.SEEK_SET)
        with open(out, "rb", closefd=False) as copied:
            digest = hashlib.file_digest(copied, "sha256").hexdigest()
        copied_bytes = os.fstat(out).st_size
    except BaseException:
        os.close(out)
        forget(aside)
        raise
    os.close(out)
    return copied_bytes, digest


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
