"""Many jobs quickly: what a spool holds of one job, made again under other ids by plain system calls.

The mould is taken from a job that the product made, so that it follows the layout; ``test_bench.py`` compares.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from glob import glob

from breyta_spool import Spool, durations, ids
from tests.bench import crew, product

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_START_MINUTES_AGO = 30
PROCESSES = 2
_FEW = 1000
"""So many are sooner made in this process than others are started for them."""


@dataclass(frozen=True)
class Piece:
    """A file, directory or link of the one job, its path relative to the spool."""

    path: str
    data: bytes | None = None
    target: str | None = None


class Mould:
    """What the spool at ``root``, which has one job, holds of it."""

    def __init__(self, root: str) -> None:
        (job_dir,) = glob(f"{root}/jobs/*/*/job-*")
        self._id = os.path.basename(job_dir)
        self._created = durations.rfc3339(ids.created_ms(self._id)).encode()
        self._pieces = [_piece(root, path) for path in _paths(root) if self._id in path]

    def cast(self, root: str, job_id: str) -> None:
        """Make such a job in another spool."""
        old_day, old_minute = ids.day_and_minute(self._id)
        day, minute = ids.day_and_minute(job_id)
        created = durations.rfc3339(ids.created_ms(job_id)).encode()

        def renamed(text: str) -> str:
            named = text.replace(self._id, job_id).replace(f"{old_day}/{old_minute}", f"{day}/{minute}")
            return named.replace(f"{old_day}-{old_minute}", f"{day}-{minute}")

        for piece in self._pieces:
            data = piece.data and piece.data.replace(self._id.encode(), job_id.encode())
            data = data and data.replace(self._created, created)
            _make(f"{root}/{renamed(piece.path)}", data, piece.target and renamed(piece.target))


def _paths(root: str) -> list[str]:
    """Every path below a directory, what holds something before what it holds."""
    return [f"{at}/{name}" for at, directories, files in os.walk(root) for name in directories + files]


def _piece(root: str, path: str) -> Piece:
    name = path.removeprefix(f"{root}/")
    if os.path.islink(path):
        return Piece(name, target=os.readlink(path))
    if os.path.isdir(path):
        return Piece(name)
    with open(path, "rb") as file:
        return Piece(name, file.read())


def _make(path: str, data: bytes | None, target: str | None) -> None:
    try:
        _make_once(path, data, target)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _make_once(path, data, target)


def _make_once(path: str, data: bytes | None, target: str | None) -> None:
    if target is not None:
        os.symlink(target, path)
    elif data is None:
        os.mkdir(path)
    else:
        fd = os.open(path, _NEW, 0o666)
        if data:
            os.write(fd, data)
        os.close(fd)


def many_ids(first: int, count: int, per_minute: int, start_ms: int) -> list[str]:
    """Ids of jobs that were made one after the other, so many a minute, from a time in milliseconds."""
    found = []
    for number in range(first, first + count):
        minute, place = divmod(number, per_minute)
        found.append(f"job-{_ulid(start_ms + minute * 60_000 + place * 60_000 // per_minute, number)}")
    return found


_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def _ulid(milliseconds: int, number: int) -> str:
    value = milliseconds << 80 | number
    return "".join([_LETTERS[value >> shift & 31] for shift in range(125, -1, -5)])


def filled(root: str, mould: str, jobs: int, per_minute: int) -> Spool:
    """A spool at ``root`` with so many jobs like the one in the spool ``mould``, so many a minute; the last some time ago."""
    spool = Spool.init(root, durability="none")
    latest = ids.created_ms(f"job-{ids.new_ulid()}") - _START_MINUTES_AGO * 60_000
    start = (latest // 60_000 - -(-jobs // per_minute)) * 60_000
    share = (root, mould, jobs, per_minute, start)
    if jobs <= _FEW:
        cast_share(*share)()
    else:
        crew.run(PROCESSES, "tests.bench.mould:cast_share", *share)
    return spool


def cast_share(root: str, mould: str, jobs: int, per_minute: int, start_ms: int) -> Callable[[], int]:
    """Make jobs, taking turns by the hundred with the other processes that make the same; gives how many."""
    cast = Mould(mould).cast

    def begin() -> int:
        made = 0
        for first in range(0, jobs, 100):
            try:
                os.mkdir(f"{root}/tmp/share-{first}")  # whoever makes it makes these
            except FileExistsError:
                continue
            for job_id in many_ids(first, min(100, jobs - first), per_minute, start_ms):
                cast(root, job_id)
                made += 1
        return made

    return begin


def queued_sample(root: str) -> str:
    """A spool with one queued job, to take a mould from."""
    product.submit(Spool.init(root, durability="none"), 1)
    return root
