from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import __main__ as program
from tests.fuzz import corpus, mutation
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_a_while(name: str, whole: bool, tmp_path: Path) -> None:
    """Blindly, for half a second; with --whole for 20 s, and as long led by coverage where atheris is installed."""
    found = mutated_for(name, 20 if whole else 0.4)
    assert found is None, f"python -m tests.fuzz {name} FILE with these bytes: {found!r}"
    if whole and program.has_atheris():
        assert program.fuzz(name, 20, tmp_path, guided=True) is None


def mutated_for(name: str, seconds: float) -> bytes | None:
    try:
        assert mutation.run(TARGETS[name], seconds, corpus.seeds(), corpus.tokens()) > 0
    except mutation.Crash as crash:
        return crash.data
    return None


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_read(name: str) -> None:
    for seed in corpus.seeds():
        TARGETS[name](seed)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> str:
    def target(data: bytes) -> None:
        if b"queued" in data and b"\xff" in data:
            raise RuntimeError("found")

    monkeypatch.setitem(TARGETS, "json", target)
    return "json"


def test_what_is_found_is_kept_in_a_file_that_shows_it_again(broken: str, tmp_path: Path, capsys: Any) -> None:
    assert program.main([broken, "--seconds", "20", "--plain", "--crashes", str(tmp_path)]) == 1
    (file,) = tmp_path.iterdir()
    assert f"python -m tests.fuzz {broken} {file}" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="found"):
        program.main([broken, str(file)])
    assert program.main(["draft", str(file)]) == 0


@pytest.mark.skipif(not program.has_atheris(), reason="atheris is not installed")
def test_atheris_keeps_what_it_finds_in_a_file_that_shows_it_again(whole: bool, tmp_path: Path) -> None:
    if not whole:
        pytest.skip("takes some seconds to start")
    script = f"import tests.fuzz.targets as t, tests.fuzz.guided as g; t.TARGETS['words'] = lambda data: 1 // (b'queued' not in data); g.main('words', 60, {str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert "ZeroDivisionError" in done.stdout + done.stderr
    assert done.returncode != 0
    (file,) = tmp_path.iterdir()
    assert b"queued" in file.read_bytes()


def test_the_dictionary_is_what_both_fuzzers_read() -> None:
    tokens = corpus.tokens()
    assert {b'{"a":', b"\xff", b"\0", b"\\ud800", b"exponential"} <= set(tokens)
    assert mutation.mutated(b"", random.Random(1), [b""], tokens) is not None
    assert json.loads(b'"\\ud800"') == "\ud800"
