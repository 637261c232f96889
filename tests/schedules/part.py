"""What an actor can do: the calls of the public face, each noted in the history with its answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from breyta_spool import Lease, LeaseLost, Spool, batches, states
from breyta_spool.records import Job
from tests.crash.worlds import LONG_AGO, TYPE
from tests.schedules.history import LOST, Call
from tests.schedules.stage import Stage


class Part:
    """The part of one actor, on a spool that it has opened for itself."""

    def __init__(self, name: str, spool: Spool, stage: Stage, job_ids: list[str], token: str, batch_id: str):
        self.name, self.spool, self.stage = name, spool, stage
        self.job_ids, self.token, self.batch_id = job_ids, token, batch_id

    def call(self, act: Callable[[], Any], answer: Callable[[Any], Any], kind: str, job_id: str, **about: Any) -> Any:
        """Act, and note it as a call of a kind that the model knows; ``answer`` is what the model is told of it.

        Gives what the action returned, None when the lease was lost. Without a job the call concerns all, and its
        answer is a map by job.
        """
        call = self._begin(kind, job_id, **about)
        try:
            result = act()
        except LeaseLost:
            self._end(call, LOST)
            return None
        self._end(call, answer(result))
        return result

    def _end(self, call: Call, answer: Any) -> None:
        self.stage.history.end(call, answer)
        # Whatever it looked at on the way, an actor goes on with the answers it got, and with its place in the queue.
        queues = ((key, tuple(queue._window), queue._company) for key, queue in self.spool._queues.items())
        self.stage.remembers(self.stage.history.story(self.name), *queues)

    def _begin(self, kind: str, job_id: str, **about: Any) -> Call:
        call = self.stage.history.begin(self.name, kind, job_id, **about)
        self.stage.knows(call.after)
        return call

    # -- workers ------------------------------------------------------------------------------------

    def claim(self) -> Lease | None:
        def answer(lease: Lease | None) -> Any:
            return {lease.job_id: (lease.held.dir.attempt, lease.token)} if lease else {}

        lease: Lease | None = self.call(lambda: self.spool.claim(TYPE, self.name), answer, "claim", "")
        return lease

    def claim_quickly(self) -> Lease | None:
        """As a worker does that handles jobs in its own process, and writes a lease down when the job runs on."""

        def claim() -> Lease | None:
            spool = self.spool
            queue = spool._queues.setdefault((TYPE, None), spool.queue(TYPE))
            held = spool.claims.claim(queue, TYPE, self.name, {}, spool.settings.default_lease_ms, True, True)
            return Lease(spool.claims, spool._get, held, spool.access) if held else None

        def answer(lease: Lease | None) -> Any:
            return {lease.job_id: (lease.held.dir.attempt, lease.token)} if lease else {}

        lease: Lease | None = self.call(claim, answer, "claim", "")
        return lease

    def look_after(self, lease: Lease) -> None:
        """What its keeper does when the job runs on."""

        def look() -> bool:
            cancel = lease.heartbeat()
            self.spool.claims.note(lease.held.dir, TYPE)
            return cancel

        self.call(look, lambda cancel: cancel, "heartbeat", lease.job_id, token=lease.token)

    def lease(self) -> Lease | None:
        """The lease that was won before the schedule began, if it is still held."""
        try:
            return self.spool.lease(self.job_ids[0], self.token)
        except LeaseLost:
            return None

    def complete(self, lease: Lease) -> None:
        by = f"{self.name}{lease.held.dir.attempt}"
        about = {"token": lease.token, "status": states.SUCCEEDED, "by": by}
        self.call(lambda: lease.complete(outputs={"by": by}), _ended, "finish", lease.job_id, **about)

    def fail(self, lease: Lease) -> None:
        about = {"token": lease.token, "status": states.FAILED, "by": None}
        self.call(lambda: lease.fail("it broke"), _ended, "finish", lease.job_id, **about)

    def heartbeat(self, lease: Lease) -> None:
        self.call(lease.heartbeat, lambda cancel: cancel, "heartbeat", lease.job_id, token=lease.token)

    def progress(self, lease: Lease) -> None:
        self.call(lambda: lease.progress("half"), lambda _: None, "progress", lease.job_id, token=lease.token)

    def give_back(self, lease: Lease) -> None:
        self.call(lease.give_back, lambda _: None, "give back", lease.job_id, token=lease.token)

    # -- others -------------------------------------------------------------------------------------

    def outlast(self) -> None:
        """Everybody else stands still until the leases have run out."""
        self.stage.pause("waits until all leases have run out")
        call = self._begin("grow old", "")
        with self.stage.unseen() as changes:
            for job_id in self.job_ids:
                directory = self.spool.tree.job(job_id)
                for name in os.listdir(directory) if os.path.isdir(directory) else ():
                    if name.startswith(f"{states.PREFIX}{states.LEASED}."):
                        os.utime(f"{directory}/{name}", (time.time() - LONG_AGO,) * 2)
                        changes(f"{directory}/{name}")
        self._end(call, {})

    def expire(self) -> None:
        reported: dict[str, tuple[str, int]] = {}

        def report(job_id: str, status: states.Status) -> None:
            reported[job_id] = (status.state, status.attempt)

        self.call(lambda: self.spool.claims.expire(TYPE, report), lambda _: reported, "expire", "")

    def submit(self, key: str) -> None:
        def answer(job: Job) -> Any:
            call.job_id = job.job_id
            return _shown(job)

        call = self._begin("submit", "")
        self._end(call, answer(self.spool.submit(TYPE, {"by": self.name}, idempotency_key=key)))

    def submit_batch(self, count: int) -> None:
        def submit() -> Any:
            return self.spool.submit_batch(TYPE, ({"payload": {"n": n}} for n in range(count)))

        self.call(submit, lambda batch: {job.job_id: "made" for job in batch.jobs or []}, "submit batch", "")

    def cancel_batches(self) -> None:
        """Cancel every batch that shows."""
        for batch in self.spool.list_batches():
            batch_id = batch.batch_id
            self.call(lambda batch_id=batch_id: self.spool.cancel_batch(batch_id), lambda _: {}, "cancel batch", "")

    def mend(self) -> None:
        """What an await of a batch does now and then."""
        claims = self.spool.claims
        self.call(lambda: batches.mend(claims, batches.load(claims, self.batch_id)), lambda _: {}, "mend", "")

    def cancel(self) -> None:
        job_id = self.job_ids[0]
        self.call(lambda: self.spool.cancel(job_id, requested_by=self.name), _shown, "cancel", job_id)

    def get(self) -> None:
        job_id = self.job_ids[0]
        self.call(lambda: self.spool.get(job_id), _shown, "get", job_id)


def _shown(job: Job) -> tuple[str, int, bool]:
    return (states.LEASED if job.status in states.PROGRESS else job.status, job.attempt, job.cancel_requested)


def _ended(job: Job) -> tuple[str, Any]:
    return job.status, job.outputs.get("by")
