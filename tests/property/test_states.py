"""Any path of legal renames: a terminal status is the last, and no lost lease leads beyond the attempts allowed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from breyta_spool import states
from breyta_spool.states import Status
from tests.property.laws import tried

ALL = [
    Status(state, attempt, token)
    for state in (states.QUEUED, states.LEASED, *states.TERMINAL)
    for attempt in range(7)
    for token in (("k1", "k2") if state == states.LEASED else ("",))
]


def _next(status: Status) -> list[Status]:
    return [after for after in ALL if states.is_legal(status, after)]


@tried(100)
@given(st.data())
def test_a_terminal_status_is_final_and_every_other_one_goes_on(data: Any) -> None:
    status = Status(states.QUEUED, 0)
    for _ in range(20):
        further = _next(status)
        assert status.is_terminal == (not further) or status.attempt >= 6
        if not further:
            break
        status = data.draw(st.sampled_from(further))


@tried(60)
@given(st.integers(1, 5), st.lists(st.sampled_from(("lost", "given back", "cancelled", "undone")), max_size=20))
def test_as_long_as_a_lost_lease_decides_no_attempt_is_beyond_the_last(most: int, ends: list[str]) -> None:
    status = Status(states.QUEUED, 0)
    for number, end in enumerate(ends):
        assert not status.is_terminal
        leased = Status(states.LEASED, status.attempt + 1, f"k{number}")
        assert states.is_legal(status, leased)
        assert leased.attempt <= most
        if end == "undone":
            after = Status(states.QUEUED, leased.attempt - 1)
        else:
            after = states.after_lost_lease(leased, most, end == "cancelled")
        assert states.is_legal(leased, after)
        assert after.is_terminal or after.attempt < most
        status = after
        if status.is_terminal:
            return


@tried(60)
@given(st.sampled_from(ALL), st.sampled_from(ALL))
def test_no_legal_rename_goes_back_behind_what_was_begun(old: Status, new: Status) -> None:
    if states.is_legal(old, new):
        assert old.name != new.name
        assert new.attempt >= old.attempt or (new.state == states.QUEUED and new.attempt == old.attempt - 1)
        assert not old.is_terminal
        assert not new.is_terminal or new.attempt == old.attempt


@tried(100)
@given(st.dictionaries(st.sampled_from((states.QUEUED, states.LEASED, *states.TERMINAL)), st.integers(0, 5)))
def test_a_batch_has_ended_when_no_job_waits_or_runs(counts: dict[str, int]) -> None:
    goes_on = counts.get(states.QUEUED, 0) + counts.get(states.LEASED, 0) > 0
    assert (states.batch_status(counts) in states.BATCH_TERMINAL) is not goes_on
