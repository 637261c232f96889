"""Readers of a file that another host replaces: NFS may answer ESTALE after the open as well as at it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import looking

READERS: list[Callable[[str], Any]] = [
    lambda path: looking.read(path, 100),
    looking.modified,
    looking.changed,
]


@pytest.mark.parametrize("call", ["open", "fstat", "read"])
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_goes_stale_while_it_is_read_is_read_again(
    reader: Callable[[str], Any], call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NFS 4.2 did this 1 to 6 times in 1,500 reads of a file that was replaced all the time. A local disk never does.
    path = tmp_path / "claim.json"
    path.write_bytes(b"{}")
    real, left = getattr(os, call), [errno.ESTALE]

    def stale(*given: Any, **named: Any) -> Any:
        if left:
            raise OSError(left.pop(), "Stale file handle")
        return real(*given, **named)

    expected = reader(str(path))
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, call, stale)
    assert reader(str(path)) == expected
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) == before
