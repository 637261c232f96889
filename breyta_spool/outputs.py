"""What an attempt writes into its own directory, made when it is needed: progress, artifacts and their list.

Used by the worker and, inside a handler, by the helper commands; so this imports neither pydantic nor a lock.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from breyta_spool import durations, files, jsonio, looking, paths, states
from breyta_spool.errors import Damaged, InvalidInput, LeaseLost

# What few jobs use is imported where it is used: helper commands start fast.
LINE_LIMIT = 1 << 20
"""The most bytes of one progress report or one artifact's description."""
LIST_LIMIT = 64 << 20

_UNSAFE = re.compile(r"[^A-Za-z0-9_.:@+-]+")


def now() -> str:
    """This host's time, for people; no decision rests on it."""
    return durations.rfc3339(time.time_ns() // 1_000_000)


class AttemptDir:
    """The directory of one attempt, as the holder of its lease writes it.

    ``job_dir`` is the job's directory, ``token`` the lease token, ``workspace`` goes into resource addresses.
    """

    def __init__(self, job_dir: str, job_id: str, attempt: int, token: str, workspace: str) -> None:
        self.job_dir = job_dir
        self.job_id = job_id
        self.attempt = attempt
        self.ended = ""
        self.only_here = False
        self.unwritten: dict[str, Any] | None = None
        """The record of the claim while it is nowhere else: most jobs end before anybody could want to read it."""
        self._used = False
        self.workspace = workspace
        self.path = f"{job_dir}/{paths.attempt_name(attempt)}"
        self.claim = f"{job_dir}/{paths.claim_name(attempt)}"
        self.result = f"{job_dir}/{paths.result_name(attempt)}"
        self.take(token)

    @property
    def work(self) -> str:
        """BREYTA_JOB_DIR, the handler's scratch."""
        return f"{self.path}/{paths.WORK}"

    @property
    def artifacts(self) -> str:
        """Where attached files, values and tables lie."""
        return f"{self.path}/{paths.ARTIFACTS}"

    def take(self, token: str) -> None:
        """Go on under another token, which the status file has been given."""
        self.token = token
        self.status_name = states.Status(states.LEASED, self.attempt, token).name

    def check_held(self) -> None:
        """Raise LeaseLost unless the job is still leased with this token."""
        if self.status_name not in looking.names_if_any(self.job_dir):
            raise lease_lost(self.job_id, self.attempt)

    def check_place(self, below: str = "") -> None:
        """Raise Damaged when somebody has put a link in the place of a directory that is about to be written into."""
        looking.check_no_link(self.job_dir, f"{paths.attempt_name(self.attempt)}{below}")

    def append(self, name: str, data: bytes) -> None:
        """Add to a file of the attempt's directory, which is made when it is missing. Raises Damaged, OSError."""
        self.check_place()
        try:
            files.append(f"{self.path}/{name}", data)
        except FileNotFoundError:
            files.make_dirs(self.path, self.job_dir)
            files.append(f"{self.path}/{name}", data)

    def report(self, status: str, message: str, details: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
        """Add a progress report; gives it back. Raises LeaseLost, InvalidInput."""
        line = {
            "status": states.normalise(status, states.PROGRESS),
            "message": message,
            "details": details,
            "metrics": metrics,
            "updatedAt": now(),
        }
        jsonio.check_depth(line, "the progress report")
        data = jsonio.compact(line, "the progress report") + b"\n"
        if len(data) > LINE_LIMIT:
            raise InvalidInput(f"a progress report has at most {LINE_LIMIT} bytes, this one has {len(data)}")
        self.check_held()
        self.append(paths.PROGRESS, data)
        return line

    def attach_file(
        self,
        file: str,
        label: str | None = None,
        kind: str = "file",
        content_type: str | None = None,
        resource_label: str | None = None,
    ) -> dict[str, Any]:
        """Copy a file into the job's artifacts; gives its description. Raises LeaseLost, InvalidInput."""
        filename = os.path.basename(os.path.abspath(file))
        self.check_held()
        self.check_place(f"/{paths.ARTIFACTS}")
        files.make_dirs(self.artifacts, self.job_dir)
        name, (size, sha256) = self._copy(file, _file_name(filename))
        described = {
            "kind": kind,
            "label": label or filename,
            "contentType": content_type or _guessed_type(filename),
            "resourceUri": self._address("file", name),
            "resourceLabel": resource_label,
            "sizeBytes": size,
            "sha256": sha256,
            "filename": filename,
        }
        return self._attached({key: value for key, value in described.items() if value is not None})

    def _copy(self, file: str, wanted: str) -> tuple[str, tuple[int, str]]:
        stem, dot, ending = wanted.partition(".") if not wanted.startswith(".") else (wanted, "", "")
        for number in range(1, 10_000):
            name = wanted if number == 1 else f"{stem}-{number}{dot}{ending}"
            try:
                return name, files.copy_new(file, f"{self.artifacts}/{name}")
            except FileExistsError:
                continue
        raise InvalidInput(f"10,000 files named {wanted!r} are attached to this job already")

    def attach_kv(
        self,
        label: str,
        value: Any,
        key: str | None = None,
        kind: str = "kv",
        content_type: str = "application/json",
        ttl_seconds: int | None = None,
    ) -> dict[str, Any]:
        """Store a JSON value under a key of the job; gives its description. Raises LeaseLost, InvalidInput."""
        from breyta_spool import addresses, values

        name = paths.check_artifact_name(key, "key") if key else _name_of(label)
        jsonio.check_depth(value, f"the value of {name!r}")
        stored = jsonio.compact(value, f"the value of {name!r}")
        if len(stored) > values.LIMIT:
            raise InvalidInput(f"a value has at most {values.LIMIT} bytes, this one has {len(stored)}", field="value")
        if ttl_seconds is not None and not 1 <= ttl_seconds <= values.LONGEST_TTL:
            raise InvalidInput(f"ttlSeconds: {ttl_seconds} is not between 1 and {values.LONGEST_TTL}", field="ttl")
        fields = values.fields(self.job_id, name, value, content_type, ttl_seconds)
        self.check_held()
        self.check_place(f"/{paths.ARTIFACTS}/kv")
        files.make_dirs(f"{self.artifacts}/kv", self.job_dir)
        values.write(self.job_dir, addresses.Address(self.workspace, "kv", self.job_id, self.attempt, name), fields)
        described = {
            "kind": kind,
            "label": label,
            "contentType": content_type,
            "resourceUri": self._address("result/kv", name),
            "key": fields["key"],
            "sizeBytes": len(stored),
            "expiresAt": fields["expiresAt"],
        }
        return self._attached({key: value for key, value in described.items() if value is not None})

    def attach_table(
        self,
        label: str,
        rows: Iterable[dict[str, Any]],
        table: str | None = None,
        write_mode: str = "append",
        schema_mode: str = "evolve",
        key_fields: list[str] | None = None,
        index_fields: list[str] | None = None,
        kind: str = "table",
        content_type: str = "application/vnd.breyta.table+json",
    ) -> dict[str, Any]:
        """Write rows to a table of the job; gives its description. Raises LeaseLost, InvalidInput, Conflict.

        ``rows`` may be an iterator over any number of them: an append holds about a megabyte in memory.
        """
        from breyta_spool.columns import EVOLVE, STRICT
        from breyta_spool.tables import APPEND, UPSERT, Table

        name = paths.check_artifact_name(table, "table") if table else _name_of(label)
        _one_of("write mode", write_mode, (APPEND, UPSERT))
        _one_of("schema mode", schema_mode, (EVOLVE, STRICT))
        if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
            raise InvalidInput(f"rows must be an array of objects, not {jsonio.kind_of(rows)}", field="rows")
        self.check_held()
        self.check_place(f"/{paths.ARTIFACTS}/tables")
        to = Table(f"{self.artifacts}/tables", name)
        # Rows may be long in coming; by then the lease may be another's, and the table part of a result.
        meta = to.write(rows, write_mode, schema_mode, key_fields or [], index_fields or [], self.check_held)
        return self._attached(
            {
                "kind": kind,
                "label": label,
                "contentType": content_type,
                "resourceUri": self._address("result/table", name),
                "tableId": self._resource_id(name),
                "tableName": f"job-{self.job_id}-{name}",
                "rowsWritten": to.rows_written,
                "rowCount": meta["rowCount"],
                "keyFields": meta["keyFields"],
                "indexFields": meta["indexFields"],
                "writeMode": write_mode,
            }
        )

    def describe(self, artifact: Any) -> None:
        """Add an artifact that lies elsewhere to the job's list, as it is described. Raises InvalidInput."""
        if not isinstance(artifact, dict):
            raise InvalidInput(f"an artifact must be an object, not {jsonio.kind_of(artifact)}", field="artifacts")
        jsonio.check_depth(artifact, "the artifact")
        self._attached(artifact)

    def sealed(self) -> list[dict[str, Any]]:
        """The attached artifacts as a result lists them: tables, which have stopped growing, with size and sha256."""
        if self.only_here and not self._used:
            return []  # a function in this process did all there was to do, and attached nothing
        try:
            self.check_place(f"/{paths.ARTIFACTS}/tables")
            artifacts = attached(self.path)
        except Damaged:
            return []  # a handler may leave anything here, and its job is to end all the same
        tables = self._address("result/table", "")
        for described in artifacts:
            uri = described.get("resourceUri")
            if isinstance(uri, str) and uri.startswith(tables):
                name = uri.removeprefix(tables).replace("%20", " ")
                if paths.is_artifact_name(name):  # else a handler has described one that cannot be
                    from breyta_spool.tables import Table

                    described |= Table(f"{self.artifacts}/tables", name).sealed()
        return artifacts

    def _resource_id(self, name: str) -> str:
        return f"{self.job_id}.{self.attempt}.{name}"

    def _address(self, kind: str, name: str) -> str:
        from breyta_spool import addresses

        return f"{addresses.PREFIX}{self.workspace}/{kind}/{self._resource_id(name)}".replace(" ", "%20")

    def _attached(self, described: dict[str, Any]) -> dict[str, Any]:
        self._used = True
        data = jsonio.compact(described, "the artifact") + b"\n"
        if len(data) > LINE_LIMIT:
            raise InvalidInput(f"an artifact's description has at most {LINE_LIMIT} bytes, this one has {len(data)}")
        self.append(paths.ATTACHED, data)
        return described


def attached(attempt_path: str) -> list[dict[str, Any]]:
    """What has been attached in an attempt so far: the last description of each resource, in order of attaching."""
    try:
        data = looking.read(f"{attempt_path}/{paths.ATTACHED}", LIST_LIMIT)
    except FileNotFoundError:
        return []
    return parsed(data)


def parsed(data: bytes) -> list[dict[str, Any]]:
    """The same from the bytes of that list."""
    found: dict[str, dict[str, Any]] = {}
    for line in io.BytesIO(data):
        if not line.startswith(b"{") or not line.endswith(b"\n"):
            continue  # what follows the last newline is being written, or never was to its end
        line = line[:-1]
        try:
            described = jsonio.parse_object(line, paths.ATTACHED, jsonio.RECORD_DEPTH)
        except InvalidInput:
            continue  # half a line that its writer's full disk cut off: it was never said to be attached
        found[str(described.get("resourceUri") or line)] = described
    return list(found.values())


def lease_lost(job_id: str, attempt: int) -> LeaseLost:
    """The error for a lease that is no longer held."""
    return LeaseLost(
        f"the lease of {job_id} (attempt {attempt}) is no longer held: it ran out, was given back or has ended",
        hint="stop working on this job; 'breyta jobs show' tells what became of it",
        jobId=job_id,
        attempt=attempt,
    )


def _name_of(label: str) -> str:
    """The label itself where it can be a name; else the nearest that can."""
    return label if paths.is_artifact_name(label) else _file_name(label)


def _file_name(text: str) -> str:
    name = _UNSAFE.sub("_", text).lstrip(".:@+-")[:100] or "unnamed"
    return f"file-{name}" if name in ("kv", "tables") else name


def _one_of(what: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise InvalidInput(f"unknown {what} {given!r}: allowed are {', '.join(allowed)}", allowed=list(allowed))


_TYPES = {
    ".md": "text/markdown",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/x-ndjson",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".log": "text/plain",
    ".parquet": "application/vnd.apache.parquet",
}
"""What the oldest supported Python does not know, or not in the same way."""


def _guessed_type(filename: str) -> str:
    import mimetypes

    if known := _TYPES.get(os.path.splitext(filename)[1].lower()):
        return known

    # The table that comes with Python, not the host's: the same file gets the same type everywhere.
    return mimetypes.MimeTypes().guess_type(filename, strict=False)[0] or "application/octet-stream"
