"""Which jobs and batches there are, newest first: from the names in the index, a bucket at a time, and from no job."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from breyta_spool import ids, paths, states
from breyta_spool.index import Index


def jobs(
    index: Index,
    job_type: str | None = None,
    status: str | None = None,
    batch_id: str | None = None,
    before: str | None = None,
) -> Iterator[str]:
    """The ids of the jobs of a type, status and batch, newest first, as far as the index tells.

    ``before``: only those behind that job. Statuses of running jobs are not told apart.
    """
    if job_type is None and status is None and batch_id is None:
        return _all(index, before)
    return _in_lists(index, lambda: _lists(index, job_type, status), batch_id, before)


def batches(index: Index, job_type: str | None = None, before: str | None = None) -> Iterator[str]:
    """The ids of the batches of a type, newest first; each has a bucket in some list."""
    found = {
        bucket
        for index_list in _lists(index, job_type, None)
        for bucket in index.names(f"{index.tree.root}/{index_list}")
        if ids.is_batch_id(bucket)
    }
    yield from sorted((batch for batch in found if before is None or batch < before), reverse=True)


def _lists(index: Index, job_type: str | None, status: str | None) -> Iterator[str]:
    if status is None:
        kinds = ["queued/", "leased/", "finished/"]
    elif status == states.QUEUED:
        kinds = ["queued/"]
    else:
        kinds = ["leased/"] if status in states.PROGRESS else [f"finished/{status}."]
    for kind in kinds:
        top, _, start = kind.partition("/")
        for name in index.names(index.tree.top(top)):
            if name.startswith(start) and job_type in (None, paths.type_of_list(f"{top}/{name}")):
                yield f"{top}/{name}"


def _in_lists(
    index: Index, lists: Callable[[], Iterator[str]], batch_id: str | None, before: str | None
) -> Iterator[str]:
    by_age: dict[str, set[str]] = {}
    latest = "-".join(ids.day_and_minute(before)) if before else "~"
    for index_list in lists():
        for bucket in [batch_id] if batch_id else index.names(f"{index.tree.root}/{index_list}"):
            if (age := paths.bucket_age_key(bucket)) <= latest:
                by_age.setdefault(age, set()).add(bucket)
    for age in sorted(by_age, reverse=True):
        # RACE: jobs move on while this goes from minute to minute, to lists and buckets that were not there before. So
        # a bucket is looked for in every list there is by now, and in the order that jobs move.
        places = (f"{index_list}/{bucket}" for index_list in lists() for bucket in by_age[age])
        yield from _newest(index, places, before)


def _newest(index: Index, places: Iterable[str], before: str | None) -> Iterator[str]:
    """The ids in some directories, newest first; of a job that is in two of them, one."""
    parts = [_descending(index.names(index.tree.top(place))) for place in places]
    limit = ids.order(before) if before else None
    last = ""
    for job_id in heapq.merge(*parts, key=ids.order, reverse=True):
        if job_id != last and (limit is None or ids.order(job_id) < limit):
            yield job_id
        last = job_id


def _descending(names: list[str]) -> Iterator[str]:
    # A bucket holds single jobs or one batch: of names of one length the greater is the newer.
    by_length: dict[int, list[str]] = {}
    for name in names:
        by_length.setdefault(len(name), []).append(name)
    for length in sorted(by_length, reverse=True):
        yield from filter(ids.is_job_id, sorted(by_length[length], reverse=True))


def _all(index: Index, before: str | None) -> Iterator[str]:
    """The ids of all jobs, read from the job directories themselves."""
    last = ids.day_and_minute(before) if before else ("~", "~")
    for day in sorted(index.names(index.tree.top("jobs")), reverse=True):
        for minute in sorted(index.names(index.tree.top(f"jobs/{day}")), reverse=True):
            if (day, minute) <= last:
                place = f"jobs/{day}/{minute}"
                inner = [f"{place}/{name}" for name in index.names(index.tree.top(place)) if ids.is_batch_id(name)]
                yield from _newest(index, [place, *inner], before)
