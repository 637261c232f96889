"""What is written one way is read back the same: ids, times, places, states, addresses, durations, JSON, pairs."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from breyta_cli.given import pairs
from breyta_spool import InvalidInput, addresses, durations, ids, jsonio, paths, states
from breyta_spool.addresses import Address
from breyta_spool.states import Status
from tests.property.hostile import JSON, NAME
from tests.property.laws import refused, tried

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MS = st.integers(0, 253_402_300_799_999)
STATUSES = st.builds(
    lambda state, attempt, token: Status(state, attempt, token if state == states.LEASED else ""),
    st.sampled_from((states.QUEUED, states.LEASED, *states.TERMINAL)),
    st.integers(0, states.MOST_ATTEMPTS),
    st.text(st.sampled_from("0123456789abcdefghijklmnopqrstuvwxyz"), min_size=1, max_size=32),
)
JOB_IDS = st.builds(
    lambda ms, rest, number: _id(ms, rest) + number,
    MS,
    st.integers(0, 2**80 - 1),
    st.sampled_from(("", "-00001", "-123456789")),
)
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:@+ -]{0,119}", fullmatch=True)
ADDRESSES = st.builds(
    Address,
    st.from_regex(r"[A-Za-z0-9_.-]{1,100}", fullmatch=True),
    st.sampled_from(sorted(addresses.PLACES)),
    JOB_IDS,
    st.integers(1, states.MOST_ATTEMPTS),
    NAMES,
)


def _id(ms: int, rest: int) -> str:
    value = ms << 80 | rest
    return "job-" + "".join(LETTERS[value >> shift & 31] for shift in range(125, -1, -5))


@tried(60)
@given(JOB_IDS, MS)
def test_an_id_tells_when_it_was_made_and_its_place_tells_it(job_id: str, ms: int) -> None:
    assert ids.check_job_id(job_id) == job_id
    assert ids.created_ms(_id(ms, 0)) == ms
    day, minute = ids.day_and_minute(job_id)
    told = durations.rfc3339(ids.created_ms(job_id))
    assert (day, minute) == (told[:10].replace("-", ""), told[11:16].replace(":", ""))
    assert paths.job_place(job_id).split("/")[-1] == job_id
    if batch := ids.batch_of(job_id):
        assert ids.check_batch_id(batch) == batch
        assert ids.job_in_batch(batch, int(job_id.rpartition("-")[2])) == job_id


@tried(60)
@given(JOB_IDS, JOB_IDS)
def test_ids_are_in_the_order_of_their_times(one: str, other: str) -> None:
    if ids.created_ms(one) < ids.created_ms(other):
        assert ids.order(one) < ids.order(other)


@tried(60)
@given(STATUSES)
def test_a_status_survives_its_name(status: Status) -> None:
    assert states.parse(status.name) == status


@tried(80)
@given(
    NAME
    | STATUSES.map(lambda status: status.name).flatmap(
        lambda name: st.sampled_from([name, name + "0", name[:-1], name + "\n", " " + name])
    )
)
def test_a_name_that_is_read_as_a_status_is_its_name(name: str) -> None:
    status = states.parse(name)
    assert status is None or status.name == name


@tried(60)
@given(ADDRESSES)
def test_an_address_survives_its_text(address: Address) -> None:
    assert addresses.parse(address.uri) == address


@tried(80)
@given(ADDRESSES.flatmap(lambda a: st.tuples(st.just(a.uri), st.integers(0, len(a.uri)), NAME)))
def test_no_other_text_is_read_as_an_address(changed: tuple[str, int, str]) -> None:
    uri, at, text = changed
    read = refused(lambda: addresses.parse(uri[:at] + text + uri[at:]))
    assert isinstance(read, InvalidInput) or read.uri == uri[:at] + text + uri[at:]


@tried(60)
@given(st.integers(0, 100 * 365 * 86_400_000))
def test_a_duration_survives_its_text(ms: int) -> None:
    assert durations.milliseconds(f"{ms}ms") == durations.milliseconds(str(ms)) == ms if len(str(ms)) <= 12 else True
    assert durations.milliseconds(ms) == ms


@tried(60)
@given(MS)
def test_a_time_survives_its_text(ms: int) -> None:
    assert durations.epoch_ms(durations.rfc3339(ms)) == ms


@tried(60)
@given(JSON)
def test_json_survives_both_ways_of_writing_it(value: Any) -> None:
    assert jsonio.parse(jsonio.compact(value), "it") == value
    assert jsonio.parse_object(jsonio.record({"v": value}), "it") == {"v": value}
    assert b"\n" not in jsonio.compact(value)


@tried(60)
@given(st.dictionaries(st.text(min_size=1).filter(lambda key: "=" not in key), JSON | st.text(), max_size=4))
def test_pairs_survive(fields: dict[str, Any]) -> None:
    assert pairs("output", tuple(f"{key}={jsonio.compact(value).decode()}" for key, value in fields.items())) == fields


@tried(100)
@given(st.text(min_size=1), st.text())
def test_a_value_that_is_no_json_is_text_as_it_stands(key: str, value: str) -> None:
    assume("=" not in key)
    found = pairs("output", (f"{key}={value}",))[key]
    assert found == value or not isinstance(refused(lambda: jsonio.parse(value, "it")), InvalidInput)
