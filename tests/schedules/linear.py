"""Whether a history can be explained: some order of the calls, true to who returned before whom, fits the model.

After Wing and Gong: try every order, and no state twice. A call without an answer may have come to any of its steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.schedules.history import Call
from tests.schedules.model import LEASED, QUEUED, STEPS, UNKNOWN, Job

Place = tuple[int, ...]


def explained(calls: Sequence[Call], before: Job, after: Job) -> bool:
    """Whether the calls lead from one job to the other by some order of their steps that gives every answer."""
    rows = [STEPS[call.kind] for call in calls]
    first = [[n for n, other in enumerate(calls) if other.ended and other.ended < call.begun] for call in calls]
    tried: set[tuple[Place, Job]] = set()
    left = [((0,) * len(calls), before)]
    while left:
        at = left.pop()
        if at in tried:
            continue
        tried.add(at)
        place, job = at
        done = [place[n] == len(row) for n, row in enumerate(rows)]
        if all(done[n] for n, call in enumerate(calls) if call.ended) and _same(job, after):
            return True
        for n, call in enumerate(calls):
            if not done[n] and all(done[other] for other in first[n]):
                further = (*place[:n], place[n] + 1, *place[n + 1 :])
                left += [(further, next_job) for next_job in rows[n][place[n]](job, call)]
    return False


def _same(job: Job, found: Job) -> bool:
    """Whether the model's job is the one on the disk; whether one that has ended was asked to, nobody cares."""
    if (job.state, job.attempt) != (found.state, found.attempt):
        return False
    if job.state == LEASED and job.token != found.token and not job.token.startswith(UNKNOWN):
        return False
    return job.state not in (QUEUED, LEASED) or job.cancel == found.cancel
