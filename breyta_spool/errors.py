"""Every error this project raises: one tree, rooted at SpoolError.

An error says what happened, carries where as data, and hints at what to do. The command line prints the
same three and leaves with the error's exit code (docs/cli.md lists them).
"""

from __future__ import annotations

import errno
from typing import Any


class SpoolError(Exception):
    """Something went wrong; ``code`` names it for programs, ``hint`` says what to do about it."""

    code = "spool_error"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", path: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = {**details, "path": path} if path else details


class InvalidInput(SpoolError):
    """An argument, a flag or a document does not have the form that is asked for."""

    code = "invalid_input"
    exit_code = 2


class NoSuchSpool(SpoolError):
    """There is no spool where one was looked for."""

    code = "no_such_spool"
    exit_code = 3


class NotFound(SpoolError):
    """There is no job, worker or resource of that name in this spool."""

    code = "not_found"
    exit_code = 3


class FormatNotSupported(SpoolError):
    """The spool was written in a format that this version does not know."""

    code = "format_not_supported"


class Conflict(SpoolError):
    """The job is not in a state that allows what was asked."""

    code = "conflict"


class AwaitBound(SpoolError):
    """An await reached its bound before the ``job`` or ``batch`` ended: the state seen last; it goes on."""

    code = "await_bound_reached"
    exit_code = 4

    def __init__(self, message: str, *, job: Any = None, batch: Any = None, hint: str = "", **details: Any) -> None:
        super().__init__(message, hint=hint, **details)
        self.job = job
        self.batch = batch


class LeaseLost(SpoolError):
    """The lease is no longer held: it ran out, was given back, or the token was never right."""

    code = "lease_lost"
    exit_code = 6


class NotAllowed(SpoolError):
    """The caller may not do this."""

    code = "not_allowed"
    exit_code = 7


class Damaged(SpoolError):
    """A file of the spool cannot be what its writer wrote: torn by a power cut, edited, or on a failing disk."""

    code = "damaged"


class StorageError(SpoolError):
    """The file system refused: full, read-only, not permitted, stale or failing."""

    code = "storage_error"


def shown(value: object, limit: int = 80) -> str:
    """A value that somebody gave as errors show it: about ``limit`` characters at most, whatever it is.

    >>> shown("x" * 100, 20)
    "'xxxxxxxxxxxxxxxx... (100 characters)"
    """
    try:
        text = repr(value)
    except ValueError:  # a number with more digits than Python writes
        text = f"a value of type {type(value).__name__}"
    if len(text) <= limit:
        return text
    return text[: limit - 3] + "..." + (f" ({len(value)} characters)" if isinstance(value, str) else "")


_REMEDIES = {
    errno.ENOSPC: ("the disk is full", "free some space or inodes (df, df -i), then try again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or ask for more quota, then try again"),
    errno.EROFS: ("the file system is read-only", "mount it read-write, or use a spool elsewhere"),
    errno.EACCES: ("permission denied", "check owner, group and mode of the spool's directories (ls -ld)"),
    errno.EPERM: ("not permitted", "check owner, group and mode of the spool's directories (ls -ld)"),
    errno.EIO: ("the disk or the server reported an I/O error", "look at the kernel log of the file server"),
    errno.ESTALE: ("the file handle is stale", "check that the share is still exported, then try again"),
    errno.ENAMETOOLONG: ("the name is too long", "use a shorter name"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n)"),
}


def storage_error(error: OSError, doing: str) -> StorageError:
    """Turn an error of the operating system into one that a person can act on.

    ``doing`` says in plain words what was being tried, for instance "submit the job".
    """
    what, hint = _REMEDIES.get(error.errno or 0, (error.strerror or str(error), ""))
    path = str(error.filename or "")
    where = f" at {path}" if path else ""
    name = errno.errorcode.get(error.errno or 0, "")
    return StorageError(f"cannot {doing}: {what}{where}", hint=hint, path=path, errno=name)


class doing:  # noqa: N801 - it reads as a statement: with doing("submit the job")
    """Turn errors of the operating system into StorageError, said in the caller's words."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise storage_error(error, self._what) from error
