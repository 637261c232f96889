"""What the helper commands do inside a handler: they know their job from the worker's context file alone.

These commands run once or more in every job, so this imports neither pydantic nor anything that watches or locks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from breyta_spool import files, jsonio, looking, paths, states
from breyta_spool.errors import Damaged, InvalidInput, NoSuchSpool
from breyta_spool.outputs import AttemptDir

REDACTED = "[redacted]"
_LIMIT = 64 << 20
_SETTINGS_LIMIT = 4 << 20
_FIELDS = {
    "jobId": str,
    "leaseToken": str,
    "resultFile": str,
    "attempt": int,
    "jobPath": str,
    "workspaceId": str,
    "spool": str,
}


class Context:
    """The worker's context of the job whose handler calls."""

    def __init__(self, path: str, fields: dict[str, Any]) -> None:
        for name, kind in _FIELDS.items():
            value = fields.get(name)
            if not isinstance(value, kind) or (isinstance(value, str) and "\0" in value):
                raise InvalidInput(f"{path} is not a worker context: {name} is missing or wrong", path=path)
        self.result_file: str = fields["resultFile"]
        self.root: str = fields["spool"]
        self._job_type = str(fields.get("jobType", ""))
        self._key_id = fields.get("keyId")
        self.dir = AttemptDir(
            fields["jobPath"], fields["jobId"], fields["attempt"], fields["leaseToken"], fields["workspaceId"]
        )

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> Context:
        """Read the context that the worker's environment names. Raises InvalidInput outside a handler."""
        path = environment.get("BREYTA_JOB_CONTEXT_FILE")
        if not path and (directory := environment.get("BREYTA_JOB_DIR")):
            path = f"{directory}/{paths.CONTEXT}"
        if not path:
            raise InvalidInput(
                "this command works inside a handler: BREYTA_JOB_CONTEXT_FILE and BREYTA_JOB_DIR are not set",
                hint="'breyta jobs worker run' sets them for the handlers it starts",
            )
        try:
            fields = jsonio.parse_object(looking.read(path, _LIMIT), path)
        except FileNotFoundError:
            raise InvalidInput(
                f"the worker's context file {path} is not there",
                hint="the job has ended, or BREYTA_JOB_CONTEXT_FILE names the wrong file",
                path=path,
            ) from None
        return cls(path, fields)

    def check_key(self, api_key: str | None) -> bool:
        """Raise NotAllowed unless the caller may work on this job; whether a group shares the spool.

        The key that the worker won the lease with may also end the job: if it was revoked since, the worker claims
        nothing more, but what it holds is not lost.
        """
        settings = _settings(self.root)
        required = settings.get("requireKeys", False) is not False
        if required or api_key:
            from breyta_spool import access  # late: most spools ask for no key

            gate = access.Access(self.root, required, api_key)
            if gate.key_id and gate.key_id == self._key_id:
                gate.know()
            else:
                gate.need(access.JOBS_WORKER, self._job_type)
        return settings.get("group") is not None

    def finish(self, status: str, summary: str, outputs: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
        """Write the draft of a good end; the worker publishes it when the handler exits with 0."""
        allowed = (states.SUCCEEDED, states.NO_CHANGES, states.CANCELLED)
        return self._draft(
            {
                "status": states.normalise(status, allowed),
                "summary": summary,
                "outputs": outputs,
                "metrics": metrics,
            }
        )

    def fail(self, message: str, code: str, details: dict[str, Any]) -> dict[str, Any]:
        """Write the draft of a failure; the worker publishes it when the handler exits, whatever its status."""
        return self._draft({"status": states.FAILED, "message": message, "code": code, "details": details})

    def _draft(self, result: dict[str, Any]) -> dict[str, Any]:
        data = jsonio.record(result, "the result")
        self.dir.check_held()
        files.replace(self.result_file, data)
        return result


def _settings(root: str) -> dict[str, Any]:
    """The fields of spool.json, unchecked: pydantic, which would check them, takes long to import."""
    path = f"{root}/{paths.SPOOL_FILE}"
    try:
        return jsonio.parse_object(looking.read(path, _SETTINGS_LIMIT), path, jsonio.RECORD_DEPTH)
    except FileNotFoundError:
        raise NoSuchSpool(f"the spool at {root} is gone", hint="is the share mounted?", path=root) from None
    except InvalidInput as error:
        raise Damaged(error.message, path=path) from None


def local_state(job_dir: str) -> dict[str, Any]:
    """What lies in a job directory (BREYTA_JOB_DIR): job, payload, draft result and context, tokens redacted."""
    directory = os.path.abspath(job_dir)
    found = {
        "job": _document(directory, paths.JOB),
        "payload": _document(directory, paths.PAYLOAD),
        "result": _document(directory, paths.RESULT),
        "context": _document(directory, paths.CONTEXT),
    }
    if found["job"] is None:
        raise InvalidInput(
            f"{directory} is not a job directory: it has no {paths.JOB}",
            hint="name the directory that BREYTA_JOB_DIR names inside the handler",
            path=directory,
        )
    return {"jobDir": directory, **{name: redacted(value) for name, value in found.items()}}


def _document(directory: str, name: str) -> Any:
    try:
        return jsonio.parse(looking.read(f"{directory}/{name}", _LIMIT), f"{directory}/{name}")
    except FileNotFoundError:
        return None


def redacted(value: Any) -> Any:
    """The value without lease tokens.

    >>> redacted({"leaseToken": "k3f9", "n": [1]})
    {'leaseToken': '[redacted]', 'n': [1]}
    """
    if isinstance(value, dict):
        return {key: REDACTED if key == "leaseToken" else redacted(item) for key, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, list) else value
