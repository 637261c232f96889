"""The worker: claim a job, have it handled, publish the result; renew leases and take back lost ones meanwhile."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from breyta_spool import durations, files, handler, jsonio, looking, outputs, paths, results, states
from breyta_spool.access import JOBS_WORKER
from breyta_spool.claims import Held
from breyta_spool.errors import InvalidInput, LeaseLost, NotAllowed, SpoolError, doing, storage_error
from breyta_spool.handler import Handler, Run
from breyta_spool.jobs import RECORD_LIMIT
from breyta_spool.lease import lease_duration
from breyta_spool.outputs import AttemptDir
from breyta_spool.records import Job, read_record
from breyta_spool.records import Worker as WorkerRecord
from breyta_spool.results import Outcome
from breyta_spool.spool import Spool
from breyta_spool.waiting import Wake

BEAT_SECONDS = 15.0
NOTE_SECONDS = 0.5
"""How long a job may run in a worker's own process before it is written down who has its lease, at most."""
SWEEP_SECONDS = 3600.0
"""How often a worker looks for what crashed processes left in tmp/."""
LOST_PATIENCE = 30.0
"""The longest pause, in seconds, between two tries to publish a result that the disk refuses."""


@dataclass
class Settings:
    """How a worker works; times are seconds, ``lease`` a duration as the contract writes it."""

    job_type: str
    worker_id: str = ""
    batch_id: str | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    lease: Any = None
    poll: float = 5.0
    once: bool = False
    quiet: bool = False
    concurrency: int = 1
    timeout: float | None = None
    grace: float = handler.GRACE_SECONDS


@dataclass
class Tally:
    """What a worker did."""

    handled: int = 0
    failed: int = 0
    lost: int = 0
    given_back: int = 0
    idle_polls: int = 0
    last_job_id: str | None = None
    last_job_dir: str | None = None


class Worker:
    """Handles jobs of one type with ``concurrency`` slots: threads that each claim, handle and finish.

    ``log`` is told what happens, in words. ``run`` returns when the worker was stopped, or after one look with
    ``once``. ``stop`` and ``abort`` may be called from a signal handler.
    """

    def __init__(
        self,
        spool: Spool,
        handle: Handler,
        settings: Settings,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.spool = spool
        self.settings = settings
        self.tally = Tally()
        self.lease_ms = lease_duration(settings.lease, spool.settings.default_lease_ms)
        self.worker_id = paths.check_worker_id(settings.worker_id or f"{socket.gethostname()}-{os.getpid()}")
        self.handle = handle
        self.log = log or (lambda line: None)
        self._tells_ends = log is not None and not settings.quiet
        self._host = socket.gethostname()
        self._type = paths.check_job_type(settings.job_type)
        self._queue = spool.queue(self._type, settings.batch_id)
        self._claiming = threading.Lock()
        self._counting = threading.Lock()
        self._wake = Wake()
        self._stop = threading.Event()
        self._abort = threading.Event()
        self._keeper = Keeper(self)
        self._running = 0
        self._last: AttemptDir | None = None
        self._failure: SpoolError | None = None
        self._ended = threading.Event()

    # -- life ---------------------------------------------------------------------------------------

    def run(self) -> Tally:
        """Work until stopped.

        Raises StorageError when the spool cannot be worked on at all, or not ``once``, and NotAllowed when the key does
        not allow it, or does not any more; what ran then has been finished first.
        """
        self.spool.access.need(JOBS_WORKER, self._type)
        with doing("work on this spool"):
            bell = self.spool.index.bell(self._type)
        if not self.settings.once:
            self._wake.watch(bell, opened=True)
        self._keeper.reap()
        self._keeper.start()
        self._running = 1 if self.settings.once else self.settings.concurrency
        try:
            for number in range(self._running):
                threading.Thread(target=self._slot, name=f"slot-{number}", daemon=True).start()
            self._ended.wait()
        finally:
            self._keeper.stop()
            self._wake.close()
            if self._last is not None and os.path.isdir(self._last.work):
                self.tally.last_job_dir = self._last.work
        if self._failure is not None and (self.settings.once or isinstance(self._failure, NotAllowed)):
            raise self._failure
        return self.tally

    def last_job(self) -> Job | None:
        """The last job that this worker handled, as it is now; None when there was none or it is gone."""
        with suppress(SpoolError):
            return self.spool._get(self.tally.last_job_id) if self.tally.last_job_id else None
        return None

    def stop(self) -> None:
        """Finish what runs, claim nothing more."""
        self._stop.set()
        self._wake.set()

    def abort(self) -> None:
        """Stop the handlers that run and give their leases back at once."""
        self._abort.set()
        self.stop()
        runs = self._keeper.stop_all(handler.SHUTDOWN)
        if self.handle.in_process:
            # A function cannot be killed. Its lease goes back all the same; what it returns later is refused.
            threading.Thread(target=self._give_all_back, args=(runs,), daemon=True).start()

    def _give_all_back(self, runs: list[Run]) -> None:
        for run in runs:
            with suppress(SpoolError, OSError):
                self._give_back(run.held)
        self._ended.set()

    def _slot(self) -> None:
        try:
            self._claim_and_work()
        finally:
            self._wake.set()
            with self._counting:
                self._running -= 1
                if not self._running:
                    self._ended.set()

    def _claim_and_work(self) -> None:
        while not self._stop.is_set():
            try:
                held = self._claim()
            except (OSError, SpoolError) as error:
                self._failed_to_claim(storage_error(error, "claim a job") if isinstance(error, OSError) else error)
                held = None
            if held is not None:
                if self.settings.concurrency > 1:
                    self._wake.set()  # pass it on: there may be more, and other slots sleep
                self._work(held)
            else:
                self.tally.idle_polls += 1
            if self.settings.once:
                break
            if held is None:
                self._wake.wait(self.settings.poll * random.uniform(0.8, 1))  # noqa: S311 - spreads load

    def _failed_to_claim(self, error: SpoolError) -> None:
        self.log(str(error))
        if not isinstance(self._failure, NotAllowed):
            self._failure = error
        if isinstance(error, NotAllowed):
            self.log("claiming nothing more; what runs is finished first")
            self.stop()

    def _claim(self) -> Held | None:
        with self._claiming:
            if self._stop.is_set():
                return None
            self.spool.access.need(JOBS_WORKER, self._type)  # afresh each time: it may have been revoked
            held = self.spool.claims.claim(
                self._queue,
                self._type,
                self.worker_id,
                dict(self.settings.labels),
                self.lease_ms,
                self.handle.in_process,
                looked_after=self.handle.in_process,
            )
        if held is None:
            self.spool.index.check_there()  # an empty queue and a share that went away look alike
        else:
            held.key_id = self.spool.access.key_id
        return held

    # -- one job ------------------------------------------------------------------------------------

    def _work(self, held: Held) -> None:
        run = Run(held, self.settings.timeout)
        self._keeper.add(run, wake=not self.handle.in_process)
        if self._abort.is_set():
            run.stop(handler.SHUTDOWN)
        try:
            outcome = self._outcome(run)
            self._end(run, outcome)
        except LeaseLost as error:
            self._count("lost")
            self.log(f"{held.job_id}: {error}; its result is discarded")
        except Exception as error:  # whatever it is, the other jobs must not suffer for it
            self._count("lost")
            self.log(f"{held.job_id}: cannot be finished here, its lease will run out: {error}")
        finally:
            self._keeper.remove(run)
            with self._counting:
                self.tally.last_job_id = held.job_id
                self._last = held.dir

    def _outcome(self, run: Run) -> Outcome:
        try:
            return self.handle(run)
        except BaseException as error:  # whatever it is, it must not cost the worker
            return results.failed(f"the worker failed: {error!r}", results.SETUP_FAILED)

    def _end(self, run: Run, outcome: Outcome) -> None:
        held = run.held
        if run.reason == handler.LOST:
            raise outputs.lease_lost(held.job_id, held.dir.attempt)
        if run.reason == handler.SHUTDOWN:
            self._give_back(held)
            return
        outcome = handler.stopped_outcome(run, outcome, self.settings.timeout)
        outcome = self._publish(held, outcome)
        self._count("handled")
        if outcome.status == states.FAILED:
            self._count("failed")
        if self._tells_ends:
            spent = durations.spoken((time.monotonic() - run.began) * 1000)
            self.log(f"{held.job_id} {outcome.status} in {spent}" + (f": {outcome.summary}" if outcome.summary else ""))

    def _give_back(self, held: Held) -> None:
        after = self.spool.claims.give_back(held.dir, self._type)
        self._count("given_back")
        self.log(f"{held.job_id} given back, now {after.state}")

    def _publish(self, held: Held, outcome: Outcome) -> Outcome:
        """Publish a result, again while the disk refuses it and the lease is held; gives what was accepted."""
        info = handler.worker_info(held, self.handle.name, self._host)
        pause = 0.5
        while True:
            try:
                self.spool.claims.finish(held.dir, self._type, outcome, info)
                return outcome
            except OSError as error:
                if held.dir.ended or self.spool.barrier.has_failed:
                    # What counts already is for whoever awaits it and asks for his own barrier; the rest is done again.
                    self.log(f"{held.job_id}: the disk did not sync, so this worker stops: {error}")
                    self.stop()
                    raise
                if self._abort.is_set():
                    raise
                self.log(f"{held.job_id}: cannot write its result, trying again in {pause:g}s: {error}")
            except InvalidInput as error:
                if outcome.error and outcome.error["code"] == results.INVALID_RESULT:
                    raise  # even that it cannot be stored cannot be stored
                outcome = results.failed(error.message, results.INVALID_RESULT)
                continue
            self._abort.wait(pause)
            pause = min(pause * 2, LOST_PATIENCE)

    def _count(self, what: str) -> None:
        with self._counting:
            setattr(self.tally, what, getattr(self.tally, what) + 1)


class Keeper(threading.Thread):
    """Renews leases, sees cancels and timeouts, takes back leases that others lost, shows that the worker lives."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="keeper", daemon=True)
        self._worker = worker
        self._claims = worker.spool.claims
        self._runs: dict[str, Run] = {}
        self._change = threading.Condition()
        self._ended = False
        lease = worker.lease_ms / 1000
        self._tick = max(0.05, min(worker.settings.poll, lease / 4))
        self._reap_every = max(0.25, min(30.0, lease / 4))
        self._next_reap = 0.0
        self._next_sweep = 0.0
        self._next_look = 0.0
        self._recorded = False
        self._next_beat = 0.0

    def add(self, run: Run, *, wake: bool) -> None:
        """Look after a run; ``wake`` when it may need a look before the next tick."""
        self._runs[run.held.job_id] = run
        if wake and run.deadline is not None:
            with self._change:
                self._change.notify()

    def remove(self, run: Run) -> None:
        """The run is over."""
        self._runs.pop(run.held.job_id, None)

    def stop_all(self, reason: str) -> list[Run]:
        """Stop every handler; gives the runs that were stopped."""
        runs = list(self._runs.values())
        for run in runs:
            run.stop(reason)
        return runs

    def stop(self) -> None:
        """End the thread and take the worker's record away."""
        with self._change:
            self._ended = True
            self._change.notify()
        if self.is_alive():
            self.join(timeout=5)
        with suppress(OSError, SpoolError):
            path = self._worker.spool.tree.worker(self._worker.worker_id)
            record = read_record(WorkerRecord, looking.read(path, RECORD_LIMIT), path)
            if (record.host, record.pid) == (self._worker._host, os.getpid()):  # not that of a namesake
                files.unlink(path)

    def run(self) -> None:
        """Look after everything once a tick."""
        while not self._ended:
            self._look()
            with self._change:
                if not self._ended:
                    self._change.wait(self._pause())

    def _pause(self) -> float:
        now = time.monotonic()
        runs = list(self._runs.values())
        waiting = [run.deadline - now for run in runs if run.deadline and not run.reason]
        if any(run.reason for run in runs):
            waiting.append(self._worker.settings.grace / 4)
        if self._worker.handle.in_process:
            waiting.append(NOTE_SECONDS)
        return max(0.01, min([self._tick, *waiting]))

    def _look(self) -> None:
        now = time.monotonic()
        all_of_them = now >= self._next_look
        if all_of_them:
            self._next_look = now + self._tick * 0.99
        for run in list(self._runs.values()):
            if all_of_them or run.reason or run.deadline or run.held.dir.unwritten:
                self._look_after(run)
        now = time.monotonic()
        if now >= self._next_reap:
            self.reap()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_SECONDS
            with suppress(OSError):
                self._beat()

    def _look_after(self, run: Run) -> None:
        now = time.monotonic()
        if run.deadline is not None and now >= run.deadline:
            run.stop(handler.TIMEOUT)
        run.kill_if_overdue(self._worker.settings.grace)
        try:
            if now - run.renewed + self._tick > self._worker.lease_ms / 2000:
                cancel = self._claims.renew(run.held.dir)
                run.renewed = now
            else:
                cancel = self._claims.cancel_requested(run.held.dir)
            if cancel:
                run.stop(handler.CANCELLED)
            self._claims.note(run.held.dir, self._worker._type)
        except LeaseLost:
            # RACE: the slot may just have finished the job itself; then there is nothing left to stop.
            if run.held.job_id in self._runs:
                run.stop(handler.LOST)
        except OSError as error:
            if now - run.renewed > self._worker.lease_ms / 1000:
                self._worker.log(f"{run.held.job_id}: the lease could not be renewed in time: {error}")
                run.stop(handler.LOST)

    def reap(self) -> None:
        """Take back the leases of this worker's type that ran out."""
        spread = random.uniform(0.75, 1.25)  # noqa: S311 - spreads load
        self._next_reap = time.monotonic() + self._reap_every * spread

        def told(job_id: str, status: states.Status) -> None:
            self._worker.log(f"{job_id}: the lease of attempt {status.attempt} ran out, now {status.state}")

        try:
            self._claims.expire(self._worker._type, told)
            if time.monotonic() >= self._next_sweep:
                self._next_sweep = time.monotonic() + SWEEP_SECONDS
                self._claims.sweep()
        except (OSError, SpoolError) as error:
            self._worker.log(f"cannot look for lost leases: {error}")

    def _beat(self) -> None:
        worker = self._worker
        path = worker.spool.tree.worker(worker.worker_id)
        if not self._recorded:
            self._record(path)
        try:
            files.touch(path)
        except FileNotFoundError:
            self._record(path)

    def _record(self, path: str) -> None:
        worker = self._worker
        record = WorkerRecord(
            worker_id=worker.worker_id,
            job_type=worker.settings.job_type,
            host=worker._host,
            pid=os.getpid(),
            labels=dict(worker.settings.labels),
            handler=worker.handle.name,
            concurrency=worker.settings.concurrency,
            started_at=outputs.now(),
            beat_ms=int(BEAT_SECONDS * 1000),
        )
        fields = record.model_dump(by_alias=True, mode="json", exclude={"last_seen_at", "alive"})
        worker.spool.index.make_dirs(worker.spool.tree.top("workers"))
        files.replace(path, jsonio.record(fields))
        self._recorded = True
