"""A spool of a newer format is refused, with what to do, and left as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from breyta_spool import FormatNotSupported, Spool, jsonio
from breyta_spool.records import FORMAT_VERSION
from tests import example
from tests.world import Cli


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A spool that a later version of this program made."""
    root = tmp_path / "spool"
    example.copy_to(root)
    settings = json.loads((root / "spool.json").read_text())
    settings |= {"formatVersion": FORMAT_VERSION + 1, "workspaceId": {"not": "what it was"}}
    (root / "spool.json").write_bytes(jsonio.record(settings))
    return root


def state_of(root: Path) -> dict[str, tuple[int, int]]:
    """Every path with its times, so that a touch shows as well."""
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in [root, *root.rglob("*")]}


def test_a_spool_of_a_newer_format_is_refused_and_nothing_is_changed(newer: Path) -> None:
    before = state_of(newer)
    with pytest.raises(FormatNotSupported, match="format version 3") as refused:
        Spool.open(newer)
    assert "upgrade" in refused.value.hint
    assert refused.value.details == {"path": f"{newer}/spool.json", "version": FORMAT_VERSION + 1}
    assert state_of(newer) == before


@pytest.mark.parametrize(
    "command",
    [
        ["jobs", "create", "--type", "agent-review"],
        ["jobs", "claim", "--type", "agent-review"],
        ["jobs", "list"],
        ["jobs", "worker", "run", "--type", "agent-review", "--once", "--handler", "true"],
    ],
    ids=lambda command: command[1],
)
def test_the_command_line_refuses_it_too(newer: Path, tmp_path: Path, command: list[str]) -> None:
    before = state_of(newer)
    error = Cli(str(newer), tmp_path)(*command).error
    assert error["code"] == "format_not_supported"
    assert state_of(newer) == before


def test_a_field_that_this_version_does_not_know_is_ignored(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    example.copy_to(root)
    for path in [root / "spool.json", *root.glob("jobs/*/*/*/*.json"), *root.glob("jobs/*/*/*/attempt-*/*.json")]:
        if path.name != "payload.json" and not path.is_symlink():
            fields = json.loads(path.read_text()) | {"addedLater": [1]}
            path.write_bytes(jsonio.record(fields))
    assert len(Spool.open(root).list(limit=100)) == len(example.STORIES)
