"""What lies below a directory, as one number that is kept up to date, and what an actor has seen of it.

The interpreter's audit events name each file that is about to be opened, listed or changed, so a run costs no walks.
Two runs in the same view, whose actors have seen the same, go on in the same way.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

OLD_SECONDS = 1000.0
"""A lease that was not renewed for so long has run out; of times, nothing but that counts."""
DIRECTORY = 1
_lstat, _readlink, _open, _scandir = os.lstat, os.readlink, os.open, os.scandir


@dataclass
class View:
    """The digests of everything below ``root``, by relative path."""

    root: str
    digests: dict[str, int] = field(default_factory=dict)
    names: dict[str, set[str]] = field(default_factory=dict)
    total: int = 0
    busy: bool = False
    """Whether it is looking itself, and not an actor."""
    _stale: set[str] = field(default_factory=set)
    _all_stale: bool = False

    def copy(self, root: str) -> View:
        """The same view of a copy of the directory."""
        return View(root, dict(self.digests), {path: set(names) for path, names in self.names.items()}, self.total)

    def relative(self, path: object) -> str | None:
        """A path below the root, relative to it; None for any other."""
        if not isinstance(path, str) or not path.startswith(self.root):
            return None
        return path[len(self.root) + 1 :]

    def will_change(self, path: str) -> None:
        """Something is about to happen to a path, or has."""
        if self.digests.get(path) == DIRECTORY:
            self._all_stale = True  # whatever is below it moves along
        self._stale.add(path)

    def all_will_change(self) -> None:
        """Something is about to happen, and it is not told to what."""
        self._all_stale = True

    def seen(self, path: str) -> int | None:
        """What a look at a path tells; None when nothing is there."""
        self._refresh_if_stale(path)
        return self.digests.get(path)

    def listed(self, path: str) -> int:
        """What a listing of a directory tells."""
        self.refresh()
        return hash(frozenset(self.names.get(path, ())))

    def refresh(self) -> int:
        """Look at everything that has changed; gives the number of the whole."""
        if self._all_stale:
            self.look()
        for path in list(self._stale):
            self._look_at(path)
        self._stale.clear()
        return self.total

    def look(self) -> None:
        """Look at everything."""
        self.digests, self.names, self.total, self._all_stale = {"": DIRECTORY}, {"": set()}, 0, False
        self.busy = True
        below = list(_everything_below(self.root, ""))
        self.busy = False
        for path in below:
            self._look_at(path)

    def _refresh_if_stale(self, path: str) -> None:
        if self._all_stale:
            self.refresh()
        elif path in self._stale:
            self._look_at(path)  # it stays stale: its writer may not be done

    def _look_at(self, path: str) -> None:
        self.busy = True
        old, new = self.digests.get(path), _digest(f"{self.root}/{path}")
        self.busy = False
        if new == old:
            return
        above, _, name = path.rpartition("/")
        if old is not None:
            self.total ^= hash((path, old))
            del self.digests[path]
            self.names[above].discard(name)
        if new is not None:
            self.total ^= hash((path, new))
            self.digests[path] = new
            self.names.setdefault(above, set()).add(name)


def _everything_below(root: str, path: str) -> Iterator[str]:
    with _scandir(f"{root}/{path}") as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        below = f"{path}/{name}" if path else name
        yield below
        if is_directory:
            yield from _everything_below(root, below)


def _digest(path: str) -> int | None:
    try:
        found = _lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(found.st_mode):
        return DIRECTORY
    if stat.S_ISLNK(found.st_mode):
        return hash(("link", _readlink(path)))
    return hash(("file", _content(path) if found.st_size else b"", is_old(found)))


def is_old(found: os.stat_result) -> bool:
    """Whether a file was last touched so long ago that a lease has run out."""
    return found.st_mtime_ns < _STARTED_NS - OLD_SECONDS * 1e9


_STARTED_NS = time.time_ns()


def _content(path: str) -> bytes:
    fd = _open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)
