"""What every command prints: one JSON document on stdout, everything else on stderr (contract, section 3)."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from breyta_spool.errors import AwaitBound, SpoolError

_workspace: str | None = None
_options: dict[str, Any] = {}


def about(workspace: str) -> None:
    """Name the workspace that the answer speaks of."""
    global _workspace
    _workspace = workspace


def options() -> dict[str, Any]:
    """The global options that were given, for as long as the program runs."""
    return _options


def answer(data: dict[str, Any], **meta: Any) -> None:
    """Print the answer of a command that did what was asked."""
    _print({"ok": True, "workspaceId": _workspace_id(), "meta": meta, "data": data})


def page(limit: int, next_cursor: str | None, damaged: list[str]) -> dict[str, Any]:
    """What the ``meta`` of a list says: where the next page begins, if there is one, and what could not be read."""
    meta: dict[str, Any] = {"limit": limit}
    return meta | ({"nextCursor": next_cursor} if next_cursor else {}) | ({"damaged": damaged} if damaged else {})


def failure(error: SpoolError) -> int:
    """Print what went wrong; gives the exit code."""
    details = dict(error.details)
    if isinstance(error, AwaitBound):
        state = error.batch or error.job
        details["batch" if error.batch else "job"] = state.to_map()
    told = {"code": error.code, "message": error.message, "details": details}
    try:
        _print({"ok": False, "workspaceId": _workspace_id(), "error": told, "hint": error.hint})
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout)
    if not sys.stdout.isatty():
        # In a script like uri=$(breyta ..) nobody sees stdout: say it where it reaches a person or the log.
        say(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
    return error.exit_code


def silence(stream: Any) -> None:
    """Let what is left in a stream's buffer go nowhere, so that it does not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say(text: str) -> None:
    """Print a line for people, on stderr."""
    click.echo(text, err=True)


def _workspace_id() -> str | None:
    return _workspace or options().get("workspace") or os.environ.get("BREYTA_WORKSPACE") or None


def _print(document: dict[str, Any]) -> None:
    pretty = bool(_options.get("pretty")) or sys.stdout.isatty()
    # Where the locale has other characters, JSON can do without.
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(document, ensure_ascii=ascii_only, indent=2 if pretty else None)
    sys.stdout.write(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") + "\n")
