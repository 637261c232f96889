"""Real file systems in files, mounted for a test and unmounted for certain after it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MB = 1 << 20


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")


@contextmanager
def image(place: Path, kind: str, *options: str, size: int = 48, mount: str = "") -> Iterator[Path]:
    """A file system of a kind, made with mkfs's options, of a size in MB."""
    needs_root()
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"there is no mkfs.{kind}")
    disk = place / f"{kind}.img"
    with disk.open("wb") as file:
        file.truncate(size * MB)
    made = subprocess.run([f"mkfs.{kind}", *options, str(disk)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    with mounted(place / "mnt", "-o", f"loop{',' * bool(mount)}{mount}", "-t", kind, str(disk)) as point:
        yield point
    disk.unlink()


@contextmanager
def mounted(point: Path, *given: str) -> Iterator[Path]:
    """Something mounted at a directory of its own; skips the test when this kernel does not have it."""
    needs_root()
    point.mkdir()
    done = subprocess.run(["mount", *given, str(point)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this host cannot mount it: {done.stderr.strip().splitlines()[0]}")
    try:
        yield point
    finally:
        if subprocess.run(["umount", str(point)], capture_output=True, check=False).returncode != 0:
            subprocess.run(["umount", "-l", str(point)], check=True)


def fill(directory: Path) -> None:
    """Use up every byte."""
    subprocess.run(["sync", "-f", str(directory)], check=True)  # what was removed is free only then
    with (directory / "filling").open("wb", buffering=0) as file:
        for size in (MB, 4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                pass


def use_up_inodes(directory: Path) -> None:
    number = 0
    while True:
        try:
            (directory / f"filling-{number}").touch()
        except OSError:
            return
        number += 1
