"""The result rules: what an ended handler means for its job (contract, section 4). Pure functions."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace
from typing import Any

from breyta_spool import jsonio, states
from breyta_spool.errors import InvalidInput

HANDLER_FAILED = "handler_failed"
START_FAILED = "handler_start_failed"
SETUP_FAILED = "worker_setup_failed"
INVALID_RESULT = "invalid_result"
HANDLER_TIMEOUT = "handler_timeout"
CANCELLED = "cancelled"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: a terminal status and the fields of its result.N.json."""

    status: str
    summary: str = ""
    outputs: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)
    error: dict[str, Any] | None = None
    worker_info: dict[str, Any] = field(default_factory=dict)


EXITED_WELL = Outcome(states.SUCCEEDED, "handler exited successfully")
"""The outcome of a handler that said nothing and did not fail."""


def failed(message: str, code: str, details: dict[str, Any] | None = None, artifacts: Any = None) -> Outcome:
    """An outcome of status ``failed``."""
    error = {"message": message, "code": code, "details": details or {}}
    return Outcome(states.FAILED, message, artifacts=as_list(artifacts), error=error)


def as_list(artifacts: Any) -> list[Any]:
    """Artifacts as a list: a single one counts as a list of one, none as an empty list."""
    if artifacts is None:
        return []
    return artifacts if isinstance(artifacts, list) else [artifacts]


def of_exit(returncode: int, draft: bytes | None) -> Outcome:
    """The outcome of a handler process: its exit status (negative: killed by that signal) and its result file."""
    if returncode == 0:
        return of_draft(draft)
    details: dict[str, Any]
    if returncode < 0:
        message, details = (
            f"handler was killed by {signal_name(-returncode)}",
            {"signal": signal_name(-returncode)},
        )
    else:
        message, details = f"handler exited with status {returncode}", {"exitCode": returncode}
    try:
        said = jsonio.parse_object(draft, "result.json") if draft is not None else {}
    except InvalidInput:
        said = {}  # it failed anyway; half a result is no reason to say something else
    return failed(
        str(said.get("message") or message),
        str(said.get("code") or HANDLER_FAILED),
        {**details, **_object_or_empty(said.get("details"))},
        said.get("artifacts"),
    )


def of_draft(draft: bytes | None) -> Outcome:
    """The outcome of a handler process that exited with 0, from the bytes of its result file, None without one."""
    if draft is None:
        return EXITED_WELL
    try:
        return of_object(jsonio.parse_object(draft, "result.json"))
    except InvalidInput as error:
        return failed(error.message, INVALID_RESULT)


def of_object(said: dict[str, Any]) -> Outcome:
    """The outcome that a result object states. Raises InvalidInput for an unknown status or a wrong type."""
    status = states.normalise(said.get("status") or states.SUCCEEDED, states.TERMINAL)
    info = _object(said, "workerInfo")
    if status in (states.FAILED, states.TIMED_OUT):
        message = str(said.get("message") or said.get("summary") or f"handler reported {status}")
        code = str(said.get("code") or (status if status == states.TIMED_OUT else HANDLER_FAILED))
        told = failed(message, code, _object(said, "details"), said.get("artifacts"))
        return replace(told, outputs=_object(said, "outputs"), metrics=_object(said, "metrics"), worker_info=info)
    summary = said.get("summary") or said.get("message") or ""
    return Outcome(
        status,
        summary if isinstance(summary, str) else str(summary),
        _object(said, "outputs"),
        _object(said, "metrics"),
        as_list(said.get("artifacts")),
        {"message": str(summary) or "cancelled by its handler", "code": CANCELLED, "details": {}}
        if status == states.CANCELLED
        else None,
        info,
    )


def _object(said: dict[str, Any], field: str) -> dict[str, Any]:
    value = said.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"result.json: {field} must be an object, not {jsonio.kind_of(value)}", field=field)
    return value


def _object_or_empty(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def signal_name(number: int) -> str:
    """The name of a signal, for messages.

    >>> signal_name(15)
    'SIGTERM'
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
