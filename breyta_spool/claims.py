"""Leases: who works on a job. Every change of a job's status is one rename made in here.

The order of the steps is the design (spool/FORMAT.md, "Order of writes"): a process may die between any two of
them, and another host may do the same at the same moment.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from breyta_spool import (
    durations,
    expiring,
    files,
    finishing,
    ids,
    jobs,
    jsonio,
    looking,
    outputs,
    owners,
    paths,
    states,
)
from breyta_spool.barrier import Barrier
from breyta_spool.errors import Damaged, InvalidInput, NotFound, SpoolError
from breyta_spool.index import Index, Queue, status_in
from breyta_spool.outputs import AttemptDir
from breyta_spool.records import JobRecord, SpoolRecord
from breyta_spool.results import Outcome
from breyta_spool.states import Status
from breyta_spool.turns import Turn

_FIRST = Status(states.QUEUED, 0)
LEFTOVER_SECONDS = 86_400
"""How old something in tmp/ must be before it counts as left behind."""


@dataclass
class Held:
    """A lease that was won: the job's request and the attempt's directory."""

    request: JobRecord
    payload: bytes
    dir: AttemptDir
    worker_id: str
    key_id: str = ""
    """The key that its worker claimed with, if any."""

    @property
    def job_id(self) -> str:
        """The id of the job."""
        return self.request.job_id


class Claims:
    """Claims, renews and ends leases in one spool."""

    def __init__(self, tree: paths.Tree, settings: SpoolRecord, barrier: Barrier) -> None:
        self.tree = tree
        self.settings = settings
        self.index = Index(tree)
        self._barrier = barrier
        self._host = socket.gethostname()

    # -- claim --------------------------------------------------------------------------------------

    def claim(
        self,
        queue: Queue,
        job_type: str,
        worker_id: str,
        labels: dict[str, Any],
        lease_ms: int,
        in_process: bool = False,
        looked_after: bool = False,
    ) -> Held | None:
        """Take the lease of the oldest job that can be had; None when there is none. Raises OSError.

        ``looked_after``: the caller calls ``note`` unless the job ends at once, so it is not written down before.
        """

        def attempt(job_id: str) -> Held | None:
            return self._try(job_id, job_type, worker_id, labels, lease_ms, in_process, looked_after)

        with Turn(self.tree.lock("claim." + job_type) if self.settings.locks else "") as wait_for_turn:
            return queue.take(attempt, wait_for_turn)

    def _try(
        self,
        job_id: str,
        job_type: str,
        worker_id: str,
        labels: dict[str, Any],
        lease_ms: int,
        in_process: bool,
        looked_after: bool,
    ) -> Held | None:
        try:
            job_dir = self.index.job_dir(job_id)
        except Damaged:
            return None  # a link in its place: readers of the job itself are told
        leased = self._win(job_dir, job_id, job_type)
        if leased is None:
            return None
        directory = AttemptDir(job_dir, job_id, leased.attempt, leased.token, self.settings.workspace_id)
        directory.unwritten = self._claim_of(directory, worker_id, labels, lease_ms, in_process)
        try:
            # Who dies before it is written down has a lease of the spool's duration, so it must be that one.
            if not looked_after or lease_ms != self.settings.default_lease_ms:
                self.note(directory, job_type)
            request, payload = jobs.load_request(job_dir, self.settings.payload_limit_bytes)
            if request.job_type != job_type:
                self._unclaim(directory, job_type)
                self.index.move(job_id, paths.queued(job_type), paths.queued(request.job_type))
                return None
        except Damaged as error:
            self._set_aside(job_id, job_type, str(error))
            return None
        except BaseException:
            with suppress(OSError):
                self._unclaim(directory, job_type)
            raise
        return Held(request, payload, directory, worker_id)

    def _win(self, job_dir: str, job_id: str, job_type: str) -> Status | None:
        """Rename the status file to leased with a new token; None when the job cannot be had."""
        queued = _FIRST
        for _ in range(3):
            leased = Status(states.LEASED, queued.attempt + 1, ids.new_token())
            try:
                # The touch comes first: a reaper must never see a fresh lease with the age of a long wait.
                files.touch(f"{job_dir}/{queued.name}")
                if files.swap_to_ours(job_dir, queued.name, leased.name):
                    return leased
            except FileNotFoundError:
                pass
            # RACE: somebody else was faster, or this is not the job's first attempt: only a listing tells.
            found = self.settle(job_id, job_type, paths.queued(job_type))
            if found is None or found.state != states.QUEUED or found.attempt >= states.MOST_ATTEMPTS:
                return None
            if paths.CANCEL in looking.names_if_any(job_dir):
                # RACE: it was cancelled as it went back to the queue, and who put it back died before he saw that.
                self._cancel_queued(job_id, job_type, found, Status(states.CANCELLED, found.attempt))
                return None
            queued = found
        return None

    def _claim_of(
        self, directory: AttemptDir, worker_id: str, labels: dict[str, Any], lease_ms: int, in_process: bool
    ) -> dict[str, Any]:
        now = outputs.now()
        claim = {
            "jobId": directory.job_id,
            "attempt": directory.attempt,
            "workerId": worker_id,
            "leaseMs": lease_ms,
            "claimedAt": now,
            "host": self._host,
            "pid": os.getpid(),
        }
        if labels:
            claim["workerLabels"] = labels
        if in_process:
            claim["startedAt"] = now
        return claim

    def note(self, directory: AttemptDir, job_type: str) -> None:
        """Write down who holds a lease, and list its job as leased; nothing when that was done. Raises OSError."""
        claim = directory.unwritten
        if claim is None:
            return
        self.index.move(directory.job_id, paths.queued(job_type), paths.leased(job_type))
        try:
            files.write_new(directory.claim, jsonio.record(claim))
        except FileExistsError:  # left by a claim that was undone half-way, or planted
            files.replace(directory.claim, jsonio.record(claim))
        directory.unwritten = None

    def _unclaim(self, directory: AttemptDir, job_type: str) -> None:
        """Undo a claim whose handler has not begun, so that it does not count as an attempt."""
        files.unlink(directory.claim)
        back = Status(states.QUEUED, directory.attempt - 1)
        if files.swap(directory.job_dir, directory.status_name, back.name):
            after = self._cancelled_meanwhile(directory.job_dir, back)
            self.index.move(directory.job_id, paths.leased(job_type), paths.list_of(after, job_type))

    def _set_aside(self, job_id: str, job_type: str, reason: str) -> None:
        self.set_aside(job_id, reason)
        for index_list in (paths.leased(job_type), paths.queued(job_type)):
            self.index.drop(job_id, index_list)

    def set_aside(self, job_id: str, reason: str) -> None:
        """Keep a job whose request is damaged where nobody claims it, with a note that says why."""
        self.index.make_dirs(self.index.check_way(self.tree.top(paths.LOST_AND_FOUND)))
        kept = self.tree.set_aside(job_id)
        if looking.names_if_any(kept):
            kept = f"{kept}.{ids.new_token()}"  # somebody brought it back, and it was damaged again
        files.replace(f"{kept}.why.txt", f"{outputs.now()} {reason}\n".encode())
        with suppress(FileNotFoundError):
            files.rename(self.tree.job(job_id), kept)

    # -- hold ---------------------------------------------------------------------------------------

    def find(self, job_id: str, token: str) -> Held:
        """The lease that a token belongs to. Raises NotFound, LeaseLost."""
        job_dir = self.index.job_dir(job_id)
        status = status_in(job_dir)
        if status is None:
            raise no_such_job(job_id, self.tree)
        if status.state != states.LEASED or status.token != token:
            raise outputs.lease_lost(job_id, status.attempt)
        request, payload = jobs.load_request(job_dir, self.settings.payload_limit_bytes)
        claim = jobs.load_claim(job_dir, status.attempt)
        directory = AttemptDir(job_dir, job_id, status.attempt, token, self.settings.workspace_id)
        return Held(request, payload, directory, claim.worker_id if claim else "")

    def renew(self, directory: AttemptDir, lease_ms: int | None = None) -> bool:
        """Renew a lease; whether a cancel was asked for. Raises LeaseLost, OSError."""
        # RACE: on NFS 3 a name that was renamed elsewhere can still be touched for a while, and the touch lands on
        # the lease of whoever holds the job now. A listing is fresh, so it comes first.
        cancel = self.cancel_requested(directory)
        try:
            files.touch(f"{directory.job_dir}/{directory.status_name}")
        except FileNotFoundError:
            raise outputs.lease_lost(directory.job_id, directory.attempt) from None
        if lease_ms is not None:
            self._change_lease(directory, lease_ms)
        return cancel

    def _change_lease(self, directory: AttemptDir, lease_ms: int) -> None:
        path = directory.claim
        try:
            claim = jsonio.parse_object(looking.read(path, jobs.RECORD_LIMIT), path, jsonio.RECORD_DEPTH)
        except InvalidInput as error:
            raise Damaged(error.message, path=path) from None
        if claim.get("leaseMs") != lease_ms:
            files.replace(path, jsonio.record({**claim, "leaseMs": lease_ms}))

    def cancel_requested(self, directory: AttemptDir) -> bool:
        """Whether somebody asked to cancel the job. Raises LeaseLost when the listing shows it is no longer ours."""
        listed = looking.names_if_any(directory.job_dir)
        if directory.status_name not in listed:
            raise outputs.lease_lost(directory.job_id, directory.attempt)
        return paths.CANCEL in listed

    # -- end ----------------------------------------------------------------------------------------

    def finish(self, directory: AttemptDir, job_type: str, outcome: Outcome, worker_info: dict[str, Any]) -> None:
        """Publish how the attempt ended. Returned: the result is accepted and, in a durable spool, on the disk.

        Raises LeaseLost when somebody else holds the job by now (the outcome is discarded), InvalidInput when the
        outcome cannot be stored, OSError when the disk refused; then it may be tried again while the lease is held.
        """
        attached = directory.sealed()
        if not directory.ended:
            data = finishing.result_of(directory, outcome, attached, worker_info)
            if attached:
                # DURABLE: who reads a job sees that its request or result is torn, but does not read its artifacts. So
                # they are on the disk before the rename that makes the result count.
                self.commit(lambda: finishing.tree_of(directory.path))
            self._publish(directory, outcome, data)
        with suppress(OSError):  # the result counts from the rename on; whoever finds these wrong mends them
            finishing.link_outcome(directory.job_dir, directory.attempt, bool(attached))
            ended = paths.finished(directory.ended, job_type)
            if directory.unwritten is None or not self.index.moved(directory.job_id, paths.queued(job_type), ended):
                self.index.move(directory.job_id, paths.leased(job_type), ended)
        self.commit(lambda: self.written_of(directory.job_id, directory.attempt))

    def _publish(self, directory: AttemptDir, outcome: Outcome, data: bytes) -> None:
        """Write the result and make it count. Raises LeaseLost, OSError."""
        result = directory.result
        try:
            files.write_new(result, data)
        except FileExistsError:
            # RACE: an earlier try left it, or somebody with the same token is about to make it count. A token of our
            # own keeps what counts from being replaced.
            token = ids.new_token()
            mine = Status(states.LEASED, directory.attempt, token).name
            if not files.swap_to_ours(directory.job_dir, directory.status_name, mine):
                raise outputs.lease_lost(directory.job_id, directory.attempt) from None
            directory.take(token)
            self._replace(result, data)
        except FileNotFoundError:
            directory.check_held()  # the whole job may have been taken away
            raise
        ended = Status(outcome.status, directory.attempt)
        done = files.swap(directory.job_dir, directory.status_name, ended.name)
        if not done and not finishing.counts(directory, ended, data):
            raise outputs.lease_lost(directory.job_id, directory.attempt)
        directory.ended = outcome.status

    def _replace(self, result: str, data: bytes) -> None:
        try:
            files.replace(result, data)
        except IsADirectoryError:  # left by a handler; its worker would try for ever
            files.remove_tree(result, self.tree.staged(f"trash-{ids.new_ulid()}"))
            files.replace(result, data)

    def written_of(self, job_id: str, attempt: int = 0) -> Iterator[str]:
        """What a job and, if there was one, an attempt rest on, for a barrier that syncs each.

        That is the request, too: its submitter may not have come to his barrier, and what ended without it is damaged.
        """
        job_dir = self.tree.job(job_id)
        yield from (f"{job_dir}/{name}" for name in (paths.JOB, paths.PAYLOAD, paths.CANCEL))
        if attempt:
            yield from (f"{job_dir}/{name}" for name in (paths.claim_name(attempt), paths.result_name(attempt)))
            yield from finishing.tree_of(f"{job_dir}/{paths.attempt_name(attempt)}")
        yield from finishing.with_parents(job_dir, root=self.tree.root)

    def commit(self, written: Callable[[], Iterator[str]]) -> None:
        """The durability barrier of the spool's setting. Raises OSError."""
        if self.settings.durability == "durable":
            self._barrier(written)

    def give_back(self, directory: AttemptDir, job_type: str) -> Status:
        """Let go of a lease; the attempt counts. Gives the status the job has now. Raises LeaseLost, OSError."""
        request, _ = jobs.load_request(directory.job_dir, self.settings.payload_limit_bytes)
        self.note(directory, job_type)
        leased = Status(states.LEASED, directory.attempt, directory.token)
        after = self._let_go(directory.job_id, job_type, leased, request.max_attempts)
        if after is None:
            raise outputs.lease_lost(directory.job_id, directory.attempt)
        return after

    def _let_go(self, job_id: str, job_type: str, leased: Status, max_attempts: int) -> Status | None:
        job_dir = self.tree.job(job_id)
        cancel = paths.CANCEL in looking.names_if_any(job_dir)
        after = states.after_lost_lease(leased, max_attempts, cancel)
        if not files.swap(job_dir, leased.name, after.name):
            return None
        after = self._cancelled_meanwhile(job_dir, after)
        self.index.move(job_id, paths.leased(job_type), paths.list_of(after, job_type))
        if after.state == states.QUEUED:
            self.index.ring(job_type)
        return after

    @staticmethod
    def _cancelled_meanwhile(job_dir: str, after: Status) -> Status:
        """End a job that was put back into the queue as it was cancelled; gives the status it has now."""
        # RACE: the cancel came between the look for it and the rename, and its caller was told that it was heard.
        if after.state == states.QUEUED and paths.CANCEL in looking.names_if_any(job_dir):
            cancelled = Status(states.CANCELLED, after.attempt)
            # RACE: a worker that was about to claim it may have seen the note first, and ended it for us.
            if files.swap(job_dir, after.name, cancelled.name) or cancelled.name in looking.names_if_any(job_dir):
                return cancelled
        return after

    # -- expire -------------------------------------------------------------------------------------

    def expire(self, job_type: str, report: Callable[[str, Status], None] = lambda job_id, status: None) -> int:
        """Take back every lease of a type that ran out, and mend entries in the wrong list; gives how many ran out.

        ``report`` is told of each: the job and the status it has now.
        """
        expired, failures = 0, []
        leased_list = paths.leased(job_type)
        now = self.index.now() if self.index.names(self.tree.top(leased_list)) else 0.0
        for bucket in self.index.buckets(leased_list):
            entries = self.index.names(f"{self.tree.root}/{leased_list}/{bucket}")
            for job_id in filter(ids.is_job_id, entries):
                try:
                    status = self.settle(job_id, job_type, leased_list)
                    after = self.expire_one(job_id, job_type, status, now) if status else None
                except OSError as error:
                    failures.append(error)  # the others must not suffer for one
                    continue
                if after is not None:
                    expired += 1
                    report(job_id, after)
            if not entries:
                self.index.prune(leased_list, bucket)
        if failures:
            raise failures[0]
        return expired

    def settle(self, job_id: str, job_type: str, found_in: str) -> Status | None:
        """Put an entry where the job's status says it belongs; gives the status. A job with a torn result is put back.

        An entry without a job is dropped once it is old.
        """
        # RACE: whoever puts a job back moves its entry to the leased ones first, and may die after the rename. So
        # nobody may take that entry to the ended ones meanwhile: the job would wait where no worker looks.
        return self.index.settle(job_id, job_type, found_in, lambda status: self._redone(job_id, status))

    def _redone(self, job_id: str, ended: Status) -> bool:
        try:
            return self.redo_if_torn(job_id, ended)
        except Damaged:
            return False  # its request, too: whoever reads the job is told

    def expire_one(self, job_id: str, job_type: str, status: Status, now: float) -> Status | None:
        """Take a lease back if it ran out before ``now``, the file server's time in seconds; gives the new status."""
        if status.state != states.LEASED:
            return None
        job_dir = self.tree.job(job_id)
        try:
            age_ms = (now - looking.modified(f"{job_dir}/{status.name}")) * 1000
            if age_ms <= self._lease_ms(job_dir, status.attempt):
                return None
            request, _ = jobs.load_request(job_dir, self.settings.payload_limit_bytes)
            return self._let_go(job_id, job_type, status, request.max_attempts)
        except FileNotFoundError:
            return None  # RACE: it was renewed under another name: ended, or taken back by another reaper
        except Damaged as error:
            self._set_aside(job_id, job_type, str(error))
            return None

    def _lease_ms(self, job_dir: str, attempt: int) -> int:
        claim = jobs.load_claim(job_dir, attempt)
        return claim.lease_ms if claim else self.settings.default_lease_ms

    def sweep(self) -> None:
        """Remove values that have expired, and from tmp/ what has a dead owner, or is a day old."""
        expiring.sweep(self.index)
        names = looking.names_if_any(self.tree.top("tmp"))
        now = self.index.now() if names else 0.0
        for name in names:
            left = self.tree.staged(name)
            with suppress(FileNotFoundError):
                if owners.has_died(name) or now - _made(left) > LEFTOVER_SECONDS:
                    # Renamed first: whoever still builds there must fail as a whole, not publish half of it.
                    files.remove_tree(left, self.tree.staged(owners.marked(f"trash-{ids.new_ulid()}")))

    # -- cancel, redo -------------------------------------------------------------------------------

    def cancel(self, job_id: str, job_type: str, requested_by: str, reason: str) -> Status:
        """End a queued job, ask a leased one to end; gives the status after that. Raises NotFound, OSError."""
        status = self.request_cancel(job_id, job_type, requested_by, reason)
        if status.state in (states.CANCELLED, states.LEASED):
            # DURABLE: also for one that was cancelled before, whose caller may have failed at his barrier.
            self.commit(lambda: self.written_of(job_id))
        return status

    def request_cancel(self, job_id: str, job_type: str, requested_by: str, reason: str) -> Status:
        """The same without the barrier."""
        job_dir = self.index.job_dir(job_id)
        for _ in range(20):
            status = status_in(job_dir)
            if status is None:
                raise no_such_job(job_id, self.tree)
            if status.is_terminal:
                return status
            if paths.CANCEL not in looking.names(job_dir):
                note = {"requestedAt": outputs.now(), "requestedBy": requested_by, "reason": reason}
                files.replace(f"{job_dir}/{paths.CANCEL}", jsonio.record(note))
            cancelled = Status(states.CANCELLED, status.attempt)
            if status.state == states.LEASED:
                # RACE: the lease may have gone back to the queue before the note was there to be seen.
                if status_in(job_dir) == status:
                    return status
            elif self._cancel_queued(job_id, job_type, status, cancelled):
                return cancelled
        raise SpoolError(f"{job_id} changes too fast to be cancelled", hint="try again")

    def cancel_unclaimed(self, job_id: str, job_type: str) -> bool:
        """End a job that nobody has claimed yet, without a note of its own; whether it was so. For those of a batch."""
        return self._cancel_queued(job_id, job_type, Status(states.QUEUED, 0), Status(states.CANCELLED, 0))

    def _cancel_queued(self, job_id: str, job_type: str, queued: Status, cancelled: Status) -> bool:
        if not files.swap(self.index.job_dir(job_id), queued.name, cancelled.name):
            return False
        self.index.move(job_id, paths.queued(job_type), paths.finished(cancelled.state, job_type))
        return True

    def redo_if_torn(self, job_id: str, status: Status) -> bool:
        """Put a job back whose result cannot be read but whose request can; whether that was so."""
        if not jobs.needs_result(status):
            return False
        job_dir = self.tree.job(job_id)
        try:
            jobs.check_result(job_dir, status)
            return False
        except Damaged:
            pass
        request, _ = jobs.load_request(job_dir, self.settings.payload_limit_bytes)
        self.redo(job_id, request.job_type, status, request.max_attempts)
        return True

    def redo(self, job_id: str, job_type: str, ended: Status, max_attempts: int) -> None:
        """Put a job back whose result is torn: a power failure cut it off before it was acknowledged."""
        # The entry goes first to where the reaper looks: died in between, the reaper moves it by the status.
        self.index.move(job_id, paths.finished(ended.state, job_type), paths.leased(job_type))
        again = states.after_lost_lease(ended, max_attempts, cancel_requested=False)
        job_dir = self.tree.job(job_id)
        for link in (paths.RESULT, paths.ARTIFACTS):
            files.unlink(f"{job_dir}/{link}")
        if files.swap(job_dir, ended.name, again.name):
            self.index.move(job_id, paths.leased(job_type), paths.list_of(again, job_type))
            self.index.ring(job_type)


def _made(left: str) -> float:
    """When something in tmp/ was last changed, in seconds."""
    try:
        return looking.modified(left)  # opened first, for NFS gives the times that it remembers
    except Damaged:
        return os.lstat(left).st_mtime  # a link


def no_such_job(job_id: str, tree: paths.Tree) -> SpoolError:
    """The error for a job that is not there: NotFound, Damaged when it was set aside, NoSuchSpool when all is gone."""
    try:
        Index(tree).check_there()
    except SpoolError as error:
        return error
    kept = tree.set_aside(job_id)
    if os.path.isdir(kept):
        return Damaged(
            f"{job_id} was damaged and has been set aside",
            hint=f"its files are in {kept}, the reason in {kept}.why.txt; submit it again",
            path=kept,
        )
    created = durations.rfc3339(ids.created_ms(job_id))
    message = f"no such job: {job_id} (made {created}) is not in {tree.root}"
    return NotFound(
        message, hint="'breyta jobs list' shows the newest; is this the right spool?", jobId=job_id, path=tree.root
    )
