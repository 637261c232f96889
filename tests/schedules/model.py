"""What a job is, in as few words as can be: the sequential model that every history must be explained by. Pure.

A call is a row of steps. Each step is atomic and gives the jobs that may be there after it; none: not possible now.
``notes`` is what calls under way remember.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.schedules.history import LOST, Call

UNKNOWN = "token of"
"""Begins a token whose claimer did not live to tell it."""
ABSENT, QUEUED, LEASED, CANCELLED, TIMED_OUT = "absent", "queued", "leased", "cancelled", "timed_out"


class Job(NamedTuple):
    """A job. ``old``: its lease ran out; ``torn``: it ended, and its result is not readable."""

    state: str
    attempt: int = 0
    token: str = ""
    cancel: bool = False
    max_attempts: int = 3
    old: bool = False
    torn: bool = False
    notes: frozenset[tuple[str, int]] = frozenset()

    def to(self, state: str) -> Job:
        return self._replace(state=state, token="", old=False, torn=False)


Step = Callable[[Job, Call], Iterator[Job]]


def _if(possible: object, job: Job) -> Iterator[Job]:
    if possible:
        yield job


def _note(job: Job, word: str, call: Call) -> Job:
    return job._replace(notes=job.notes | {(word, call.begun)})


def _noted(job: Job, word: str, call: Call) -> bool:
    return (word, call.begun) in job.notes


def _holds(job: Job, call: Call) -> bool:
    return job.state == LEASED and job.token in (call.about["token"], f"{UNKNOWN} {call.begun}")


def _forgotten(job: Job, call: Call) -> Job:
    return job._replace(notes=frozenset(note for note in job.notes if note[1] != call.begun))


# -- claim ------------------------------------------------------------------------------------------


def take(job: Job, call: Call) -> Iterator[Job]:
    """A claim that got nothing is no wonder: entries are advice, and may be on their way."""
    if call.ended is not None and call.answer is None:
        return iter((job,))
    attempt, token = call.answer or (job.attempt + 1, f"{UNKNOWN} {call.begun}")
    leased = job._replace(state=LEASED, attempt=attempt, token=token, old=False)
    return _if(job.state == QUEUED and attempt == job.attempt + 1 <= job.max_attempts, leased)


# -- expire: look for a cancel, take the lease back, look again -------------------------------------


def look(job: Job, call: Call) -> Iterator[Job]:
    yield _note(job, "heard", call) if job.cancel else job


def take_back(job: Job, call: Call) -> Iterator[Job]:
    """Only a reaper that has returned tells what it took back; a claim and a mender reap too, and tell nobody."""
    tells = call.kind == "expire" and call.ended is not None
    if not tells or call.answer is None:
        yield job
    if job.state == LEASED and job.old:
        back = _back(job, call)
        if not tells or (call.answer and call.answer[1] == job.attempt and back.state in (QUEUED, call.answer[0])):
            yield back


def _back(job: Job, call: Call) -> Job:
    if _noted(job, "heard", call):
        return job.to(CANCELLED)
    if job.attempt >= job.max_attempts:
        return job.to(TIMED_OUT)
    return _note(job.to(QUEUED), f"back {job.attempt}", call)


def look_again(job: Job, call: Call) -> Iterator[Job]:
    """Who has put a job back into the queue looks once more: a cancel may have come between."""
    told = call.answer[0] if call.kind == "expire" and call.answer else None
    if job.state == QUEUED and job.cancel and _noted(job, f"back {job.attempt}", call):
        job = job.to(CANCELLED)
        if told == QUEUED:
            return  # it says that it saw no cancel
    if told not in (CANCELLED, TIMED_OUT) or job.state == told:
        yield _forgotten(job, call)


# -- the holder -------------------------------------------------------------------------------------


def may_retake(job: Job, call: Call) -> Iterator[Job]:
    """A holder that finds the result of an earlier try goes on with a token of its own."""
    yield job
    if _holds(job, call):
        yield job._replace(token=f"{UNKNOWN} {call.begun}")


def end(job: Job, call: Call) -> Iterator[Job]:
    if call.answer == LOST:
        return _if(not _holds(job, call), job)
    return _if(_holds(job, call), job.to(call.about["status"]))


def renew(job: Job, call: Call) -> Iterator[Job]:
    if call.answer == LOST:
        return _if(not _holds(job, call), job)
    return _if(_holds(job, call) and (call.answer in (None, job.cancel)), job)


def give_back(job: Job, call: Call) -> Iterator[Job]:
    if call.answer == LOST:
        return _if(not _holds(job, call), job)
    return _if(_holds(job, call), _back(job, call))


# -- everybody --------------------------------------------------------------------------------------


def grow_old(job: Job, call: Call) -> Iterator[Job]:
    yield job._replace(old=job.state == LEASED or job.old)


def ask(job: Job, call: Call) -> Iterator[Job]:
    yield job._replace(cancel=True) if job.state in (QUEUED, LEASED) else job


def cancel(job: Job, call: Call) -> Iterator[Job]:
    yield job.to(CANCELLED) if job.state == QUEUED else job


def redo(job: Job, call: Call) -> Iterator[Job]:
    back = TIMED_OUT if job.attempt >= job.max_attempts else QUEUED
    yield job.to(back) if job.torn else job


def read(job: Job, call: Call) -> Iterator[Job]:
    """The answer is the job at one moment. Whether one that has ended was asked to is not told."""
    if call.ended is None:
        return iter((job,))
    state, attempt, asked = call.answer
    same = (job.state, job.attempt) == (state, attempt) and (job.state not in (QUEUED, LEASED) or job.cancel == asked)
    return _if(same and not job.torn, job)


def make(job: Job, call: Call) -> Iterator[Job]:
    yield job._replace(state=QUEUED) if job.state == ABSENT else job


_EXPIRE = (look, take_back, look_again)
STEPS: dict[str, tuple[Step, ...]] = {
    "claim": (*_EXPIRE, *_EXPIRE, take),
    "expire": _EXPIRE,
    "finish": (may_retake, end),
    "heartbeat": (renew,),
    "progress": (renew,),
    "give back": (look, give_back, look_again),
    "grow old": (grow_old,),
    "cancel": (ask, cancel, read),
    "cancel batch": (ask, cancel),
    "mend": _EXPIRE,
    "get": (redo, read),
    "submit": (make, read),
    "submit batch": (make,),
}
