"""The index: lists of links to jobs, for workers and for people who browse. Advice only; the status file is the truth.

An entry is one symlink at ``<list>/<bucket>/<job-id>``, where the list is ``queued/TYPE``, ``leased/TYPE`` or
``finished/STATUS.TYPE``. Whoever finds an entry in the wrong list moves it to the right one.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TypeVar

from breyta_spool import files, ids, looking, owners, paths, states
from breyta_spool.errors import Damaged, NoSuchSpool

T = TypeVar("T")

WINDOW = 4096
"""How many names of a bucket are held in memory at once."""
COMPANY = 32
"""For how many claims after a lost race a worker takes turns with others at reading the queue."""
_WAYS = 4096
_BELL = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW
DANGLING_SECONDS = 3600
"""How old a link to a job that is not there must be before it is dropped: its submitter may just be slow."""


def status_in(job_dir: str, names: list[str] | None = None) -> states.Status | None:
    """The status of a job from a listing of its directory; None when there is no such job. Raises Damaged."""
    listed = looking.names_if_any(job_dir) if names is None else names
    for _ in range(3):
        found = [status for name in listed if name.startswith(states.PREFIX) and (status := states.parse(name))]
        if len(found) == 1:
            return found[0]
        if not listed:
            return None
        # RACE: a listing read in two parts can miss a name that is renamed in between, or show both.
        listed = looking.names_if_any(job_dir)
    if is_unfinished(listed):
        return None
    raise Damaged(
        f"{job_dir} has {'no' if not found else 'more than one'} status file",
        hint="nothing that this program does leaves a job so: restore its status file (spool/FORMAT.md, States)",
        path=job_dir,
    )


def is_unfinished(names: list[str]) -> bool:
    """Whether these names, in a job's directory, are of a job whose submitter has not come to its status file."""
    return set(names) <= {paths.JOB, paths.PAYLOAD}


class Index:
    """The lists of one spool."""

    def __init__(self, tree: paths.Tree) -> None:
        self.tree = tree
        self._real: set[str] = set()

    def check_way(self, directory: str) -> str:
        """Give a directory of the spool back, unless it is a link or reached by one. Raises Damaged.

        Looked at once for each directory, not each time: what is below a minute, a bucket or a batch is much.
        """
        if directory in self._real:
            return directory
        looking.check_no_link(self.tree.root, directory[len(self.tree.root) + 1 :])
        if len(self._real) > _WAYS:
            self._real.clear()
        if os.path.lexists(directory):
            self._real.add(directory)
        return directory

    def job_dir(self, job_id: str) -> str:
        """A job's directory, for whoever goes on to its files. Raises Damaged for a link in its place or on the way."""
        job_dir = self.tree.job(job_id)
        self.check_way(job_dir.rpartition("/")[0])
        looking.check_directory(job_dir)
        return job_dir

    def _entry(self, index_list: str, job_id: str) -> str:
        """Where a job's entry is in a list, the way to it checked. Raises OSError for a link on the way."""
        bucket = self.tree.bucket(index_list, job_id)
        if bucket not in self._real:
            try:
                self.check_way(bucket)
            except Damaged as error:  # of the index, not of the job
                raise OSError(errno.ELOOP, "a link where a directory was expected", error.details["path"]) from None
        return f"{bucket}/{job_id}"

    def add(self, job_id: str, job_type: str) -> str:
        """Make the entry of a job that is about to be published; gives its path."""
        return self.put(job_id, paths.queued(job_type))

    def put(self, job_id: str, index_list: str) -> str:
        """Make a job's entry in a list, unless it is there; gives its path."""
        entry = self._entry(index_list, job_id)
        self._link(job_id, entry)
        return entry

    def _link(self, job_id: str, entry: str) -> None:
        for _ in range(20):
            try:
                files.symlink(paths.entry_target(job_id), entry)
            except FileExistsError:
                return
            except FileNotFoundError:
                # RACE: an empty bucket can be removed between making it and linking into it.
                self.make_dirs(os.path.dirname(entry))
            else:
                return
        raise FileNotFoundError(errno.ENOENT, "the bucket is removed again and again", entry)

    def check_there(self) -> None:
        """Raise NoSuchSpool when the spool is gone: unmounted, or removed."""
        if paths.SPOOL_FILE not in looking.names_at_root(self.tree.root):
            raise NoSuchSpool(
                f"the spool at {self.tree.root} is gone", hint="is the share mounted?", path=self.tree.root
            )

    def make_dirs(self, path: str) -> None:
        """Make a directory of the spool and those above it. Raises FileNotFoundError when the spool is gone."""
        files.make_dirs(path, self.tree.root, in_spool=True)

    def bell(self, job_type: str) -> str:
        """The directory that the idle workers of a type watch: made when it is missing. Raises OSError."""
        bell = self.tree.bell(job_type)
        self.make_dirs(bell)
        return bell

    def ring(self, job_type: str) -> None:
        """Wake the idle workers of a type on this host: their kernel tells them that the bell was opened."""
        try:
            os.close(os.open(self.tree.bell(job_type), _BELL))
        except OSError:
            pass  # no worker of this type has been here; and they poll, too

    def move(self, job_id: str, source: str, destination: str, *, make: bool = True) -> None:
        """Move a job's entry from one list to another; ``make`` it there when it is missing."""
        if not self.moved(job_id, source, destination) and make:
            # RACE: somebody else moved it, or a crash left none.
            self._link(job_id, self._entry(destination, job_id))

    def moved(self, job_id: str, source: str, destination: str) -> bool:
        """Move a job's entry if it is in a list; whether it was. Raises OSError."""
        old, new = self._entry(source, job_id), self._entry(destination, job_id)
        try:
            files.rename(old, new)
        except FileNotFoundError:
            self.make_dirs(os.path.dirname(new))
            try:
                files.rename(old, new)
            except FileNotFoundError:
                return False
        return True

    def settle(
        self,
        job_id: str,
        job_type: str,
        found_in: str,
        stays: Callable[[states.Status], bool] = lambda status: False,
    ) -> states.Status | None:
        """Put an entry that was found in a list where the job's status says it belongs; gives the status.

        ``stays`` is asked before the entry of an ended job is moved: whether it must not be. An entry without a job is
        dropped once it is old: until then its submitter may still be at work.
        """
        try:
            status = status_in(self.job_dir(job_id))
        except Damaged:
            return None  # readers of the job itself say what is wrong with it
        if status is None:
            self._drop_if_old(job_id, found_in)
        elif (belongs := paths.list_of(status, job_type)) != found_in and not (status.is_terminal and stays(status)):
            self.move(job_id, found_in, belongs, make=False)
        return status

    def drop(self, job_id: str, index_list: str) -> None:
        """Remove an entry."""
        files.unlink(self.tree.entry(index_list, job_id))

    def _drop_if_old(self, job_id: str, index_list: str) -> None:
        entry = self.tree.entry(index_list, job_id)
        try:
            made = os.lstat(entry).st_mtime
        except FileNotFoundError:
            return
        if self.now() - made > DANGLING_SECONDS:
            files.unlink(entry)

    def now(self) -> float:
        """The file server's time, in seconds since 1970: the only clock that ages are judged by."""
        clock = self.tree.lock("clock")
        try:
            files.touch(clock)
        except FileNotFoundError:
            self.make_dirs(self.tree.top("locks"))
            files.append(clock, b"")
            files.touch(clock)
        return looking.modified(clock)

    def prune(self, index_list: str, bucket: str) -> None:
        """Remove a bucket that is empty and old enough that nothing more is submitted into it."""
        if paths.bucket_age_key(bucket) < time.strftime("%Y%m%d-%H%M", time.gmtime(time.time() - 120)):
            files.remove_dir_if_empty(f"{self.tree.root}/{index_list}/{bucket}")

    def lists(self) -> list[str]:
        """Every list there is."""
        return [
            f"{kind}/{name}" for kind in ("queued", "leased", "finished") for name in self.names(self.tree.top(kind))
        ]

    def buckets(self, index_list: str) -> list[str]:
        """The buckets of a list, oldest first; of one minute the single jobs first, then batch after batch."""
        names = self.names(f"{self.tree.root}/{index_list}")
        return sorted(names, key=lambda bucket: (paths.bucket_age_key(bucket), bucket))

    @staticmethod
    def names(directory: str) -> list[str]:
        """The names in a directory but those a person's tools may leave (``.nfs…``, ``.DS_Store``)."""
        return [name for name in looking.names_if_any(directory) if not name.startswith(".")]

    @staticmethod
    def some(directory: str, count: int) -> list[str]:
        """The ids of some of the jobs in a bucket, at most ``count``."""
        with looking.scanning(directory) as names:
            return list(islice(filter(ids.is_job_id, names), count))

    def has_batch(self, index_list: str, batch_id: str) -> bool:
        """Whether the batch of a bucket is there. The bucket of one that is not is dropped once it is old.

        A submitter that died between its two last renames leaves such a bucket, and it may have many entries.
        """
        try:
            if batch_id in looking.names_if_any(self.check_way(os.path.dirname(self.tree.batch(batch_id)))):
                return True
        except Damaged:
            return False
        bucket = f"{self.tree.root}/{index_list}/{batch_id}"
        with suppress(FileNotFoundError):
            if self.now() - looking.modified(bucket) > DANGLING_SECONDS:
                files.remove_tree(bucket, self.tree.staged(owners.marked(f"trash-{ids.new_ulid()}")))
        return False


class Queue:
    """The queue of one job type as one worker reads it: oldest bucket first, a window of names at a time.

    In a bucket the oldest job comes first as long as nobody else takes from it. After a lost race the worker goes
    on at a random place of its window, so that several workers soon stand apart. Not thread-safe.
    """

    def __init__(self, index: Index, job_type: str, batch_id: str | None = None) -> None:
        self._index = index
        self._list = paths.queued(job_type)
        self._only = batch_id
        self._window: deque[str] = deque()
        self._company = 0

    def take(self, attempt: Callable[[str], T | None], turn: Callable[[], None] = lambda: None) -> T | None:
        """Offer the ids one by one until ``attempt`` makes something of one; gives that, None when all were refused.

        ``turn`` is called before the queue is read while others take from it too, as lost races tell.
        """
        if (taken := self._offer(attempt)) is not None:
            return taken
        if self._company:
            turn()
        return next((taken for _ in self._windows() if (taken := self._offer(attempt)) is not None), None)

    def _offer(self, attempt: Callable[[str], T | None]) -> T | None:
        window = self._window
        while window:
            if (taken := attempt(window.popleft())) is not None:
                if self._company:
                    self._company -= 1
                return taken
            self._company = COMPANY
            if len(window) > 1:
                window.rotate(-random.randrange(len(window)))  # noqa: S311 - this spreads load, it guards nothing
        return None

    def _windows(self) -> Iterator[None]:
        """Fill the window with the next names of the queue, until all of it has been seen."""
        for bucket in [self._only] if self._only else self._index.buckets(self._list):
            path = f"{self._index.tree.root}/{self._list}/{bucket}"
            seen = 0
            if ids.is_batch_id(bucket) and not self._index.has_batch(self._list, bucket):
                continue
            with looking.scanning(path) as found:
                while names := list(islice(found, WINDOW)):
                    seen += len(names)
                    # In order of making: the jobs of a minute by name, those of a batch by their number.
                    self._window.extend(sorted(sorted(filter(ids.is_job_id, names)), key=len))
                    yield
            if not seen:
                self._index.prune(self._list, bucket)
