"""Laws of the pure parts: ids, states, durations, JSON, results."""

from __future__ import annotations

import io
import itertools
import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breyta_spool import InvalidInput, SpoolError, durations, ids, jsonio, paths, records, results, states
from breyta_spool.states import Status

STATUSES = [Status(state, n, "k" if state == "leased" else "") for state in
            ("queued", "leased", *states.TERMINAL) for n in range(4)]  # fmt: skip


@pytest.mark.parametrize("status", STATUSES, ids=lambda s: s.name)
def test_a_status_survives_its_name(status: Status) -> None:
    assert states.parse(status.name) == status


@given(st.text() | st.from_regex(r"status\.[a-z_]+\.[0-9]+(\.[a-z0-9]+)?"))
def test_no_name_breaks_the_parser_and_what_it_accepts_is_canonical(name: str) -> None:
    status = states.parse(name)
    assert (
        status is None or status.attempt != int(name.split(".")[2]) or status.name.split(".")[1] == name.split(".")[1]
    )


def test_nothing_leaves_a_terminal_status_and_attempts_only_grow_by_a_claim() -> None:
    for old, new in itertools.product(STATUSES, STATUSES):
        if not states.is_legal(old, new):
            continue
        assert not old.is_terminal
        claimed = old.state == "queued" and new.state == "leased"
        assert new.attempt - old.attempt in ((1,) if claimed else (0, -1))


def test_a_lost_lease_goes_on_as_long_as_attempts_are_left() -> None:
    for attempt, most, cancel in itertools.product(range(1, 5), range(1, 5), (False, True)):
        leased = Status("leased", attempt, "k")
        after = states.after_lost_lease(leased, most, cancel)
        assert states.is_legal(leased, after)
        assert after.state == ("cancelled" if cancel else "timed_out" if attempt >= most else "queued")


def test_ids_sort_in_the_order_they_were_made_and_name_their_minute() -> None:
    made = [ids.new_job_id() for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == 2000
    assert abs(ids.created_ms(made[0]) - time.time() * 1000) < 60_000
    assert ids.day_and_minute("job-01JD0W3Z8Q4X5V6B7N8M9K0P1R") == ("20241119", "0010")


def test_an_id_with_a_number_belongs_to_the_batch_of_its_ulid() -> None:
    member = "job-01JD0W3Z8Q4X5V6B7N8M9K0P1R-00042"
    assert ids.check_job_id(member) == member
    assert ids.batch_of(member) == "batch-01JD0W3Z8Q4X5V6B7N8M9K0P1R"
    assert paths.job_place(member) == f"jobs/20241119/0010/batch-01JD0W3Z8Q4X5V6B7N8M9K0P1R/{member}"
    assert ids.batch_of("job-01JD0W3Z8Q4X5V6B7N8M9K0P1R") is None


def test_the_link_of_a_single_job_fits_into_the_inode() -> None:
    assert len(paths.entry_target(ids.new_job_id())) < 60


@given(st.text())
def test_what_passes_as_a_name_never_leaves_its_directory(text: str) -> None:
    for check in (
        ids.check_job_id,
        paths.check_job_type,
        paths.check_worker_id,
        lambda t: paths.check_artifact_name(t, "x"),
    ):
        try:
            check(text)
        except InvalidInput:
            continue
        assert "/" not in text
        assert "\0" not in text
        assert not text.startswith(".")
        assert len(text) < 200


@pytest.mark.parametrize(
    ("text", "ms"),
    [("250ms", 250), ("15s", 15_000), ("45m", 2_700_000), ("2h", 7_200_000), ("1h30m", 5_400_000), ("1.5s", 1500),
     ("1000", 1000), (1500, 1500), (0.5, 0), (" 1H ", 3_600_000), ("1d", 86_400_000), (0, 0)],
)  # fmt: skip
def test_durations_of_the_contract(text: Any, ms: int) -> None:
    assert durations.milliseconds(text) == ms


@given(st.text() | st.floats() | st.integers() | st.none() | st.booleans() | st.lists(st.integers()))
def test_a_duration_is_read_or_refused_with_a_hint(value: Any) -> None:
    try:
        assert durations.milliseconds(value) >= 0
    except InvalidInput as error:
        assert '"15s"' in error.hint


@given(st.integers(0, 10**12))
def test_a_spoken_duration_reads_back_to_what_it_said(ms: int) -> None:
    assert durations.milliseconds(durations.spoken(ms)) <= max(ms, 1) + 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_survives_a_file(value: Any) -> None:
    assert jsonio.parse(jsonio.compact(value), "x") == value
    assert json.loads(jsonio.compact(value)) == value


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_record_has_a_field_a_line_and_is_json(fields: dict[str, Any]) -> None:
    data = jsonio.record(fields)
    assert jsonio.parse_object(data, "x") == fields
    assert data.endswith(b"\n")


@given(st.binary() | st.text() | JSON.map(json.dumps))
def test_any_bytes_are_json_or_refused_and_never_something_else(data: bytes | str) -> None:
    try:
        jsonio.parse(data, "x")
    except InvalidInput as error:
        assert error.message.startswith("x ")


@given(st.sampled_from(sorted(records.RECORDS)), st.binary() | JSON.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_are_a_record_or_damaged(name: str, data: bytes) -> None:
    model = records.RECORDS[name]
    if issubclass(model, records.Record):
        try:
            records.read_record(model, data, "file")
        except SpoolError as error:
            assert error.code == "damaged"


@given(st.integers(-64, 255), st.none() | st.binary() | JSON.map(lambda v: json.dumps(v).encode()))
def test_every_exit_and_every_result_file_has_an_outcome(code: int, draft: bytes | None) -> None:
    outcome = results.of_exit(code, draft)
    assert outcome.status in states.TERMINAL
    assert outcome.status != "timed_out"
    assert (outcome.error is not None) == (outcome.status in ("failed", "cancelled"))
    if code != 0:
        assert outcome.status == "failed"


def streamed(data: bytes, size: int = 1 << 30) -> list[Any]:
    """What a stream gives whose source hands out at most ``size`` bytes at a time."""
    source = io.BytesIO(data)
    return list(jsonio.stream(lambda wanted: source.read(min(size, wanted)), "FILE"))


@given(st.lists(JSON, max_size=5), st.integers(1, 9), st.booleans())
def test_a_stream_gives_what_was_written_however_its_bytes_arrive(values: list[Any], size: int, spaced: bool) -> None:
    text = json.dumps(values, ensure_ascii=False, indent=1 if spaced else None)
    lines = "".join(json.dumps(value) + "\n" for value in values if not isinstance(value, list))
    assert streamed(text.encode("utf-8", "surrogatepass") if text.isascii() else text.encode(), size) == values
    assert streamed(lines.encode(), size) == [value for value in values if not isinstance(value, list)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'[{"a": 1}, {"a": 2} {"a": 3}]', "value 2: is followed by '{'"),
        (b'[{"a": 1}, {"a": tru', "value 2: not valid JSON"),
        (b'[{"a": 1},', "value 2: not valid JSON"),
        (b'[{"a": 1}', "followed by the end; is the file whole"),
        (b'[{"a": 1}] x', "goes on after the end"),
        (b'{"a": 1}\n{"a": NaN}', "value 2 is not valid JSON: NaN"),
        (b"[1, NaN]", "value 2: not valid JSON: NaN"),
        (b'[1, "\xff"]', "not UTF-8"),
        (b"[" + b"[" * 300 + b"]" * 300 + b"]", "nests deeper"),
    ],
)
def test_a_stream_says_which_value_is_wrong(data: bytes, said: str) -> None:
    for size in (1, 7, 1 << 20):
        with pytest.raises(InvalidInput, match=re.escape(said)):
            streamed(data, size)


def test_a_stream_holds_one_value_and_not_the_file() -> None:
    pieces = itertools.chain([b"["], itertools.repeat(b'{"payload": {"n": 1}},', 1_000_000))
    values = jsonio.stream(lambda wanted: next(pieces), "FILE")
    assert sum(1 for _ in itertools.islice(values, 1000)) == 1000
    assert next(pieces)  # it read no further than it had to
