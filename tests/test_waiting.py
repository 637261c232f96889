from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import InvalidInput
from breyta_spool.waiting import Bound, Wake, bound, poll


def test_the_defaults_of_the_contract() -> None:
    assert bound() == Bound(10_000, 1_800_000, None)
    assert bound(max_attempts=3) == Bound(10_000, None, 3)
    assert bound(timeout="1h30m", interval=250) == Bound(250, 5_400_000, None)


def test_backoff_lengthens_the_pauses_up_to_its_max() -> None:
    def pauses(**backoff: Any) -> list[float]:
        limits = bound("100ms", max_attempts=9, backoff=backoff)
        return [limits.pause_ms(n) for n in range(1, 6)]

    assert pauses() == [100] * 5
    assert pauses(type="constant", factor=9) == [100] * 5
    assert pauses(type="linear") == [100, 200, 300, 400, 500]
    assert pauses(type="linear", factor=0.5) == [100, 150, 200, 250, 300]
    assert pauses(type=":exponential") == [100, 200, 400, 800, 1600]
    assert pauses(type="exponential", factor=3, max="1s") == [100, 300, 900, 1000, 1000]


@pytest.mark.parametrize(
    "given",
    [
        {"interval": "0ms"}, {"interval": "often"}, {"interval": -1}, {"interval": True}, {"interval": float("nan")},
        {"timeout": "1y"}, {"timeout": "5"+"0"*20}, {"timeout": ""}, {"timeout": []}, {"timeout": "m5"},
        {"max_attempts": 0}, {"max_attempts": 1.5}, {"max_attempts": "3"}, {"max_attempts": True},
        {"backoff": "linear"}, {"backoff": {"type": "x"}}, {"backoff": {"factor": -1}}, {"backoff": {"factor": "2"}},
        {"backoff": {"max": "x"}}, {"backoff": {"limit": 1}},
    ],
)  # fmt: skip
def test_a_wrong_bound_is_refused_with_its_field(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        bound(**given)
    assert "field" in caught.value.details


def never() -> Wake:
    return Wake()


def test_polls_are_counted_and_the_last_state_comes_back() -> None:
    probes: list[int] = []

    def probe() -> int:
        probes.append(1)
        return len(probes)

    state, done = poll(probe, lambda n: n >= 100, Bound(1, None, 3), never)
    assert (done, state) == (False, len(probes))


def test_a_wake_ends_the_pause_without_counting_as_a_poll() -> None:
    state = {"done": False}
    wake = Wake()

    def finish() -> None:
        state["done"] = True
        wake.set()

    threading.Timer(0.1, finish).start()
    began = time.monotonic()
    assert poll(lambda: state["done"], bool, Bound(60_000, 60_000), lambda: wake) == (True, True)
    assert time.monotonic() - began < 30


def test_what_happens_between_the_first_look_and_the_watch_is_seen() -> None:
    state = {"done": False}

    def late_watch() -> Wake:
        state["done"] = True  # the change comes before the watch and no event tells of it
        return Wake()

    assert poll(lambda: state["done"], bool, Bound(60_000, 60_000), late_watch) == (True, True)


def test_a_timeout_shorter_than_the_interval_ends_the_wait_with_one_more_look() -> None:
    probes: list[float] = []
    began = time.monotonic()
    _, done = poll(lambda: probes.append(1), lambda _: False, Bound(60_000, 50), never)
    assert not done
    assert 0.05 <= time.monotonic() - began < 30
    assert len(probes) == 3  # the first, one after the watch, one at the end


def test_the_kernel_tells_of_arrivals_and_of_the_bell(tmp_path: Path) -> None:
    for opened, act in (
        (False, lambda: (tmp_path / "a").rename(tmp_path / "b")),
        (True, lambda: list(tmp_path.iterdir())),
    ):
        (tmp_path / "a").touch()
        wake = Wake()
        assert wake.watch(str(tmp_path), opened=opened)
        assert not wake.wait(0)
        act()
        assert wake.wait(10)
        wake.close()
        assert not wake.wait(0)


def test_where_nothing_can_be_watched_polling_is_left(tmp_path: Path) -> None:
    assert Wake().watch(str(tmp_path / "missing")) is False


def test_a_wake_that_is_closed_may_still_be_set_and_its_watches_are_used_again(tmp_path: Path) -> None:
    for _ in range(10):
        wake = Wake()
        assert wake.watch(str(tmp_path))
        (tmp_path / "a").touch()
        (tmp_path / "a").rename(tmp_path / "b")
        wake.close()
        wake.set()
        wake.close()
    fresh = Wake()
    assert fresh.watch(str(tmp_path))
    assert not fresh.wait(0.05), "what an earlier watch was told is not told again"
    fresh.close()
