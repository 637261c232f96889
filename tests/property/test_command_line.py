"""Any arguments: no traceback, a documented exit code, one JSON document or nothing, and after a 2 nothing has changed.

In this process: a start of the program for each example would try a hundredth of them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from breyta_cli import output, program
from tests.property import hostile, worlds
from tests.property.laws import bounded, tried

CODES = {0, 1, 2, 3, 4, 5, 6, 7}
SKIPPED = {"worker run", "logs"}
"""One goes on until it is stopped; the other prints what a handler wrote, as it is."""


class Ran:
    """How one call ended."""

    def __init__(self, code: int, stdout: bytes, stderr: str) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


def run(arguments: list[str], environment: dict[str, str], stdin: bytes = b"") -> Ran:
    """Run the program with arguments as a shell would hand them over."""
    out, err = io.BytesIO(), io.BytesIO()
    streams = (
        io.TextIOWrapper(io.BytesIO(stdin), "utf-8"),
        io.TextIOWrapper(out, "utf-8", write_through=True),
        io.TextIOWrapper(err, "utf-8", "backslashreplace", write_through=True),
    )
    output.options().clear()
    output.about("")
    umask, pipes = os.umask(0o022), signal.getsignal(signal.SIGPIPE)
    names = ("stdin", "stdout", "stderr")
    with contextlib.ExitStack() as stack:
        for name, stream in zip(names, streams, strict=True):
            stack.enter_context(patch.object(sys, name, stream))
        stack.enter_context(patch.object(sys, "argv", ["breyta", *arguments]))
        stack.enter_context(patch.dict(os.environ, environment))
        try:
            code = program.run()
        finally:
            os.umask(umask)
            signal.signal(signal.SIGPIPE, pipes)
    return Ran(code, out.getvalue(), err.getvalue().decode())


def _commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from _commands(command, (*path, name))
    elif " ".join(path[-2:]) not in SKIPPED and path[-1] not in SKIPPED:
        yield path, group


COMMANDS = dict(_commands(program.breyta))


def _known(world: worlds.Full) -> list[str]:
    return [
        world.queued, world.leased, world.ended, world.failed, world.batch, world.account, world.key, world.token, world.kv, world.table,
        world.file, worlds.TYPE, worlds.WORKSPACE, "1", "0", "1ms", "csv", "json", "parquet", "table", "kv", "succeeded", "active", "jobs.read",
        "id=1", "select 1", "select * from rows", '[["id", "=", 1]]', '[["id", "asc"]]', '{"a": 1}', "[]", '[{"id": 1}]', "-", "upsert", "strict", "id",
    ]  # fmt: skip


ODD = st.sampled_from(
    [
        *hostile.NAMES,
        "9" * 30,
        "-1",
        "1e999",
        "NaN",
        "{",
        "[" * 500,
        '"\\ud800"',
        "file://[x",
        "file:///%00",
        "http://x",
        "@x",
        "--",
        "\udcff",
    ]
).filter(
    lambda text: "\0" not in text and not any(0xD800 <= ord(c) < 0xDC80 or 0xDCFF < ord(c) <= 0xDFFF for c in text)
)
"""What a shell can hand over: no NUL, and bytes that are no text as Python shows them."""


@st.composite
def arguments(draw: st.DrawFn, known: list[str]) -> list[str]:
    """A command with some of its options and values that mostly fit somewhere."""
    path = draw(st.sampled_from(sorted(COMMANDS)))
    value = st.sampled_from(known) | st.sampled_from(known) | ODD
    given_: list[str] = []
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Argument):
            given_.append(draw(value))
        elif parameter.required or draw(st.integers(0, 4)) == 0:
            given_.append(draw(st.sampled_from(parameter.opts)))
            if not getattr(parameter, "is_flag", False):
                given_.append(draw(value))
    extra = draw(st.lists(value, max_size=1) if draw(st.integers(0, 9)) == 0 else st.just([]))
    if path == ("spool", "init"):
        given_ = [each.replace("/", "_") or "_" for each in given_]
    short = [] if "await" not in path or "--timeout" in given_ else ["--timeout", "1ms"]
    return [*path, *given_, *short, *extra]


def _tree(root: Path) -> set[tuple[str, int]]:
    return {
        (str(path), path.lstat().st_mtime_ns if path.is_file() else 0)
        for path in root.rglob("*")
        if "locks/" not in str(path)
    }


@pytest.fixture(scope="module")
def one(full: worlds.Full, tmp_path_factory: pytest.TempPathFactory) -> worlds.Full:
    return full.copied(tmp_path_factory.mktemp("line") / "spool")


def _check(one: worlds.Full, arguments: list[str], environment: dict[str, str]) -> None:
    before = _tree(one.root)
    with bounded():
        ran = run(arguments, environment)
    assert ran.code in CODES, ran.stderr
    assert "Traceback" not in ran.stderr
    plain = "--raw" in arguments or "--print-uri" in arguments or "--help" in arguments or "--version" in arguments
    if ran.stdout and not plain:
        document = json.loads(ran.stdout.decode(), parse_constant=_refuse)
        assert document["ok"] is (ran.code in (0, 5))
        assert ran.stdout.count(b"\n") == 1 or "--pretty" in arguments
    if ran.code == 2:
        assert _tree(one.root) == before


def _refuse(word: str) -> Any:
    raise AssertionError(f"{word} is not JSON")


@tried(80)
@given(data=st.data())
def test_any_arguments_are_obeyed_or_refused(one: worlds.Full, monkeypatch: pytest.MonkeyPatch, data: Any) -> None:
    monkeypatch.chdir(one.root.parent)
    given_ = data.draw(arguments(_known(one)), label="arguments")
    _check(one, given_, {"BREYTA_SPOOL": str(one.root)})


@tried(40)
@given(words=st.lists(st.sampled_from(sorted({word for path in COMMANDS for word in path})) | ODD, max_size=5))
@example(words=[])
@example(words=["--", "--"])
def test_any_words_are_a_command_or_refused(
    one: worlds.Full, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(one.root.parent)
    if "run" not in words:
        _check(one, words, {"BREYTA_SPOOL": str(one.root)})


@tried(40)
@given(
    name=st.sampled_from(
        [
            "BREYTA_SPOOL",
            "BREYTA_API_URL",
            "BREYTA_WORKSPACE",
            "BREYTA_API_KEY",
            "BREYTA_JOB_DIR",
            "BREYTA_JOB_CONTEXT_FILE",
            "LOGNAME",
        ]
    ),
    value=ODD,
    command=st.sampled_from(
        [
            ["jobs", "list"],
            ["jobs", "create", "--type", "t"],
            ["jobs", "worker", "state"],
            ["jobs", "worker", "progress"],
            ["spool", "info"],
        ]
    ),
)
@example(name="BREYTA_SPOOL", value="file://[x", command=["jobs", "list"])
@example(name="LOGNAME", value="\udcff", command=["service-accounts", "create", "--name", "x", "--scope", "jobs.read"])
def test_any_environment_is_obeyed_or_refused(
    one: worlds.Full, monkeypatch: pytest.MonkeyPatch, name: str, value: str, command: list[str]
) -> None:
    monkeypatch.chdir(one.root.parent)
    _check(one, command, {"BREYTA_SPOOL": str(one.root), name: value})


# -- found ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        ["jobs", "list", "--limit", "9" * 30],
        ["jobs", "batches", "list", "--limit", str((1 << 63) - 1)],
        ["jobs", "batches", "show", "BATCH", "--limit", "9" * 30],
        ["jobs", "list", "--spool", "file://[x"],
        ["resources", "table", "sql", "TABLE", "select '\udcff'"],
        ["resources", "table", "sql", "TABLE", "\udcff"],
        ["resources", "table", "export", "TABLE", "--out", "\udcff.parquet", "--format", "parquet"],
        ["resources", "table", "export", "TABLE", "--out", "日" * 80 + ".csv"],
        ["resources", "table", "query", "TABLE", "--select", "\udcff"],
        ["jobs", "create", "--type", "t", "--payload", "1e999"],
    ],
    ids=lambda line: " ".join(line[:4]).encode("ascii", "replace").decode(),
)  # fmt: skip
def test_what_once_ended_in_a_traceback_does_not_any_more(
    one: worlds.Full, monkeypatch: pytest.MonkeyPatch, line: list[str]
) -> None:
    monkeypatch.chdir(one.root.parent)
    known = {"BATCH": one.batch, "TABLE": one.table}
    _check(one, [known.get(word, word) for word in line], {"BREYTA_SPOOL": str(one.root)})


def test_a_name_of_many_bytes_can_be_exported_to(one: worlds.Full, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name on the way there is longer, and was cut by characters, not by bytes."""
    monkeypatch.chdir(one.root.parent)
    ran = run(
        ["resources", "table", "export", one.table, "--out", "日" * 80, "--overwrite"], {"BREYTA_SPOOL": str(one.root)}
    )
    assert ran.code == 0, ran.stderr
