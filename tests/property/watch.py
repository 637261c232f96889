"""Watches where a piece of code goes: every path it opens, lists or changes, as the interpreter reports it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ONE_PATH = {
    "os.listdir",
    "os.scandir",
    "os.mkdir",
    "os.rmdir",
    "os.remove",
    "os.utime",
    "os.truncate",
    "os.chmod",
    "os.chown",
}
_TWO_PATHS = {"os.rename", "os.link", "os.symlink"}
_FOLLOWS = {"os.listdir", "os.scandir", "os.truncate", "os.chmod", "os.chown"}
"""What goes through a link at the end of its path; all else is done to the link itself."""
_OWN = tuple({os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, os.getcwd(), "/usr", "/etc", "/proc")})

_seen: list[tuple[str, str, bool]] | None = None


def _note(event: str, args: tuple[object, ...]) -> None:
    if _seen is None:
        return
    if event == "open":
        _add(event, args[0], not int(str(args[2] or 0)) & os.O_NOFOLLOW)
    elif event in _ONE_PATH:
        _add(event, args[0], event in _FOLLOWS)
    elif event in _TWO_PATHS:
        if event != "os.symlink":  # what a link says is a text, and goes nowhere
            _add(event, args[0], False)
        _add(event, args[1], False)


def _add(event: str, path: object, follows: bool) -> None:
    if _seen is not None and isinstance(path, str | bytes | os.PathLike):
        _seen.append((event, os.fsdecode(path), follows))


sys.addaudithook(_note)  # for good: there is no way to take one away


@contextmanager
def strays(root: str | os.PathLike[str]) -> Iterator[list[str]]:
    """A list of what was done outside of ``root``, complete when the block ends; the interpreter's own files apart."""
    global _seen
    found: list[str] = []
    outer, _seen = _seen, []
    real = os.path.realpath(root)
    try:
        yield found
    finally:
        seen, _seen = _seen, outer
        found += [f"{event} {path!r}" for event, path, follows in seen if not _is_below(path, follows, real)]


def _is_below(path: str, follows: bool, root: str) -> bool:
    if "\0" in path:
        return True  # no system call takes it
    if not path.startswith("/"):
        return path not in ("", "..") and "/" not in path  # relative to a directory that was opened before
    directory, name = os.path.split(path)
    real = os.path.realpath(path) if follows else f"{os.path.realpath(directory)}/{name}"
    return f"{real}/".startswith(f"{root}/") or real.startswith(_OWN) or real == "/dev/null"
