"""What processes were told, outside of the spool: a file for each, one line in one write, after the call returned."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Ledger:
    """The ledger file of one process. A line stands in it whole, or its writer was killed before it was told."""

    def __init__(self, directory: str, name: str) -> None:
        self.directory, self.name = directory, name
        self._fd = os.open(f"{directory}/{name}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def say(self, what: str, **fields: Any) -> None:
        os.write(
            self._fd, json.dumps({"what": what, "who": self.name, "at": time.monotonic(), **fields}).encode() + b"\n"
        )


def lines(directory: str, *whats: str) -> Iterator[Line]:
    """What all of them wrote down, file after file, of some kinds or of all."""
    for path in sorted(Path(directory).glob("*.jsonl")):
        for line in _whole_lines(path):
            said = json.loads(line)
            if not whats or said["what"] in whats:
                yield said


def log_lines(directory: str) -> Iterator[tuple[str, str]]:
    """What the worker program said on stderr: the worker's name and the line."""
    for path in sorted(Path(directory).glob("*.log")):
        for line in _whole_lines(path):
            yield path.stem, line


def _whole_lines(path: Path) -> list[str]:
    # What stands behind the last newline was being written when its writer was killed.
    return path.read_text(errors="replace").split("\n")[:-1]


class Tail:
    """The newest lines of everybody's ledger, read on from where the last look ended."""

    def __init__(self, directory: str, what: str, keep: int) -> None:
        self._directory, self._what, self._keep = directory, what, keep
        self._read: dict[str, int] = {}
        self.newest: list[Line] = []

    def look(self) -> list[Line]:
        for path in Path(self._directory).glob("submitter-*.jsonl"):
            with open(path, "rb") as file:
                file.seek(self._read.get(path.name, 0))
                data = file.read()
            end = data.rfind(b"\n") + 1
            self._read[path.name] = self._read.get(path.name, 0) + end
            said = [json.loads(line) for line in data[:end].splitlines()]
            self.newest += [line for line in said if line["what"] == self._what]
        self.newest.sort(key=lambda line: float(line["at"]))
        del self.newest[: -self._keep]
        return self.newest
