"""Batches by the library and by the command line: all or none, counted, listed by pages, awaited, cancelled."""

from __future__ import annotations

import itertools
import json
import os
import random
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import AwaitBound, Batch, InvalidInput, NotFound, Spool, StorageError, ids, index, listing, states
from breyta_spool.handler import ActiveJob
from tests.world import Cli, age_lease, everything_in, job_dir, script, work_off

SPECS: list[dict[str, Any]] = [{"payload": {"n": n}} for n in range(1, 4)]


def submitted(spool: Spool, count: int = 3, job_type: str = "t", **given: Any) -> Batch:
    return spool.submit_batch(job_type, ({"payload": {"n": n}} for n in range(1, count + 1)), **given)


def job_ids(batch: Batch) -> list[str]:
    assert batch.jobs is not None
    return [job.job_id for job in batch.jobs]


def end_one(spool: Spool, batch: Batch, status: str) -> None:
    """Let the next job of a batch end with a status."""
    if status == states.TIMED_OUT:
        lease = spool.claim(batch.job_type, "w", batch_id=batch.batch_id)
        assert lease is not None
        assert lease.give_back().status == states.TIMED_OUT
        return
    lease = spool.claim(batch.job_type, "w", batch_id=batch.batch_id)
    assert lease is not None
    if status == states.FAILED:
        lease.fail("it broke")
    else:
        lease.complete(status=status)


# -- submit -----------------------------------------------------------------------------------------


def test_a_batch_goes_from_submit_to_its_results(spool: Spool) -> None:
    batch = spool.submit_batch(
        "review",
        [{"payload": {"surface": "api"}, "metadata": {"k": 1}}, {"payload": [2]}, {}],
        metadata={"campaign": "x"},
        root_workflow_id="wf-1",
    )
    assert (batch.status, batch.requested_count, batch.queued_count) == ("queued", 3, 3)
    assert [job.payload for job in batch.jobs or []] == [{"surface": "api"}, [2], {}]
    assert job_ids(batch) == [ids.job_in_batch(batch.batch_id, number) for number in (1, 2, 3)]

    assert work_off(spool, lambda job: {"outputs": {"n": 1}}, "review").handled == 3
    done = spool.await_batch(batch.batch_id, timeout="5s")
    assert (done.status, done.succeeded, done.succeeded_count, done.ended_count) == ("completed", True, 3, 3)
    assert [job.outputs for job in done.jobs or []] == [{"n": 1}] * 3
    assert {job.batch_id for job in done.jobs or []} == {batch.batch_id}
    assert {job.root_workflow_id for job in done.jobs or []} == {"wf-1"} == {done.root_workflow_id}
    assert (done.metadata, [job.metadata for job in done.jobs or []]) == ({"campaign": "x"}, [{"k": 1}, {}, {}])


def test_the_returned_batch_of_a_submit_is_what_a_reader_sees(spool: Spool) -> None:
    batch = spool.submit_batch("t", SPECS, metadata={"k": "v"}, max_attempts=7, fanout_max_concurrency=2)
    read = spool.get_batch(batch.batch_id, include_jobs=True)
    assert batch.jobs == read.jobs
    # The server's clock may tick in steps: when an entry last moved is no field of the submit.
    same = {"updated_at": batch.updated_at}
    assert batch.model_copy(update=same) == read.model_copy(update=same)


def test_a_job_of_a_batch_may_say_how_often_it_is_tried_in_the_words_of_a_flow_too(spool: Spool) -> None:
    specs = [{"maxAttempts": 1}, {"max-attempts": 2}, {"max_attempts": 4}, {}, {"maxAttempts": None}]
    assert [job.max_attempts for job in spool.submit_batch("t", specs).jobs or []] == [1, 2, 4, 3, 3]
    assert [job.max_attempts for job in spool.submit_batch("t", specs, max_attempts=9).jobs or []] == [1, 2, 4, 9, 3]


WRONG = [
    ("text", "job 2 must be an object with payload, metadata and maxAttempts, not "),
    (None, "job 2 must be an object"),
    ([1], "job 2 must be an object"),
    ({"surface": "api"}, "job 2 has the unknown field 'surface'"),
    ({"payload": 1, 5: 6}, "job 2 has the unknown field '5'"),
    ({"jobType": "t"}, "job 2 has the unknown field 'jobType'"),
    ({"maxAttempts": 0}, "job 2: maxAttempts"),
    ({"max-attempts": True}, "job 2: maxAttempts"),
    ({"maxAttempts": "3"}, "job 2: maxAttempts"),
    ({"metadata": [1]}, "job 2: metadata"),
    ({"payload": float("nan")}, "job 2: payload"),
    ({"payload": {"x": "y" * (17 << 20)}}, "job 2: payload"),
    ({"payload": object()}, "job 2: payload"),
]


@pytest.mark.parametrize(("spec", "says"), WRONG, ids=[says for _, says in WRONG])
def test_a_wrong_job_is_named_by_its_number_and_nothing_is_written(spool: Spool, spec: Any, says: str) -> None:
    before = everything_in(spool.root)
    with pytest.raises(InvalidInput) as caught:
        spool.submit_batch("t", [{}, spec, {}])
    assert caught.value.message.startswith(says)
    assert caught.value.details["job"] == 2
    assert everything_in(spool.root) == before


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"job_type": "a/b"}, "jobType"),
        ({"metadata": [1]}, "metadata"),
        ({"max_attempts": 0}, "maxAttempts"),
        ({"root_workflow_id": ""}, "rootWorkflowId"),
        ({"fanout_max_concurrency": -1}, "fanoutMaxConcurrency"),
        ({"jobs": []}, "jobs"),
        ({"jobs": iter(())}, "jobs"),
        ({"limit": 0}, "limit"),
        ({"limit": "all"}, "limit"),
    ],
)
def test_a_wrong_argument_of_a_batch_is_named_and_nothing_is_written(
    spool: Spool, given: dict[str, Any], field: str
) -> None:
    before = everything_in(spool.root)
    with pytest.raises(InvalidInput) as caught:
        spool.submit_batch(**({"job_type": "t", "jobs": SPECS} | given))
    assert caught.value.details["field"] == field
    assert everything_in(spool.root) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_a_source_of_jobs_that_breaks_off_leaves_nothing_and_its_own_error(
    spool: Spool, error: type[BaseException]
) -> None:
    def specs() -> Iterator[dict[str, Any]]:
        yield from SPECS
        raise error("the source broke off")

    before = everything_in(spool.root)
    with pytest.raises(error, match="the source broke off"):
        spool.submit_batch("t", specs())
    assert everything_in(spool.root) == before


def test_a_batch_takes_no_more_memory_than_the_jobs_it_answers_with(spool: Spool) -> None:
    """A hundred jobs of 100 kB, of which one is kept."""
    told: list[int] = []
    tracemalloc.start()
    try:
        specs = ({"payload": f"{n}" * 50_000} for n in range(10, 110))
        batch = spool.submit_batch("t", specs, limit=1, told=told.append)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
    assert (batch.requested_count, batch.queued_count, job_ids(batch)) == (
        100,
        100,
        [ids.job_in_batch(batch.batch_id, 1)],
    )
    assert told == list(range(1, 101))


# -- read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "status", "counts"),
    [
        ([], "queued", {"queued": 3}),
        (["succeeded"], "running", {"queued": 2, "succeeded": 1}),
        (["succeeded", "no_changes", "succeeded"], "completed", {"succeeded": 2, "no_changes": 1}),
        (["cancelled"] * 3, "cancelled", {"cancelled": 3}),
        (["failed", "timed_out", "cancelled"], "failed", {"failed": 1, "timed_out": 1, "cancelled": 1}),
        (["succeeded", "failed", "failed"], "partially_failed", {"succeeded": 1, "failed": 2}),
        (
            ["succeeded", "cancelled", "no_changes"],
            "partially_failed",
            {"succeeded": 1, "cancelled": 1, "no_changes": 1},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_batch_counts_its_jobs_and_says_how_it_stands(
    spool: Spool, ends: list[str], status: str, counts: dict[str, int]
) -> None:
    batch = submitted(spool, max_attempts=1)
    for end in ends:
        end_one(spool, batch, end)
    read = spool.get_batch(batch.batch_id)
    names = ("queued", "running", "succeeded", "no_changes", "failed", "cancelled", "timed_out")
    assert {name: n for name in names if (n := getattr(read, f"{name}_count"))} == counts
    assert read.status == status
    assert read.is_terminal == (len(ends) == 3) == (read.completed_at is not None)
    assert (read.jobs is not None) == read.is_terminal, "jobs come by themselves once the batch has ended"


def test_the_jobs_of_a_batch_come_when_asked_for_and_as_many_as_asked(spool: Spool) -> None:
    batch = submitted(spool, 4)
    assert spool.get_batch(batch.batch_id).jobs is None
    assert job_ids(spool.get_batch(batch.batch_id, include_jobs=True)) == job_ids(batch)
    assert job_ids(spool.get_batch(batch.batch_id, include_jobs=True, limit=2)) == job_ids(batch)[:2]
    work_off(spool)
    assert spool.get_batch(batch.batch_id, include_jobs=False).jobs is None
    assert job_ids(spool.get_batch(batch.batch_id, limit=3)) == job_ids(batch)[:3]
    for limit in (0, -1, "2", 1.5):
        with pytest.raises(InvalidInput, match="limit"):
            spool.get_batch(batch.batch_id, limit=limit)  # type: ignore[arg-type]


def test_a_running_batch_tells_when_it_changed_and_an_ended_one_when_it_ended(spool: Spool) -> None:
    batch = submitted(spool, 2)
    end_one(spool, batch, states.SUCCEEDED)
    running = spool.get_batch(batch.batch_id)
    assert (running.status, running.running_count, running.completed_at) == ("running", 0, None)
    assert running.updated_at >= batch.created_at
    end_one(spool, batch, states.SUCCEEDED)
    done = spool.get_batch(batch.batch_id)
    assert done.completed_at == done.updated_at >= running.updated_at
    assert spool.get_batch(batch.batch_id).completed_at == done.completed_at, "it does not change by being read"


def test_a_job_whose_lease_was_lost_counts_as_queued_again(spool: Spool) -> None:
    batch = submitted(spool, 1)
    lease = spool.claim("t", "w")
    assert lease is not None
    assert (spool.get_batch(batch.batch_id).status, spool.get_batch(batch.batch_id).running_count) == ("running", 1)
    age_lease(spool, lease.job_id)
    spool.claims.expire("t")
    assert (spool.get_batch(batch.batch_id).status, spool.get_batch(batch.batch_id).queued_count) == ("queued", 1)


def test_a_job_without_an_entry_is_counted_by_its_own_status(spool: Spool) -> None:
    """The index is advice only."""
    batch = submitted(spool, 3)
    end_one(spool, batch, states.FAILED)
    for entry in Path(spool.root).glob(f"*/*/{batch.batch_id}/*"):
        entry.unlink()
    read = spool.get_batch(batch.batch_id)
    assert (read.status, read.queued_count, read.failed_count, read.damaged) == ("running", 2, 1, [])


def test_of_a_job_that_is_in_two_lists_the_last_counts_and_a_claim_puts_it_right(spool: Spool) -> None:
    """Two did the same repair at once."""
    batch = submitted(spool, 2)
    work_off(spool)
    stale = Path(spool.index.add(job_ids(batch)[0], "t"))
    assert spool.get_batch(batch.batch_id).status == states.COMPLETED
    assert spool.claim("t", "w") is None
    assert not stale.is_symlink()
    assert spool.await_batch(batch.batch_id, timeout="5s").succeeded_count == 2


def test_what_others_put_into_a_bucket_is_not_counted(spool: Spool) -> None:
    batch = submitted(spool, 1)
    bucket = Path(spool.root, "queued", "t", batch.batch_id)
    for name in (".DS_Store", "notes.txt", ids.job_in_batch(batch.batch_id, 7), ids.new_job_id()):
        (bucket / name).touch()
    work_off(spool)
    assert spool.get_batch(batch.batch_id).succeeded_count == spool.get_batch(batch.batch_id).requested_count == 1


def test_a_hidden_file_in_a_bucket_does_not_keep_an_await_from_its_end(spool: Spool) -> None:
    """Who browses a spool with a file manager leaves such files."""
    batch = submitted(spool, 1)
    lease = spool.claim("t", "w")
    assert lease is not None
    Path(spool.root, "queued", "t", batch.batch_id, ".DS_Store").touch()
    end = threading.Timer(0.1, lease.complete)
    end.start()
    assert spool.await_batch(batch.batch_id, timeout="5s", interval="50ms").status == states.COMPLETED
    end.join()


@pytest.mark.parametrize(
    ("well", "status"), [(0, states.FAILED), (2, states.PARTIALLY_FAILED)], ids=["all damaged", "one damaged"]
)
def test_a_batch_with_jobs_that_were_set_aside_ends_and_names_them(spool: Spool, well: int, status: str) -> None:
    batch = submitted(spool, 3)
    damaged = job_ids(batch)[well:]
    for job_id in damaged:
        (job_dir(spool, job_id) / "payload.json").write_text("{")
    work_off(spool)
    done = spool.await_batch(batch.batch_id, timeout="5s")
    assert (done.status, done.damaged, done.failed_count) == (status, damaged, len(damaged))
    assert (done.succeeded_count, job_ids(done)) == (well, job_ids(batch)[:well])


def test_an_unknown_batch_is_not_found_and_a_wrong_id_refused_before_the_disk_is_touched(spool: Spool) -> None:
    unknown = ids.new_batch_id()
    for call in (spool.get_batch, spool.await_batch, spool.cancel_batch, lambda it: spool.claim("t", "w", batch_id=it)):
        with pytest.raises(NotFound, match="no such batch"):
            call(unknown)
        for wrong in ("../..", "batch-../..", ids.new_job_id(), f"{unknown}-00001", "", 7):
            with pytest.raises(InvalidInput, match="not a batch id"):
                call(wrong)  # type: ignore[arg-type]
    assert spool.list(batch_id=unknown) == []
    other = spool.submit_batch("other", [{}])
    with pytest.raises(InvalidInput, match="has jobs of type other, not t"):
        spool.claim("t", "w", batch_id=other.batch_id)


# -- claim ------------------------------------------------------------------------------------------


def test_jobs_of_batches_and_single_jobs_are_claimed_oldest_first(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _over_minutes(spool, monkeypatch)
    claimed = [lease.job_id for lease in iter(lambda: spool.claim("t", "w"), None)]
    assert claimed == made


def test_batches_of_one_minute_are_worked_off_one_after_the_other(spool: Spool) -> None:
    made = list(itertools.chain(*(job_ids(submitted(spool, 2)) for _ in range(10))))
    claimed = [lease.job_id for lease in iter(lambda: spool.claim("t", "w"), None)]
    assert claimed == made


def test_a_claim_of_one_batch_takes_from_no_other(spool: Spool) -> None:
    spool.submit("t")
    first, second = submitted(spool, 2), submitted(spool, 2)
    claimed = [lease.job_id for lease in iter(lambda: spool.claim("t", "w", batch_id=second.batch_id), None)]
    assert claimed == job_ids(second)
    assert spool.get_batch(first.batch_id).queued_count == 2


def test_a_batch_larger_than_a_window_of_the_queue_is_worked_off_whole(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "WINDOW", 16)
    batch = spool.submit_batch("t", ({} for _ in range(50)), limit=1)
    assert job_ids(batch) == [ids.job_in_batch(batch.batch_id, 1)]
    claimed = set()
    for _ in range(20):
        lease = spool.claim("t", "w")
        assert lease is not None
        claimed.add(lease.job_id)
    assert len(claimed) == 20
    assert spool.cancel_batch(batch.batch_id).cancelled_count == 30
    assert (spool.get_batch(batch.batch_id).running_count, spool.claim("t", "w")) == (20, None)


def test_counts_always_add_up_while_workers_and_cancellers_are_at_it(spool: Spool) -> None:
    batch = submitted(spool, 60)
    workers = [threading.Thread(target=work_off, args=(Spool.open(spool.root),)) for _ in range(3)]
    canceller = threading.Thread(target=lambda: [spool.cancel(job_id) for job_id in job_ids(batch)[-20:]])
    seen = []
    for thread in (*workers, canceller):
        thread.start()
    while any(thread.is_alive() for thread in (*workers, canceller)):
        seen.append(spool.get_batch(batch.batch_id, include_jobs=False))
    for read in [*seen, spool.get_batch(batch.batch_id, include_jobs=False)]:
        parts = (read.queued_count, read.running_count, read.succeeded_count, read.cancelled_count)
        assert sum(parts) == 60, parts
        assert (read.damaged, read.failed_count) == ([], 0)
    ended = [read.ended_count for read in seen]
    assert ended == sorted(ended), "what has ended does not come back"
    assert spool.get_batch(batch.batch_id).ended_count == 60


# -- list -------------------------------------------------------------------------------------------


def test_batches_are_listed_newest_first_and_by_type_and_status(spool: Spool) -> None:
    done, running, queued = submitted(spool, 1), submitted(spool, 2), submitted(spool, 1)
    other = submitted(spool, 1, "other")
    spool.submit("t")
    end_one(spool, done, states.SUCCEEDED)
    end_one(spool, running, states.FAILED)

    def listed(**given: Any) -> list[str]:
        return [batch.batch_id for batch in spool.list_batches(**given)]

    assert listed() == [batch.batch_id for batch in (other, queued, running, done)]
    assert listed(job_type="other") == [other.batch_id]
    assert listed(status="completed") == [done.batch_id]
    assert listed(status="RUNNING") == [running.batch_id]
    assert listed(job_type="t", status="queued") == [queued.batch_id]
    assert listed(limit=2) == [other.batch_id, queued.batch_id]
    assert listed(limit=2, before=queued.batch_id) == [running.batch_id, done.batch_id]
    assert listed(before=done.batch_id) == []
    for wrong in ({"status": "started"}, {"limit": 0}, {"before": "x"}, {"job_type": "a/b"}):
        with pytest.raises(InvalidInput):
            spool.list_batches(**wrong)  # type: ignore[arg-type]


def test_the_jobs_of_a_batch_are_listed_by_status_and_page(spool: Spool) -> None:
    batch = submitted(spool, 5)
    submitted(spool, 2)
    end_one(spool, batch, states.SUCCEEDED)
    newest_first = job_ids(batch)[::-1]
    assert [job.job_id for job in spool.list(batch_id=batch.batch_id)] == newest_first
    assert [job.job_id for job in spool.list(batch_id=batch.batch_id, status="succeeded")] == newest_first[-1:]
    assert [job.job_id for job in spool.list(batch_id=batch.batch_id, job_type="other")] == []
    assert [job.job_id for job in spool.list(batch_id=batch.batch_id, before=newest_first[2])] == newest_first[3:]


def test_a_batch_whose_record_is_damaged_is_named_by_a_list(spool: Spool) -> None:
    good, bad = submitted(spool, 1), submitted(spool, 1)
    Path(spool.tree.batch(bad.batch_id), "batch.json").write_text("{")
    damaged: list[str] = []
    assert [batch.batch_id for batch in spool.list_batches(damaged=damaged)] == [good.batch_id]
    assert damaged == [bad.batch_id]


def test_single_jobs_and_batches_of_one_minute_are_listed_in_the_order_they_were_made(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: at)  # one minute, even one millisecond
    monkeypatch.setattr(ids, "_last", 0)
    made: list[str] = []
    for count in (0, 3, 0, 0, 2, 0):
        made += job_ids(submitted(spool, count)) if count else [spool.submit("t").job_id]
    for given in ({}, {"job_type": "t"}, {"status": "queued"}):
        assert [job.job_id for job in spool.list(limit=20, **given)] == made[::-1]
        pages = _pages(spool, 2, **given)
        assert list(itertools.chain(*pages)) == made[::-1]
        assert {len(page) for page in pages[:-1]} == {2}


def _pages(spool: Spool, limit: int, **given: Any) -> list[list[str]]:
    pages: list[list[str]] = []
    before = None
    while page := [job.job_id for job in spool.list(limit=limit, before=before, **given)]:
        pages.append(page)
        before = page[-1]
    return pages


def _over_minutes(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Single jobs and batches of several minutes; gives the ids, oldest first."""
    made: list[str] = []
    now = time.time_ns()
    monkeypatch.setattr(ids, "_last", 0)  # or ids go on from those that were made before
    for minute in range(6):
        monkeypatch.setattr(time, "time_ns", lambda minute=minute: now - (8 - minute) * 60_000_000_000)
        made += [spool.submit("t").job_id]
        made += job_ids(submitted(spool, 3))
    monkeypatch.undo()
    assert len({ids.day_and_minute(job_id) for job_id in made}) == 6
    return made


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("given", [{}, {"job_type": "t"}], ids=["all", "of a type"])
def test_a_list_by_pages_gives_each_job_once_while_jobs_end(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, seed: int, given: dict[str, Any]
) -> None:
    made, chance = _over_minutes(spool, monkeypatch), random.Random(seed)
    found: list[str] = []
    while page := spool.list(limit=chance.randint(1, 4), before=found[-1] if found else None, **given):
        found += [job.job_id for job in page]
        for _ in range(chance.randint(0, 3)):
            if lease := spool.claim("t", "w"):
                lease.complete(status=chance.choice([states.SUCCEEDED, states.CANCELLED]))
    assert found == made[::-1]


@pytest.mark.parametrize("given", [{}, {"job_type": "t"}], ids=["all", "of a type"])
def test_one_list_gives_each_job_once_while_jobs_end_and_make_lists_that_were_not_there(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    made, found = _over_minutes(spool, monkeypatch), []
    for job_id in listing.jobs(spool.index, **given):
        found.append(job_id)
        if lease := spool.claim("t", "w"):
            lease.complete()
    assert found == made[::-1]


def test_pages_of_batches_give_each_batch_once_while_they_end(spool: Spool) -> None:
    made = [submitted(spool, 1).batch_id for _ in range(7)]
    found: list[str] = []
    while page := spool.list_batches(limit=2, before=found[-1] if found else None):
        found += [batch.batch_id for batch in page]
        end_one(spool, spool.get_batch(made[len(found) % 7]), states.SUCCEEDED)
    assert found == made[::-1]


# -- await ------------------------------------------------------------------------------------------


def test_an_await_returns_as_soon_as_the_last_job_ends_and_long_before_the_next_poll(spool: Spool) -> None:
    batch = submitted(spool, 5)
    worker = threading.Thread(target=work_off, args=(Spool.open(spool.root),))
    began = time.monotonic()
    worker.start()
    done = spool.await_batch(batch.batch_id, interval="20s", timeout="40s")
    assert time.monotonic() - began < 15
    worker.join()
    assert (done.status, done.succeeded_count, len(done.jobs or [])) == ("completed", 5, 5)


def test_an_await_that_reaches_its_bound_carries_the_counts_and_the_batch_goes_on(spool: Spool) -> None:
    batch = submitted(spool, 2)
    end_one(spool, batch, states.SUCCEEDED)
    with pytest.raises(AwaitBound) as caught:
        spool.await_batch(batch.batch_id, timeout="30ms", interval="10ms")
    assert caught.value.job is None
    assert (caught.value.batch.status, caught.value.batch.succeeded_count) == ("running", 1)
    assert "breyta jobs batches cancel" in caught.value.hint
    assert work_off(spool).handled == 1
    assert spool.await_batch(batch.batch_id, max_attempts=1, include_jobs=False).jobs is None
    assert job_ids(spool.await_batch(batch.batch_id, limit=1)) == job_ids(batch)[:1]


def test_an_awaiter_takes_back_leases_of_dead_workers_when_no_other_is_left(spool: Spool) -> None:
    batch = submitted(spool, 2, max_attempts=1)
    for _ in range(2):
        lease = spool.claim("t", "w")
        assert lease is not None
        age_lease(spool, lease.job_id)
    done = spool.await_batch(batch.batch_id, interval="50ms", timeout="10s")
    assert (done.status, done.timed_out_count) == ("failed", 2)


def _as_nobody(spool: Spool, act: str) -> str:
    """What a process without rights to write makes of a spool."""
    for directory, names, files in os.walk(spool.root):
        for name in (*names, *files):
            path = f"{directory}/{name}"
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.path.isdir(path) else 0o644)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            opened = Spool.open(spool.root)
            result = eval(act, {"spool": opened})
            os.write(write, repr(result).encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that everybody may enter; pytest keeps its own to itself."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_reader_who_may_not_write_can_await_list_and_count_but_not_cancel(open_place: Path) -> None:
    spool = Spool.init(open_place / "spool")
    batch = submitted(spool, 2)
    lease = spool.claim("t", "w")
    assert lease is not None
    age_lease(spool, lease.job_id)
    bounded = f"spool.await_batch({batch.batch_id!r}, timeout='50ms', interval='10ms')"
    assert _as_nobody(spool, bounded).startswith("AwaitBound(")
    assert _as_nobody(spool, "spool.submit_batch('t', [{}])").startswith("StorageError(")
    assert "permission denied" in _as_nobody(spool, f"spool.cancel_batch({batch.batch_id!r})")
    assert lease.complete().status == states.SUCCEEDED
    work_off(spool)
    assert _as_nobody(spool, f"spool.await_batch({batch.batch_id!r}, timeout='5s').status") == "'completed'"
    assert _as_nobody(spool, "[found.succeeded_count for found in spool.list_batches()]") == "[2]"


# -- cancel -----------------------------------------------------------------------------------------


def test_a_cancel_ends_what_waits_asks_what_runs_and_leaves_what_has_ended(spool: Spool) -> None:
    batch = submitted(spool, 5)
    end_one(spool, batch, states.SUCCEEDED)
    lost, running = (spool.claim("t", "w") for _ in range(2))
    assert lost is not None
    assert running is not None
    lost.give_back()
    after = spool.cancel_batch(batch.batch_id, reason="wrong input", requested_by="ana")
    assert (after.status, after.cancelled_count, after.running_count, after.succeeded_count) == ("running", 3, 1, 1)
    assert after.cancel_requested
    assert spool.claim("t", "w") is None
    assert running.heartbeat(), "its worker hears of it"
    assert spool.get(running.job_id).cancel_requested
    running.complete(status=states.CANCELLED)
    done = spool.await_batch(batch.batch_id, timeout="5s")
    assert (done.status, done.cancelled_count, done.succeeded_count) == ("partially_failed", 4, 1)
    told = {job.job_id: job.error.message for job in done.jobs or [] if job.error and job.job_id != running.job_id}
    assert told == dict.fromkeys(told, "cancelled by ana: wrong input")
    assert set(told) == set(job_ids(batch)[1:]) - {running.job_id}


def test_a_cancel_ends_the_handlers_that_run(spool: Spool) -> None:
    batch = submitted(spool, 3)
    began = threading.Event()

    def handle(job: ActiveJob) -> None:
        began.set()
        assert job.stopping.wait(20)

    worker = threading.Thread(target=work_off, args=(Spool.open(spool.root), handle), kwargs={"lease": "1s"})
    worker.start()
    assert began.wait(20)
    spool.cancel_batch(batch.batch_id)
    done = spool.await_batch(batch.batch_id, timeout="20s", interval="100ms")
    worker.join()
    assert (done.status, done.cancelled_count) == ("cancelled", 3)


def test_a_cancel_of_a_batch_that_has_ended_changes_nothing(spool: Spool) -> None:
    batch = submitted(spool, 2)
    work_off(spool)
    before, there = spool.get_batch(batch.batch_id), everything_in(spool.root)
    assert not spool.cancel_batch(batch.batch_id).cancel_requested
    assert (spool.get_batch(batch.batch_id), everything_in(spool.root)) == (before, there)


def test_the_first_cancel_is_the_one_whose_reason_is_shown(spool: Spool) -> None:
    batch = submitted(spool, 1)
    lease = spool.claim("t", "w")
    assert lease is not None
    for reason in ("first", "second"):
        spool.cancel_batch(batch.batch_id, reason=reason, requested_by="ana")
    lease.complete(status=states.CANCELLED)
    record = json.loads(Path(spool.tree.batch(batch.batch_id), "cancel.json").read_text())
    assert (record["reason"], record["requestedBy"]) == ("first", "ana")
    assert spool.claim("t", "w") is None


def test_a_cancel_of_one_job_is_shown_with_its_own_reason(spool: Spool) -> None:
    batch = submitted(spool, 2)
    one, other = job_ids(batch)
    spool.cancel(one, reason="only this", requested_by="ben")
    spool.cancel_batch(batch.batch_id, reason="all", requested_by="ana")
    assert "only this" in spool.get(one).error.message  # type: ignore[union-attr]
    assert "all" in spool.get(other).error.message  # type: ignore[union-attr]


def test_a_cancelled_job_of_a_batch_can_be_retried_as_a_single_job(spool: Spool) -> None:
    batch = submitted(spool, 1)
    spool.cancel_batch(batch.batch_id)
    again = spool.retry(job_ids(batch)[0])
    assert (again.batch_id, again.retry_of, again.payload) == (None, job_ids(batch)[0], {"n": 1})
    assert spool.get_batch(batch.batch_id).status == states.CANCELLED


# -- pure -------------------------------------------------------------------------------------------


def as_the_contract_says(counts: dict[str, int]) -> str:
    """The status of a batch in the words of the contract, one after the other."""
    ended_well = {"succeeded", "no_changes"}
    there = {state for state, count in counts.items() if count}
    if there & {"queued", "leased"}:
        nothing_started = there <= {"queued", "cancelled"}
        return "queued" if nothing_started else "running"
    if there <= ended_well:
        return "completed"
    if there == {"cancelled"}:
        return "cancelled"
    if not there & ended_well and there & {"failed", "timed_out"}:
        return "failed"
    return "partially_failed"


COUNTED = ("queued", "leased", *states.TERMINAL)


def test_the_status_of_a_batch_is_what_the_contract_says_for_every_mixture_of_states() -> None:
    seen = Counter()
    for numbers in itertools.product((0, 1, 5), repeat=len(COUNTED)):
        counts = dict(zip(COUNTED, numbers, strict=True))
        if any(numbers):
            expected = as_the_contract_says(counts)
            assert states.batch_status(counts) == expected, counts
            assert states.batch_status({state: count for state, count in counts.items() if count}) == expected
            seen[expected] += 1
    assert set(seen) == set(states.BATCH_ALL)


def test_jobs_beyond_the_five_digits_of_their_number_sort_behind_the_others() -> None:
    batch_id = ids.new_batch_id()
    numbers = [1, 2, 10, 99_998, 99_999, 100_000, 100_001, 999_999, 1_000_000, 123_456_789]
    made = [ids.job_in_batch(batch_id, number) for number in numbers]
    assert all(ids.is_job_id(job_id) and ids.batch_of(job_id) == batch_id for job_id in made)
    assert sorted(sorted(made), key=ids.order) == made
    earlier, later = "job-01JD0W3Z8Q4X5V6B7N8M9K0P1R", ids.new_job_id()
    assert sorted([later, *made[::-1], earlier], key=ids.order) == [earlier, *made, later]


@pytest.mark.parametrize("given", [{"job_type": "t"}, {}], ids=["by the index", "all"])
def test_a_list_sorts_numbers_of_more_than_five_digits_right(spool: Spool, given: dict[str, Any]) -> None:
    batch = submitted(spool, 1)
    numbers = [2, 99_999, 100_000, 1_000_000]
    for job_id in (ids.job_in_batch(batch.batch_id, number) for number in numbers):
        spool.index.add(job_id, "t")
        Path(spool.tree.job(job_id)).mkdir()
    listed = list(listing.jobs(spool.index, **given))
    assert listed == [ids.job_in_batch(batch.batch_id, number) for number in (*numbers[::-1], 1)]
    assert list(listing.jobs(spool.index, **given, before=listed[1])) == listed[2:]


@pytest.mark.parametrize("given", [{"job_type": "t"}, {}], ids=["by the index", "all"])
def test_a_list_goes_on_behind_the_names_that_were_sorted_at_first(spool: Spool, given: dict[str, Any]) -> None:
    batch = submitted(spool, 1)
    made = [ids.job_in_batch(batch.batch_id, number) for number in range(1, 2 * listing.FEW + 2)]
    for job_id in made[1:]:
        spool.index.add(job_id, "t")
        Path(spool.tree.job(job_id)).mkdir()
    assert list(listing.jobs(spool.index, **given)) == made[::-1]
    assert list(listing.jobs(spool.index, **given, before=made[-2])) == made[-3::-1]


# -- the command line -------------------------------------------------------------------------------


def test_create_show_await_and_list_by_the_command_line(cli: Cli, spool: Spool) -> None:
    answer = cli("jobs", "batches", "create", "--type", "t", "--job", '{"payload": {"n": 1}}', "--job", "{}",
                 "--metadata", '{"campaign": "x"}', "--max-attempts", "1")  # fmt: skip
    batch, jobs = answer.data["batch"], answer.data["jobs"]
    assert (batch["status"], batch["requestedCount"], batch["queuedCount"]) == ("queued", 2, 2)
    assert batch["metadata"] == {"campaign": "x"}
    assert [(job["payload"], job["maxAttempts"], job["batchId"]) for job in jobs] == [
        ({"n": 1}, 1, batch["batchId"]),
        ({}, 1, batch["batchId"]),
    ]
    assert answer.document["meta"] == {}

    work_off(spool, lambda job: {"outputs": {"n": 1}})
    shown = cli("jobs", "batches", "show", batch["batchId"], "--limit", "1")
    assert shown.data["batch"]["status"] == "completed"
    assert [(job["jobId"], job["outputKeys"]) for job in shown.data["jobs"]] == [(jobs[0]["jobId"], ["n"])]
    assert shown.document["meta"] == {"outputView": "compact", "limit": 1}
    full = cli("jobs", "batches", "show", batch["batchId"], "--full")
    assert [job["outputs"] for job in full.data["jobs"]] == [{"n": 1}] * 2

    awaited = cli("jobs", "batches", "await", batch["batchId"], "--no-include-jobs")
    assert (awaited.data["batch"]["succeededCount"], "jobs" in awaited.data) == (2, False)
    second = submitted(spool, 1)
    page = cli("jobs", "batches", "list", "--limit", "1")
    assert [item["batchId"] for item in page.data["items"]] == [second.batch_id]
    rest = cli("jobs", "batches", "ls", "--cursor", page.document["meta"]["nextCursor"])
    assert [item["batchId"] for item in rest.data["items"]] == [batch["batchId"]]
    assert "nextCursor" not in rest.document["meta"]


STREAMS = {
    "an array": b'[{"payload": 1},\n {"payload": 2}]',
    "lines": b'{"payload": 1}\n\n{"payload": 2}\n',
    "lines without an end": b'{"payload": 1}\n{"payload": 2}',
}


@pytest.mark.parametrize("data", STREAMS.values(), ids=STREAMS.keys())
def test_jobs_are_read_from_a_file_as_an_array_or_as_lines(cli: Cli, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "jobs").write_bytes(data)
    made = cli("jobs", "batches", "create", "--type", "t", "--job", '{"payload": 0}', "--jobs-file", "jobs")
    assert [job["payload"] for job in made.data["jobs"]] == [0, 1, 2]


def test_jobs_are_read_from_stdin_and_the_answer_has_as_many_as_asked(cli: Cli) -> None:
    lines = b"".join(b'{"payload": %d}\n' % n for n in range(30))
    made = cli("jobs", "batches", "create", "--type", "t", "--jobs-file", "-", "--limit", "2", stdin=lines)
    assert made.data["batch"]["requestedCount"] == 30
    assert [job["payload"] for job in made.data["jobs"]] == [0, 1]
    assert made.document["meta"] == {"jobsReturned": 2}


def test_a_page_of_jobs_names_the_next(cli: Cli, spool: Spool) -> None:
    batch = submitted(spool, 3)
    first = cli("jobs", "list", "--batch-id", batch.batch_id, "--limit", "2")
    rest = cli("jobs", "list", "--limit", "2", "--cursor", first.document["meta"]["nextCursor"])
    items = [item["jobId"] for page in (first, rest) for item in page.data["items"]]
    assert items == job_ids(batch)[::-1]
    assert "nextCursor" not in rest.document["meta"]


def test_the_exit_code_of_an_await_says_how_the_batch_ended(cli: Cli, spool: Spool) -> None:
    batch = submitted(spool, 1)
    bounded = cli("jobs", "batches", "await", batch.batch_id, "--timeout", "30ms", "--interval", "10ms")
    assert (bounded.code, bounded.error["code"]) == (4, "await_bound_reached")
    assert (bounded.error["details"]["batch"]["queuedCount"], "job" in bounded.error["details"]) == (1, False)
    end_one(spool, batch, states.FAILED)
    ended = cli("jobs", "batches", "await", batch.batch_id)
    assert (ended.code, ended.document["ok"], ended.document["data"]["batch"]["status"]) == (5, True, "failed")
    assert len(ended.document["data"]["jobs"]) == 1


def test_cancel_by_the_command_line_says_whether_it_is_done(cli: Cli, spool: Spool) -> None:
    batch = submitted(spool, 2)
    assert spool.claim("t", "w")
    answer = cli("jobs", "batches", "cancel", batch.batch_id, "--reason", "wrong input")
    assert (answer.data["batch"]["cancelledCount"], answer.document["meta"]["cancel"]) == (1, "requested")
    assert "wrong input" in spool.get(job_ids(batch)[1]).error.message  # type: ignore[union-attr]


def test_a_worker_and_a_claim_may_be_for_one_batch(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    first, second = submitted(spool, 1), submitted(spool, 2)
    claimed = cli("jobs", "claim", "--type", "t", "--batch-id", second.batch_id)
    assert claimed.job["jobId"] == job_ids(second)[0]
    handler = script(
        tmp_path, 'echo "{\\"outputs\\": {\\"batch\\": \\"$BREYTA_JOB_BATCH_ID\\"}}" >"$BREYTA_JOB_RESULT_FILE"'
    )
    ran = cli("jobs", "worker", "run", "--type", "t", "--handler", handler, "--batch-id", second.batch_id, "--once")
    assert ran.data["lastJob"]["jobId"] == job_ids(second)[1]
    assert spool.get(job_ids(second)[1]).outputs == {"batch": second.batch_id}
    assert spool.get_batch(first.batch_id).status == "queued"


UNKNOWN = "batch-01JD0W3Z8Q4X5V6B7N8M9K0P1R"
CREATE = ("jobs", "batches", "create", "--type", "t")
BAD_INPUT = [
    (CREATE, b"", 2, "there are no jobs: give --job or --jobs-file"),
    ((*CREATE, "--jobs-file", "-"), b"", 2, "a batch needs at least one job"),
    ((*CREATE, "--jobs-file", "-"), b"[]", 2, "a batch needs at least one job"),
    ((*CREATE, "--jobs-file", "-"), b'[{"payload": 1}, 7]', 2, "job 2 must be an object"),
    ((*CREATE, "--jobs-file", "-"), b'[{"payload": 1}, {"payl', 2, "value 2: not valid JSON"),
    ((*CREATE, "--jobs-file", "-"), b'{"payload": 1}\n{"input": 1}\n', 2, "job 2 has the unknown field 'input'"),
    ((*CREATE, "--jobs-file", "nowhere"), b"", 2, "cannot read 'nowhere'"),
    ((*CREATE, "--job", "{}", "--job", "{"), b"", 2, "--job 2 is not valid JSON"),
    ((*CREATE, "--job", "{}", "--metadata", "[1]"), b"", 2, "must be a JSON object"),
    (("jobs", "batches", "show", UNKNOWN), b"", 3, "no such batch"),
    (("jobs", "batches", "await", UNKNOWN), b"", 3, "no such batch"),
    (("jobs", "batches", "cancel", UNKNOWN), b"", 3, "no such batch"),
    (("jobs", "batches", "show", "../.."), b"", 2, "not a batch id"),
    (("jobs", "batches", "list", "--status", "leased"), b"", 2, "allowed are queued, running, completed"),
    (("jobs", "batches", "list", "--cursor", "job-1"), b"", 2, "not a batch id"),
    (("jobs", "list", "--cursor", UNKNOWN), b"", 2, "not a job id"),
]


@pytest.mark.parametrize(("args", "stdin", "code", "says"), BAD_INPUT, ids=[case[3] for case in BAD_INPUT])
def test_bad_input_for_batches_gets_one_clear_error(
    cli: Cli, args: tuple[str, ...], stdin: bytes, code: int, says: str
) -> None:
    before = everything_in(cli.spool)
    answer = cli(*args, stdin=stdin)
    assert answer.code == code
    assert says in answer.error["message"]
    assert "Traceback" not in answer.stderr
    assert everything_in(cli.spool) == before


def test_a_submit_that_the_disk_refuses_is_a_storage_error(spool: Spool) -> None:
    Path(spool.root, "tmp").rmdir()
    Path(spool.root, "tmp").touch()
    with pytest.raises(StorageError, match="cannot submit the batch"):
        spool.submit_batch("t", SPECS)
