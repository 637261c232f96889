"""The torture command, for a few seconds; with --whole for minutes, with and without locks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import told_by


def _tortured(place: Path, seconds: float, *options: str) -> str:
    words = ("tests.torture", "--seconds", str(seconds), "--spool", str(place / "spool"), *options)
    return told_by(place, seconds + 240, *words)


@pytest.mark.parametrize("locks", [(), ("--no-locks",)], ids=["with locks", "without locks"])
def test_processes_that_are_killed_and_stopped_at_random_are_told_the_truth(
    tmp_path: Path, whole: bool, locks: tuple[str, ...]
) -> None:
    # The death of a process loses nothing in either; with "durable" the sample would wait for the disk of all others.
    told = _tortured(tmp_path, 150 if whole else 3, "--durability", "durable" if whole else "none", *locks)
    assert "everybody was told the truth" in told
    assert " kills" in told
    assert " finishes acknowledged" in told
    assert list(tmp_path.iterdir()) == []  # what is not needed any more is taken away


def test_it_works_with_two_paths_of_one_spool(tmp_path: Path, whole: bool) -> None:
    """As with two mounts of one file system."""
    if not whole:
        pytest.skip("only with --whole")
    (tmp_path / "other").symlink_to("spool")
    told = _tortured(tmp_path, 20, "--durability", "none", "--mount", str(tmp_path / "other"))
    assert "everybody was told the truth" in told
