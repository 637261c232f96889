"""Repair of a spool: what a check finds is put right where the files tell how, and nothing is thrown away.

What no crash of ours explains is moved to lost+found/, with a note that says where it was and why. Everything here is
what workers, reapers and readers do as well when they meet the same, so a spool may be in use while it is repaired.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

from breyta_spool import access, checkup, files, finishing, ids, jobs, looking, outputs, owners, paths, states
from breyta_spool.checkup import SECOND_LOOK_SECONDS, SHOWN, Report, Told, Walk
from breyta_spool.claims import LEFTOVER_SECONDS
from breyta_spool.errors import Damaged, SpoolError, doing
from breyta_spool.findings import Finding
from breyta_spool.index import status_in
from breyta_spool.invariants import Problem, Rules, link_target
from breyta_spool.records import JobRecord
from breyta_spool.spool import Spool
from breyta_spool.states import Status

_COUNTED = re.compile(r"result\.([1-9][0-9]{0,5})\.json")


@dataclass
class Repaired(Report):
    """What a repair has done. ``findings`` and ``counts`` are what is left for a person."""

    mended: Counter[str] = field(default_factory=Counter)
    """How many problems were mended, by code."""
    actions: list[tuple[Finding, str]] = field(default_factory=list)
    """The first of them, each with what was done."""


def repair(
    spool: Spool,
    *,
    contents: bool = False,
    limit: int = SHOWN,
    told: Told = lambda share, jobs: None,
    pause: float = SECOND_LOOK_SECONDS,
) -> Repaired:
    """Put right what a check of the spool finds; arguments as for ``checkup.check``.

    Raises NotAllowed, StorageError, NoSuchSpool.
    """
    spool.access.need(access.FULL)
    done = Repaired()
    with doing("repair the spool"):
        spool.index.check_there()
        walk = Walk(Rules(spool.index, spool.settings, contents), told, pause, done)
        mender = Mender(spool)
        for problem in walk.problems():
            if action := mender.mend(problem):
                done.mended[problem.code] += 1
                if len(done.actions) < limit:
                    done.actions.append((checkup.finding(problem), action))
            else:
                done.add(problem, limit)
        mender.commit()
    done.end()
    return done


class Mender:
    """Mends one problem after the other."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._claims = spool.claims
        self._index = spool.index
        self._tree = spool.tree
        self._root = spool.root
        self._changed: dict[str, None] = {}
        self._ways: dict[str, Callable[[Problem], str]] = {
            "status-unclear": self._status,
            "request-damaged": self._request,
            "result-damaged": self._result,
            "misplaced": self._misplaced,
            "entry-missing": self._entry,
            "entry-elsewhere": self._lists,
            "entry-twice": self._lists,
            "entry-wrong": self._link,
            "entry-dangling": self._dangling,
            "bucket-dangling": self._bucket,
            "lease-forgotten": self._lease,
            "links-missing": self._outcome,
            "link-wrong": self._outcome_anew,
            "foreign": self._foreign,
            "key-wrong": self._foreign,
            "left-in-tmp": self._left,
            "top-missing": self._top,
            "worker-dead": self._worker,
        }

    def mend(self, problem: Problem) -> str:
        """Mend a problem if that can be done; gives what was done, nothing when it is left. Raises OSError."""
        way = self._ways.get(problem.code)
        try:
            return way(problem) if way else ""
        except SpoolError:
            return ""  # it is as bad as before, or has gone

    def commit(self) -> None:
        """Bring what was mended to the disk, in a spool that is durable. Raises OSError."""
        there = [path for path in self._changed if os.path.isdir(path)]
        self._claims.commit(lambda: chain.from_iterable(map(finishing.tree_of, there)))

    # -- the job ------------------------------------------------------------------------------------

    def _job(self, job_id: str) -> tuple[str, list[str], JobRecord]:
        """A job's directory, the names in it, and what was asked for. Raises Damaged."""
        job_dir = self._tree.job(job_id)
        request, _ = jobs.load_request(job_dir, self._spool.settings.payload_limit_bytes)
        self._changed[job_dir] = None
        return job_dir, looking.names(job_dir), request

    def _status(self, problem: Problem) -> str:
        """Keep the status that the job's files bear out, and make it when it is gone."""
        job_dir, listed, request = self._job(problem.id)
        names = sorted(name for name in listed if name.startswith(states.PREFIX))
        right = _right_status(job_dir, listed, request.max_attempts)
        if right is None:
            return self._set_aside(problem, "nobody can tell its status")
        if right.name not in names:
            files.write_new(f"{job_dir}/{right.name}", b"")
        for name in names:
            if name != right.name:
                self._aside(f"{problem.place}/{name}", f"{problem.id} has {right.name}, too", f"{problem.id}.{name}")
        return f"it is {right.name} now; {self._lists(problem)}"

    def _request(self, problem: Problem) -> str:
        try:
            status = status_in(self._tree.job(problem.id))
        except Damaged:
            return self._set_aside(problem, problem.what)
        if status is None or status.state != states.QUEUED:
            return ""  # what has ended keeps its result; a reaper sets aside what is leased
        return self._set_aside(problem, problem.what)

    def _set_aside(self, problem: Problem, why: str) -> str:
        self._claims.set_aside(problem.id, why)
        for index_list in self._index.lists():
            self._index.drop(problem.id, index_list)
        return f"it was set aside in {paths.LOST_AND_FOUND}/"

    def _result(self, problem: Problem) -> str:
        job_dir, listed, _ = self._job(problem.id)
        status = status_in(job_dir, listed)
        if status is not None and jobs.needs_result(status) and not self._claims.redo_if_torn(problem.id, status):
            return ""
        again = status_in(job_dir)  # when its entry was mended, it was put back already
        return f"it is {again.name if again else 'gone'} now"

    def _misplaced(self, problem: Problem) -> str:
        right = self._tree.job(problem.id) if ids.is_job_id(problem.id) else self._tree.batch(problem.id)
        if os.path.basename(right) in looking.names_if_any(os.path.dirname(right)):
            return self._foreign(problem)
        self._index.make_dirs(os.path.dirname(right))
        files.publish(self._tree.top(problem.place), right)
        self._changed[right] = None
        if ids.is_job_id(problem.id):
            self._entry(problem)
        return f"it was moved to {os.path.relpath(right, self._root)}"

    def _lease(self, problem: Problem) -> str:
        job_dir, listed, request = self._job(problem.id)
        status = status_in(job_dir, listed)
        after = status and self._claims.expire_one(problem.id, request.job_type, status, self._index.now())
        return f"the lease was taken back: it is {after.name} now" if after else ""

    def _outcome(self, problem: Problem) -> str:
        job_dir, listed, _ = self._job(problem.id)
        status = status_in(job_dir, listed)
        if status is None or not jobs.accepted_result(job_dir, status):
            return ""
        finishing.link_outcome(job_dir, status.attempt, True)
        return "the links were made"

    def _outcome_anew(self, problem: Problem) -> str:
        name = problem.what.partition(" ")[0]
        self._aside(f"{problem.place}/{name}", problem.what, f"{problem.id}.{name}")
        return self._outcome(problem)

    # -- entries ------------------------------------------------------------------------------------

    def _in_list(self, job_id: str, job_type: str) -> str:
        """Put a job's entry where its status says; gives that in words."""
        status = status_in(self._tree.job(job_id))
        if status is None:
            return "it has gone"
        right = paths.list_of(status, job_type)
        self._index.put(job_id, right)
        if status.state == states.QUEUED:
            self._index.ring(job_type)
        return f"it is listed in {right}"

    def _entry(self, problem: Problem) -> str:
        return self._in_list(problem.id, self._job(problem.id)[2].job_type)

    def _lists(self, problem: Problem) -> str:
        """Move the entries in wrong lists to the right one, where they become one."""
        job_type = self._job(problem.id)[2].job_type
        for index_list in self._index.lists():
            if problem.id in self._index.names(self._tree.bucket(index_list, problem.id)):
                self._claims.settle(problem.id, job_type, index_list)
        return self._in_list(problem.id, job_type)

    def _link(self, problem: Problem) -> str:
        self._aside(problem.place, problem.what, problem.id)
        return self._entry(problem)

    def _dangling(self, problem: Problem) -> str:
        if not link_target(self._tree.top(problem.place)):
            return self._foreign(problem)
        files.unlink(self._tree.top(problem.place))
        return "the entry was removed"

    def _bucket(self, problem: Problem) -> str:
        index_list = os.path.dirname(problem.place)
        return "" if self._index.has_batch(index_list, problem.id) else "the bucket was removed"

    # -- everything else ----------------------------------------------------------------------------

    def _foreign(self, problem: Problem) -> str:
        self._aside(problem.place, problem.what, problem.id)
        return f"it was moved to {paths.LOST_AND_FOUND}/"

    def _aside(self, place: str, why: str, name: str) -> None:
        """Keep something that cannot be explained, with a note of where it was."""
        top = self._tree.top(paths.LOST_AND_FOUND)
        self._index.make_dirs(top)
        kept = f"{top}/{name[:150].lstrip('.') or 'unnamed'}.{ids.new_token()}"
        files.replace(f"{kept}.why.txt", f"{outputs.now()} it was {place}: {why}\n".encode("utf-8", "backslashreplace"))
        files.rename(self._tree.top(place), kept)

    def _left(self, problem: Problem) -> str:
        files.remove_tree(self._tree.top(problem.place), self._tree.staged(owners.marked(f"trash-{ids.new_ulid()}")))
        return "it was removed"

    def _top(self, problem: Problem) -> str:
        self._index.make_dirs(self._tree.top(problem.place))
        return "it was made"

    def _worker(self, problem: Problem) -> str:
        path = self._tree.top(problem.place)
        if self._index.now() - looking.modified(path) <= LEFTOVER_SECONDS:
            return ""
        files.unlink(path)
        return "the record was removed"


def _right_status(job_dir: str, listed: list[str], max_attempts: int) -> Status | None:
    """What the files of a job say its status is, when none or several claim to; None when they do not tell.

    An end that is borne out counts before all else, for it may have been acknowledged.
    """
    known = [status for name in listed if (status := states.parse(name))]
    ends = [status for status in known if status.is_terminal and _is_borne_out(job_dir, status)]
    if len(ends) == 1:
        return ends[0]
    if len(ends) > 1:
        return None
    if active := [status for status in known if not status.is_terminal]:
        return max(active, key=lambda status: (status.attempt, status.state == states.LEASED))
    return _ended_by_result(job_dir, listed) or _begun_again(listed, max_attempts)


def _is_borne_out(job_dir: str, status: Status) -> bool:
    try:
        jobs.check_result(job_dir, status)
    except Damaged:
        return False
    return True


def _ended_by_result(job_dir: str, listed: list[str]) -> Status | None:
    """The end that the result tells of to which the job's link leads, or else that of its last attempt."""
    counted = _COUNTED.fullmatch(link_target(f"{job_dir}/{paths.RESULT}")) if paths.RESULT in listed else None
    attempt = int(counted[1]) if counted else _last_attempt(listed)
    try:
        result = jobs.load_result(job_dir, attempt) if attempt else None
    except Damaged:
        return None
    if result is None:
        return None
    ended = Status(result.status, attempt)
    return ended if result.attempt == attempt and ended.is_terminal and _is_borne_out(job_dir, ended) else None


def _begun_again(listed: list[str], max_attempts: int) -> Status:
    attempts = _last_attempt(listed)
    return Status(states.QUEUED if attempts < max_attempts else states.TIMED_OUT, attempts)


def _last_attempt(listed: list[str]) -> int:
    return max(paths.attempts_of(listed), default=0)
