"""What a caller gave: JSON on the line or in a file, k=v pairs, and which spool or job is meant."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from breyta_cli import output
from breyta_spool import jsonio
from breyta_spool.errors import InvalidInput, NoSuchSpool

if TYPE_CHECKING:
    from breyta_spool.helper import Context
    from breyta_spool.spool import Spool

FILE_LIMIT = 1 << 30
MOST = (1 << 62) - 1
"""The highest limit or offset: two of them together are still a size that the system knows."""

Command = Callable[..., Any]
NOTHING: Any = object()


def document(name: str, text: str | None, file: str | None) -> Any:
    """The JSON of ``--name`` or of ``--name-file``, None when neither was given. Raises InvalidInput."""
    if text is not None and file is not None:
        raise InvalidInput(f"--{name} and --{name}-file exclude each other: give one of them", field=name)
    if file is not None:
        return jsonio.parse(read_file(file, f"--{name}-file"), f"--{name}-file {file}")
    return None if text is None else jsonio.parse(text, f"--{name}")


def json_option(name: str, text: str, *, any_value: bool = False, missing: Any = None) -> Callable[[Command], Command]:
    """Declare ``--name JSON`` and ``--name-file FILE``; the command gets the one value as ``name``.

    It must be an object, ``{}`` if it is not given, unless it may be ``any_value``: then ``missing`` stands for it.
    """
    key = name.replace("-", "_")

    def declare(command: Command) -> Command:
        @click.option(f"--{name}", metavar="JSON", help=text)
        @click.option(f"--{name}-file", metavar="FILE", help="The same from a file, - for stdin.")
        @functools.wraps(command)
        def with_value(**options: Any) -> Any:
            text, file = options[key], options.pop(f"{key}_file")
            if text is None and file is None:
                options[key] = missing if any_value else {}
            else:
                options[key] = document(name, text, file)
                if not any_value and not isinstance(options[key], dict):
                    kind = jsonio.kind_of(options[key])
                    raise InvalidInput(f"--{name} must be a JSON object, not {kind}", field=name)
            return command(**options)

        return with_value

    return declare


def _together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def declare(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return declare


lineage = _together(
    click.option("--root-workflow-id", metavar="ID", help="The workflow run that this belongs to."),
    click.option("--parent-step-id", metavar="ID", help="The step of it that submits this."),
    click.option("--fanout-parent-step-id", metavar="ID", help="The step that fanned out."),
    click.option("--fanout-max-concurrency", type=int, help="How many of a fan-out may run at once; for flows."),
)
"""Declares where jobs come from."""

bounds = _together(
    click.option("--interval", metavar="DURATION", help="How often to look where no event tells. Default: 10s."),
    click.option("--timeout", metavar="DURATION", help="How long to wait at most. Default: 30m, if nothing bounds it."),
    click.option("--max-attempts", type=int, help="How many times to look at most."),
    json_option("backoff", '{"type": "exponential", "factor": 2, "max": "1m"}; also linear, constant.'),
)
"""Declares how often and how long an await looks."""


def pairs(name: str, given: tuple[str, ...]) -> dict[str, Any]:
    """``k=v`` pairs as an object: a value that is JSON is parsed, any other is text. Raises InvalidInput.

    >>> pairs("output", ("n=1", "name=api", 'tags=["a"]', "eq=a=b"))
    {'n': 1, 'name': 'api', 'tags': ['a'], 'eq': 'a=b'}
    """
    found = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidInput(f"--{name} {pair!r} is not key=value", field=name)
        try:
            found[key] = jsonio.parse(value, f"--{name} {key}")
        except InvalidInput:
            found[key] = value
    return found


def read_file(file: str, what: str) -> bytes:
    """The bytes of a file, ``-`` for stdin. Raises InvalidInput."""
    if file == "-":
        return sys.stdin.buffer.read(FILE_LIMIT)
    try:
        with open(file, "rb") as opened:
            return opened.read(FILE_LIMIT)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(f"{what}: cannot read {file!r}: {reason}", path=file) from None


def stream(file: str, what: str, seen: Callable[[int], None] = lambda count: None) -> Iterator[Any]:
    """The values in a file that holds a JSON array or JSON lines, ``-`` for stdin, read as they are asked for.

    ``seen`` is told of the number of bytes read each time. Raises InvalidInput.
    """
    try:
        with open(0 if file == "-" else file, "rb", closefd=file != "-") as opened:

            def read(size: int) -> bytes:
                data = opened.read(size)
                seen(len(data))
                return data

            yield from jsonio.stream(read, f"{what} {file}")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(f"{what}: cannot read {file!r}: {reason}", path=file) from None


def spool() -> Spool:
    """The spool that the options, the environment or the current directory name. Raises SpoolError."""
    from breyta_spool import spool as spools

    options = output.options()
    where = options.get("spool") or os.environ.get("BREYTA_SPOOL") or os.environ.get("BREYTA_API_URL")
    if not where:
        where = spools.find_root(here())
    if not where:
        raise NoSuchSpool(
            f"no spool was named, and there is none in {here()} or above it",
            hint="give --spool DIR, set BREYTA_SPOOL, or make one with 'breyta spool init DIR'",
        )
    opened = spools.Spool.open(_directory(where), api_key())
    output.about(opened.settings.workspace_id)
    spools.check_workspace(opened, options.get("workspace") or os.environ.get("BREYTA_WORKSPACE"))
    if opened.settings.group is not None:
        share()
    return opened


def context() -> Context:
    """The job whose handler calls, if the caller's key allows it to work on jobs. Raises SpoolError."""
    from breyta_spool.helper import Context

    found = Context.load()
    output.about(found.dir.workspace)
    if found.check_key(api_key()):
        share()
    return found


def share() -> None:
    """Let what this process makes, and the handlers that it starts, be writable for the group that shares the spool."""
    os.umask(0o007)


def api_key() -> str | None:
    """The key that the caller gave: --api-key, BREYTA_API_KEY or BREYTA_TOKEN, the first that is not empty."""
    found = (output.options().get("api_key"), os.environ.get("BREYTA_API_KEY"), os.environ.get("BREYTA_TOKEN"))
    return next((key.strip() for key in found if key and key.strip()), None)


def here() -> str:
    """The current directory. Raises InvalidInput when it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise InvalidInput("the current directory was removed", hint="go to another one, or give --spool DIR") from None


def _directory(where: str) -> str:
    if where.startswith("file:"):
        from urllib.parse import unquote, urlsplit

        try:
            url = urlsplit(where)
        except ValueError as error:
            raise InvalidInput(f"{where} is not a URL: {error}", hint="file:///abs/dir is one") from None
        if url.netloc not in ("", "localhost") or not url.path.startswith("/"):
            raise InvalidInput(f"{where} does not name a directory of this host", hint="file:///abs/dir does")
        return unquote(url.path)
    if "://" in where:
        raise InvalidInput(
            f"{where} is not a spool: this program reaches spools by directory",
            hint="set BREYTA_API_URL=file:///abs/dir or BREYTA_SPOOL=DIR",
        )
    return where
