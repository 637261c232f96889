"""Which jobs and batches there are, newest first: from the names in the index, a bucket at a time, and from no job."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from breyta_spool import ids, looking, paths, states
from breyta_spool.index import Index

FEW = 256
"""How many names of a bucket are sorted at first: a page is short, and a bucket may have a million."""


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
        yield from _newest((_names(index, place) for place in places), before)


def _names(index: Index, place: str) -> list[str]:
    """All names in a directory of the spool; hidden ones are no ids and fall away later."""
    return looking.names_if_any(index.tree.top(place))


def _newest(listings: Iterable[list[str]], before: str | None) -> Iterator[str]:
    """The ids in some listings, newest first; of a job that is in two of them, one."""
    parts = [_descending(names, before) for names in listings]
    last = ""
    for job_id in heapq.merge(*parts, key=ids.order, reverse=True):
        if job_id != last:
            yield job_id
        last = job_id


def _descending(names: list[str], before: str | None) -> Iterator[str]:
    # A bucket holds single jobs or one batch: of names of one length the greater is the newer.
    lengths = sorted(set(map(len, names)), reverse=True)
    for length in lengths:
        alike = names if len(lengths) == 1 else [name for name in names if len(name) == length]
        if before is not None:
            alike = _behind(before, length, alike)
        first = heapq.nlargest(FEW, alike)
        yield from filter(ids.is_job_id, first)
        if len(alike) > len(first):
            yield from filter(ids.is_job_id, sorted(alike, reverse=True)[len(first) :])


def _behind(before: str, length: int, names: list[str]) -> list[str]:
    """Those of some names of one length that are older than a job."""
    if length == len(before):
        return [name for name in names if name < before]
    limit = ids.order(before)
    return [name for name in names if ids.order(name) < limit]


def _all(index: Index, before: str | None) -> Iterator[str]:
    """The ids of all jobs, read from the job directories themselves."""
    last = ids.day_and_minute(before) if before else ("~", "~")
    for day in sorted(index.names(index.tree.top("jobs")), reverse=True):
        for minute in sorted(index.names(index.tree.top(f"jobs/{day}")), reverse=True):
            if (day, minute) <= last:
                place = f"jobs/{day}/{minute}"
                names = _names(index, place)
                inner = (name for name in names if name.startswith("batch-") and ids.is_batch_id(name))
                yield from _newest([names, *(_names(index, f"{place}/{batch}") for batch in inner)], before)
