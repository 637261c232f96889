"""Power cuts in the midst of work: a few, or with --whole many, on ext4 and xfs, with and without durability."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import count, told_by
from tests.powercut import writes
from tests.powercut.disk import why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"power cuts: {why_not()}")


def _cut(place: Path, cuts: int, *options: str) -> str:
    return told_by(place, 180 + 60 * cuts, "tests.powercut", "--cuts", str(cuts), *options)


@pytest.mark.parametrize("first", [0, 1], ids=["ext4 with syncfs", "ext4 with fsync of each file"])
def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path, first: int, whole: bool) -> None:
    if whole and first:
        pytest.skip("the other one tries all")
    told = _cut(tmp_path, 48 if whole else 1, "--first", str(first))
    assert "nothing wrong" in told
    assert count(told, "submits acknowledged")
    if whole:
        assert count(told, "finishes acknowledged")
        assert count(told, "torn claims") + count(told, "torn results") + count(told, "torn requests")


def test_without_durability_nothing_torn_is_taken_for_a_whole(tmp_path: Path, whole: bool) -> None:
    told = _cut(tmp_path, 24 if whole else 1, "--durability", "none")
    assert "nothing wrong" in told
    if whole:
        assert count(told, "torn requests"), "the cut has torn nothing, so nothing was tried"


@pytest.mark.parametrize("options", [(), ("--old-kernel",)], ids=["syncfs", "fsync of each file"])
def test_each_write_may_be_the_last_that_reached_the_disk(
    tmp_path: Path, whole: bool, options: tuple[str, ...]
) -> None:
    if not whole:
        pytest.skip("only with --whole: it takes minutes")
    if missing := writes.why_not():
        pytest.skip(missing)
    told = told_by(tmp_path, 1800, "tests.powercut.replay", *options)
    assert "nothing wrong" in told
    assert count(told, "cuts") > 300
    assert count(told, "cuts that had torn something"), "nothing was torn, so nothing was tried"
