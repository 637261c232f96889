"""Processes that do the same work at once.

``python -m tests.bench.crew MODULE:FUNCTION ARGUMENTS`` is one of them, its arguments a JSON array: the function prepares
and gives what is done when all are ready; what that gives goes back as JSON.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from contextlib import ExitStack, suppress
from typing import Any

from tests.command import REPOSITORY

PATIENCE_SECONDS = 3600
"""Making a million jobs takes minutes."""


def run(count: int, work: str, *arguments: Any) -> list[Any]:
    """What ``count`` processes answered. Raises RuntimeError with the last line that a failing one said."""
    with ExitStack() as stack:
        crew = []
        for _ in range(count):
            command = [sys.executable, "-m", "tests.bench.crew", work, json.dumps(arguments)]
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            stack.callback(_end, process)
            crew.append(process)
        for process in crew:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(_why(process))
        for process in crew:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [_answer(process) for process in crew]


def _answer(process: subprocess.Popen[str]) -> Any:
    out, error = process.communicate(timeout=PATIENCE_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(error.strip().splitlines()[-1] if error.strip() else f"it ended with {process.returncode}")
    return json.loads(out)


def _why(process: subprocess.Popen[str]) -> str:
    _, error = process.communicate(timeout=PATIENCE_SECONDS)
    return error.strip().splitlines()[-1] if error.strip() else "it did not start"


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):  # what was not sent before it died
                pipe.close()


def _main(work: str, arguments: str) -> None:
    module, _, name = work.partition(":")
    begin = getattr(importlib.import_module(module), name)(*json.loads(arguments))
    print("ready", flush=True)
    if sys.stdin.readline() == "go\n":
        print(json.dumps(begin()))


if __name__ == "__main__":
    _main(*sys.argv[1:])
