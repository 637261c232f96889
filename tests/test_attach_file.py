from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from breyta_spool import InvalidInput, files
from breyta_spool.outputs import AttemptDir

TYPES = {
    "report.md": "text/markdown", "a.TXT": "text/plain", "x.log": "text/plain", "d.json": "application/json", "rows.jsonl": "application/jsonl",
    "t.csv": "text/csv", "c.yaml": "application/yaml", "p.png": "image/png", "d.pdf": "application/pdf", "t.parquet": "application/vnd.apache.parquet",
    "h.html": "text/html", "none": "application/octet-stream", "odd.zzz": "application/octet-stream",
}  # fmt: skip


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptDir:
    job_dir = tmp_path / "job"
    (job_dir / "attempt-1").mkdir(parents=True)
    (job_dir / "status.leased.1.k3").touch()
    return AttemptDir(str(job_dir), "job-01M81Y1Y5CDE3B4WZZ6KYE37BB", 1, "k3", "ws-acme")


def test_type_size_and_hash_of_a_file_are_recorded(attempt: AttemptDir, tmp_path: Path) -> None:
    for name, expected in TYPES.items():
        content = os.urandom(3000) + name.encode()
        (tmp_path / name).write_bytes(content)
        told = attempt.attach_file(str(tmp_path / name))
        assert told["contentType"] == expected, name
        assert (told["sizeBytes"], told["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert Path(attempt.artifacts, name).read_bytes() == content
    assert attempt.attach_file(str(tmp_path / "none"), content_type="x/y")["contentType"] == "x/y"


def changing(change: Callable[[Path], None], path: Path) -> None:
    """Let a change happen between the first look at the file and the copy."""

    def hook(operation: str, written: str) -> None:
        if operation == "write":
            files.hook = None
            change(path)

    files.hook = hook


def in_secret(path: Path) -> None:
    """Other bytes, as many, and the old times."""
    times = path.stat()
    time.sleep(0.02)  # the clock of a file system ticks in steps
    with path.open("r+b") as file:
        file.write(b"changed")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], None]] = {
    "longer": lambda path: path.write_bytes(b"y" * 6000),
    "shorter": lambda path: os.truncate(path, 10),
    "gone empty": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_copied_is_refused(attempt: AttemptDir, tmp_path: Path, change: str) -> None:
    source = tmp_path / "x.log"
    source.write_bytes(b"x" * 5000)
    changing(CHANGES[change], source)
    try:
        with pytest.raises(InvalidInput, match="changed while it was copied"):
            attempt.attach_file(str(source))
    finally:
        files.hook = None
    assert os.listdir(attempt.artifacts) == []
    assert attempt.attach_file(str(source))["sizeBytes"] == source.stat().st_size


def test_a_change_after_the_copy_that_hides_itself_is_noticed(
    attempt: AttemptDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "x.log"
    source.write_bytes(b"x" * 5000)
    copy = os.copy_file_range

    def then_change(*args: int) -> int:
        copied = copy(*args)
        in_secret(source)
        return copied

    monkeypatch.setattr(os, "copy_file_range", then_change)
    with pytest.raises(InvalidInput, match="changed while it was copied"):
        attempt.attach_file(str(source))
    monkeypatch.undo()
    assert os.listdir(attempt.artifacts) == []


def test_a_file_that_is_only_renamed_or_linked_meanwhile_is_attached(attempt: AttemptDir, tmp_path: Path) -> None:
    source = tmp_path / "x.log"
    source.write_bytes(b"x" * 5000)
    time.sleep(0.02)
    changing(lambda path: os.link(path, tmp_path / "backup"), source)
    try:
        assert attempt.attach_file(str(source))["sizeBytes"] == 5000
    finally:
        files.hook = None


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace tells which calls were made")
def test_the_kernel_copies_the_bytes(tmp_path: Path) -> None:
    size = 5 << 20
    (tmp_path / "big").write_bytes(os.urandom(size))
    program = "import sys; from breyta_spool import files; files.copy_new(sys.argv[1], sys.argv[2])"
    log = tmp_path / "log"
    command = ["strace", "-f", "-o", str(log), "-e", "trace=copy_file_range,write", sys.executable, "-c", program]
    traced = subprocess.run([*command, str(tmp_path / "big"), str(tmp_path / "copy")], capture_output=True, check=False)
    if not log.exists() or not log.stat().st_size:
        pytest.skip(f"strace may not trace here: {traced.stderr.decode()[-100:]}")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "big").read_bytes()
    calls = log.read_text().splitlines()
    refused = [call for call in calls if "copy_file_range" in call and "-1 E" in call]
    if refused:
        pytest.skip(f"this file system does not copy: {refused[0][-60:]}")
    copied = [int(call.rpartition("= ")[2]) for call in calls if "copy_file_range" in call]
    assert sum(copied) == size
    assert not [call for call in calls if " write(" in call], "no byte went through this process"


def test_where_the_kernel_does_not_copy_the_bytes_are_copied_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refused)
    content = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(content)
    size, digest = files.copy_new(str(tmp_path / "big"), str(tmp_path / "copy"))
    assert (size, digest) == (len(content), hashlib.sha256(content).hexdigest())
    assert (tmp_path / "copy").read_bytes() == content
