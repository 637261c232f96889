"""Whatever is read, from bytes or from a caller, is read or refused with an error of ours; nothing else happens."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from breyta_cli.given import pairs
from breyta_spool import (
    AwaitBound,
    Damaged,
    InvalidInput,
    Spool,
    SpoolError,
    addresses,
    durations,
    ids,
    jobs,
    jsonio,
    outputs,
    paths,
    records,
    results,
    rows,
    states,
    tables,
    waiting,
)
from breyta_spool.helper import Context
from breyta_spool.records import Record
from tests.property import hostile, worlds
from tests.property.hostile import JSON, NAME, spoiled
from tests.property.laws import refused, tried

EXAMPLE = Path(__file__).resolve().parents[2] / "spool/example"
HEARD = JSON | st.sampled_from([float("nan"), float("inf"), -float("inf"), -1, 1 << 63, b"x", (1,), object()])
HEARD |= st.integers(5000, 6000).map(lambda digits: 10**digits)  # Python does not even write such a number
"""What a caller may hand over, JSON or not."""


def _first(pattern: str) -> bytes:
    return next(path.read_bytes() for path in sorted(EXAMPLE.glob(pattern)) if path.is_file())


VALID = {
    "spool": _first("spool.json"), "job": _first("jobs/*/*/*/job.json"), "batch": _first("jobs/*/*/*/batch.json"),
    "claim": _first("jobs/*/*/*/claim.1.json"), "progress": _first("jobs/*/*/*/*/progress.jsonl").split(b"\n")[0],
    "cancel": _first("jobs/*/*/*/cancel.json"), "result": _first("jobs/*/*/*/result.1.json"),
    "worker": b'{"workerId": "w", "jobType": "t", "host": "h", "pid": 1, "startedAt": "x", "beatMs": 1000}',
    "account": b'{"serviceAccountId": "sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R", "name": "a", "status": "active", "scopes": [], "createdAt": "x", "updatedAt": "x"}',
    "key": b'{"keyId": "key-01JD0W3Z8Q4X5V6B7N8M9K0P1R", "serviceAccountId": "sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R", "sha256": "", "createdAt": "x"}',
    "revoked": b'{"keyId": "key-01JD0W3Z8Q4X5V6B7N8M9K0P1R", "revokedAt": "x"}',
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(VALID))
@tried(40)
@given(data=st.data())
def test_a_record_is_read_or_damaged(name: str, data: Any) -> None:
    model = records.RECORDS[name]
    assert issubclass(model, Record)
    read = refused(lambda: records.read_record(model, data.draw(spoiled(VALID[name])), "FILE"))
    assert isinstance(read, model | Damaged)
    if isinstance(read, model):
        json.dumps(read.to_map(), allow_nan=False)


@tried(40)
@given(st.sampled_from(sorted(VALID)), st.dictionaries(st.text(), HEARD, max_size=5))
def test_any_fields_are_a_record_or_damaged(name: str, fields: dict[str, Any]) -> None:
    model = records.RECORDS[name]
    assert issubclass(model, Record)
    assert isinstance(refused(lambda: records.read_fields(model, fields, "FILE")), model | Damaged)


@tried(100)
@given(st.sampled_from(sorted(VALID)).flatmap(lambda name: spoiled(VALID[name])))
def test_bytes_are_json_or_not(data: bytes) -> None:
    value = refused(lambda: jsonio.parse(data, "it"))
    assert isinstance(value, InvalidInput) or json.loads(json.dumps(value, allow_nan=False)) == value


@tried(100)
@given(st.sampled_from(sorted(VALID)).flatmap(lambda name: spoiled(VALID[name])), st.integers(1, 50))
def test_a_stream_of_bytes_gives_values_or_is_refused(data: bytes, size: int) -> None:
    source, most = io.BytesIO(data), max(size, len(data) // 100)
    read = refused(lambda: list(jsonio.stream(lambda wanted: source.read(min(most, wanted)), "FILE")))
    assert isinstance(read, list | InvalidInput)


@tried(60)
@given(spoiled(VALID["progress"]) | st.lists(spoiled(VALID["progress"])).map(b"\n".join))
def test_a_list_of_artifacts_is_always_one_of_objects(data: bytes) -> None:
    assert all(isinstance(each, dict) for each in outputs.parsed(data))


@tried(60)
@given(
    spoiled(b'{"status": "succeeded", "outputs": {"n": 1}, "artifacts": [{"kind": "file"}], "workerInfo": {}}'),
    st.integers(-64, 255),
)
def test_a_draft_of_a_handler_has_an_outcome(data: bytes, code: int) -> None:
    assert results.of_exit(code, data).status in states.TERMINAL


TABLE = b'{"name": "t", "columns": {"id": {"type": "integer", "nullable": false}}, "keyFields": ["id"], "indexFields": [], "rowCount": 1, "sizeBytes": 9}'


@tried(80)
@given(spoiled(TABLE))
def test_a_description_of_a_table_is_one_or_damaged(data: bytes) -> None:
    read = refused(lambda: tables.description(data, 1, "FILE", "t"))
    if not isinstance(read, SpoolError):
        assert all(isinstance(column["type"], str | None) for column in read["columns"].values())
        assert isinstance(read["name"], str)
    else:
        assert isinstance(read, Damaged)


CONTEXT = (
    b'{"jobId": "j", "leaseToken": "t", "resultFile": "/x/result.json", "attempt": 1, "jobPath": "/x/j", "workspaceId": "w", '
    b'"spool": "/x", "jobType": "t", "keyId": ""}'
)


@tried(40)
@given(data=spoiled(CONTEXT))
@example(data=CONTEXT.replace(b"/x/j", rb"/x\u0000/j"))
@example(data=CONTEXT.replace(b'"/x"', rb'"\u0000"'))
def test_a_context_of_a_worker_is_read_or_refused(data: bytes) -> None:
    with worlds.scratch() as place:
        (place / "worker-context.json").write_bytes(data)
        context = refused(lambda: Context.load({"BREYTA_JOB_DIR": str(place)}))
        if isinstance(context, Context):
            _finished(context)


def _finished(context: Context) -> None:
    try:
        refused(lambda: context.check_key(None))
        refused(lambda: context.finish("succeeded", "", {}, {}))
    except OSError:
        pass  # a path that is none; the command line says so


@tried(60)
@given(HEARD | st.text(st.sampled_from("0123456789.msdh -")) | NAME)
@example("\u0661s")
@example("9" * 20 + "d")
def test_a_duration_is_one_or_refused(value: Any) -> None:
    ms = refused(lambda: durations.milliseconds(value))
    assert isinstance(ms, InvalidInput) or 0 <= ms <= 100 * 365 * 86_400_000
    if isinstance(value, str) and not value.isascii():
        assert isinstance(ms, InvalidInput)


@tried(100)
@given(NAME | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)") | HEARD)
def test_a_time_is_one_or_refused(value: Any) -> None:
    ms = refused(lambda: durations.epoch_ms(value))
    assert isinstance(ms, InvalidInput | int)


@tried(100)
@given(st.floats(allow_nan=False) | st.integers(-(10**30), 10**30))
@example(float("inf"))
@example(-float("inf"))
@example(10**400)
def test_any_time_of_a_file_can_be_shown(ms: float) -> None:
    assert durations.rfc3339(ms).endswith("Z")


CHECKS: dict[str, Any] = {
    "job id": ids.check_job_id, "batch id": ids.check_batch_id, "job type": paths.check_job_type, "worker id": paths.check_worker_id,
    "key": lambda text: paths.check_artifact_name(text, "key"), "address": addresses.parse, "status": states.normalise,
}  # fmt: skip


@pytest.mark.parametrize("what", CHECKS)
@tried(60)
@given(text=NAME | HEARD)
def test_a_name_is_taken_or_refused(what: str, text: Any) -> None:
    assert isinstance(refused(lambda: CHECKS[what](text)), str | tuple | InvalidInput)


@tried(100)
@given(st.lists(NAME | st.tuples(NAME, NAME).map("=".join)).map(tuple))
def test_pairs_are_an_object_or_refused(given_: tuple[str, ...]) -> None:
    assert isinstance(refused(lambda: pairs("output", given_)), dict | InvalidInput)


CLAUSE = st.lists(st.sampled_from(["id", "title", *rows.PREDICATES, "asc", "desc"]) | JSON, max_size=4)


@tried(60)
@given(JSON | st.lists(CLAUSE, max_size=3), JSON | st.lists(CLAUSE, max_size=2), HEARD, HEARD)
@example([], [], 10**30, 0)
@example([], [], 1, -1)
@example([["id", "=", [{"a": [1]}]]], [], 1, 0)
def test_a_query_is_answered_or_refused(where: Any, sort: Any, limit: Any, offset: Any) -> None:
    query = rows.Query(where, sort, (), limit, offset)
    table = [{"id": 1, "title": "a"}, {"id": None}, {"title": ["x", {"y": 1.5}]}, {"id": True, "title": {"z": 1}}]
    if not isinstance(refused(lambda: query.check(["id", "title"])), SpoolError):
        assert all(row in table for row in rows.Page(table, query))


@tried(60)
@given(
    HEARD,
    HEARD,
    HEARD,
    HEARD | st.fixed_dictionaries({}, optional={"type": NAME | HEARD, "factor": HEARD, "max": HEARD}),
)
@example("1ms", None, 300, {"type": "exponential", "factor": 1000, "max": "1ms"})
def test_the_bounds_of_an_await_are_bounds_or_refused(interval: Any, timeout: Any, polls: Any, backoff: Any) -> None:
    limits = refused(lambda: waiting.bound(interval, timeout, polls, backoff))
    if isinstance(limits, waiting.Bound):
        assert all(0 <= limits.pause_ms(poll) <= 86_400_000 for poll in (1, 2, 100, 200, 10_000))
        assert limits.spoken


# -- found: accepted, and then unreadable -----------------------------------------------------------


def _nested(depth: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = kind([value])
    return value


@pytest.mark.parametrize("kind", [list, tuple])
def test_what_is_accepted_can_be_read_however_deep_it_nests(spool: Spool, kind: type) -> None:
    for depth in (150, 199, 200, 201, 205, 250, 500):
        value = _nested(depth, kind)
        for accepted in (
            refused(lambda value=value: spool.submit("t", value)),
            refused(lambda value=value: spool.submit("t", metadata={"v": value})),
        ):
            if not isinstance(accepted, SpoolError):
                assert spool.get(accepted.job_id).status == "queued"
        lease = refused(lambda value=value: spool.claim("t", "w", labels={"v": value}))
        if isinstance(lease, SpoolError) or lease is None:
            continue
        refused(lambda value=value, lease=lease: lease.progress("deep", details={"v": value}))
        uri = refused(lambda value=value, lease=lease: lease.dir.attach_kv("deep", value)["resourceUri"])
        if isinstance(uri, str):
            assert spool.resources.read(uri)["value"] is not None
        done = refused(lambda value=value, lease=lease: lease.complete(outputs={"v": value}))
        assert (spool.get(lease.job_id).status == "succeeded") is not isinstance(done, SpoolError)


def test_a_report_that_is_accepted_is_shown(spool: Spool) -> None:
    spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    with pytest.raises(InvalidInput, match="deeper"):
        lease.progress("deep", details={"v": _nested(300, list)})
    lease.progress("as deep as it may", details={"v": _nested(190, list)})
    progress = lease.job.progress
    assert progress is not None
    assert progress.message == "as deep as it may"


@pytest.mark.parametrize("retry_of", [5, "", "x" * 5_000_000], ids=["number", "empty", "long"])
def test_a_job_is_not_accepted_with_a_retry_of_that_no_reader_takes(spool: Spool, retry_of: Any) -> None:
    accepted = refused(lambda: spool.submit("t", retry_of=retry_of))
    assert isinstance(accepted, InvalidInput) or spool.get(accepted.job_id)


def test_labels_that_no_reader_takes_are_refused_and_do_not_shorten_the_lease(spool: Spool) -> None:
    spool.submit("t")
    with pytest.raises(InvalidInput, match="labels"):
        spool.claim("t", "w", labels={"text": "x" * 5_000_000}, lease="7d")
    lease = spool.claim("t", "w", labels={"text": "x" * 1_000_000}, lease="7d")
    assert lease is not None
    claim = jobs.load_claim(lease.dir.job_dir, 1)
    assert claim is not None
    assert claim.lease_ms == 7 * 86_400_000


@pytest.mark.parametrize("limit", [1 << 63, 10**30, 10**5000, -1, 0, 1.5, True], ids=lambda limit: type(limit).__name__)
def test_a_limit_beyond_all_bounds_is_refused(spool: Spool, limit: Any) -> None:
    for ask in (spool.list, spool.list_batches):
        assert isinstance(refused(lambda ask=ask: ask(limit=limit)), list | InvalidInput)


def test_a_wait_of_a_thousandfold_backoff_does_not_overflow(spool: Spool) -> None:
    job = spool.submit("t")
    with pytest.raises(AwaitBound):
        spool.await_job(
            job.job_id, interval="1ms", max_attempts=120, backoff={"type": "exponential", "factor": 1000, "max": "1ms"}
        )


def test_the_hostile_names_and_values_are_what_they_should_be() -> None:
    assert len(set(hostile.NAMES)) == len(hostile.NAMES)
    assert sys.get_int_max_str_digits() == 4300
