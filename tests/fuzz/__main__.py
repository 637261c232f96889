"""``python -m tests.fuzz --seconds N [TARGET]``: fuzz; ``python -m tests.fuzz TARGET FILE``: try one input again."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import corpus, mutation
from tests.fuzz.targets import TARGETS

PATIENCE = 120
"""Seconds beyond the given ones after which a fuzzing process counts as hanging."""


def has_atheris() -> bool:
    """Whether inputs can be led by what code they reach."""
    return importlib.util.find_spec("atheris") is not None


def fuzz(name: str, seconds: int, crashes: Path, *, guided: bool) -> str | None:
    """Fuzz one target; gives the file that makes it fail, None when none was found."""
    if guided:
        return _guided(name, seconds, crashes)
    try:
        count = mutation.run(TARGETS[name], seconds, corpus.seeds(), corpus.tokens())
    except mutation.Crash as crash:
        traceback.print_exception(crash)
        file = crashes / f"crash-{name}"
        file.write_bytes(crash.data)
        return str(file)
    print(f"{name}: {count} inputs in {seconds} s, not led by coverage")
    return None


def _guided(name: str, seconds: int, crashes: Path) -> str | None:
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(seconds), str(crashes)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=seconds + PATIENCE, check=False
    )
    told = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    print(f"{name}: {told[1] if told else '?'} inputs in {seconds} s, led by coverage")
    if done.returncode == 0:
        return None
    print(done.stdout[-2000:], done.stderr[-6000:], sep="\n")
    written = sorted(crashes.iterdir(), key=lambda path: path.stat().st_mtime)
    return str(written[-1]) if written else f"no file, exit code {done.returncode}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, or try one input; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz everything that parses.")
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS), help="one target; all by default")
    parser.add_argument("file", nargs="?", help="try this input once instead")
    parser.add_argument("--seconds", type=int, default=60, help="for how long, each target (default: 60)")
    parser.add_argument("--plain", action="store_true", help="without atheris, even where it is installed")
    parser.add_argument("--crashes", metavar="DIR", help="where inputs that fail are kept (default: a new directory)")
    options = parser.parse_args(arguments)
    if options.file:
        TARGETS[options.target](Path(options.file).read_bytes())
        print(f"{options.target}: nothing wrong with {options.file}")
        return 0
    guided = has_atheris() and not options.plain
    if not guided:
        print("atheris is not used: inputs are changed blindly, which finds less than coverage would", file=sys.stderr)
    crashes = Path(options.crashes or tempfile.mkdtemp(prefix="crashes-"))
    crashes.mkdir(parents=True, exist_ok=True)
    failed = [
        (name, file)
        for name in _chosen(options.target)
        if (file := fuzz(name, options.seconds, crashes, guided=guided))
    ]
    for name, file in failed:
        print(f"FAILED {name}; again: python -m tests.fuzz {name} {file}")
    if not failed and not options.crashes:
        crashes.rmdir()
    return 1 if failed else 0


def _chosen(target: str | None) -> list[str]:
    return [target] if target else list(TARGETS)


if __name__ == "__main__":
    sys.exit(main())
