"""Files, values and tables of jobs by their addresses alone: list, get, read, query, export.

An address says where its file is, so nothing is looked up. What lies there was written by somebody else's handler:
no link is followed, and sizes and forms are checked.
"""

from __future__ import annotations

import codecs
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, BinaryIO

from breyta_spool import (
    addresses,
    claims,
    durations,
    exporting,
    files,
    ids,
    jobs,
    jsonio,
    listing,
    looking,
    outputs,
    paths,
    querying,
    states,
)
from breyta_spool import values as kv
from breyta_spool.access import RECORD_LIMIT, RESOURCES_READ, Access
from breyta_spool.addresses import KV, TABLE, Address
from breyta_spool.errors import Conflict, Damaged, InvalidInput, NotFound, SpoolError, doing, shown
from breyta_spool.index import Index, status_in
from breyta_spool.rows import Page, Query, identity
from breyta_spool.snapshot import OpenTable

PAGE_BYTES = 1 << 20
PAGE_ROWS = 100
_TEXT_LIMIT = 1 << 30
_JOB_ID = re.compile(ids.JOB_ID_PATTERN)

Fields = dict[str, Any]


class Resources:
    """The resources of one spool. Each operation raises InvalidInput, NotFound, Damaged, StorageError."""

    def __init__(self, index: Index, workspace: str, access: Access) -> None:
        self._index = index
        self._workspace = workspace
        self._access = access

    # -- list, get, read ----------------------------------------------------------------------------

    def list(self, type: str | None = None, prefix: str = "", limit: int = 10, offset: int = 0) -> list[Fields]:  # noqa: A002
        """What is attached to the jobs, newest job first: of each job what its last attempt attached.

        ``type`` is ``file``, ``kv`` or ``table``; ``prefix`` is what the addresses begin with. Costs what is passed
        over, unless the prefix names a job. Expired values are left out.
        """
        if type is not None and type not in addresses.PLACES:
            raise InvalidInput(f"unknown type {type!r}: allowed are {', '.join(addresses.PLACES)}", field="type")
        self._access.need(RESOURCES_READ)
        _whole(limit=limit, offset=offset)
        with doing("list the resources"):
            found = (item for job_id in self._job_ids(prefix) for item in self._attached_to(job_id, type, prefix))
            return [*islice(found, offset, offset + limit)]

    def get(self, uri: str) -> Fields:
        """What is known of a resource: how it was described when it was attached, and what is there now."""
        address, job_dir = self._admit(uri)
        with self._reading(address, job_dir):
            described = self._described(job_dir, address.attempt).get(address.uri, {})
            return described | _told_by(address) | self._now(address, job_dir)

    def read(self, uri: str, offset: int = 0, limit: int | None = PAGE_BYTES) -> Fields:
        """The ``content`` of a file, when it is text, from ``offset`` on and at most ``limit`` bytes of it; the
        ``value`` of a kv. ``content`` is None when the file is not text: ``open`` gives its bytes.
        """
        _whole(limit=0 if limit is None else limit, offset=offset)
        address, job_dir = self._admit(uri)
        with self._reading(address, job_dir):
            told: Fields = {"resourceUri": address.uri, "type": address.type}
            if address.type == KV:
                found = self._value(address, job_dir)
                return told | {name: found.get(name) for name in ("key", "value", "contentType", "expiresAt")}
            if address.type == TABLE:
                raise InvalidInput(f"{uri} is a table, which has rows", hint="query reads them", field="uri")
            described = self._described(job_dir, address.attempt).get(address.uri, {})
            with open(looking.open_below(job_dir, address.place), "rb") as file:
                _check_size(address, described, file)
                return told | {"contentType": described.get("contentType")} | _text(file, offset, limit)

    @contextmanager
    def open(self, uri: str) -> Iterator[Iterable[bytes]]:
        """The bytes of a resource in pieces: a file as it is, a value as JSON, the rows of a table as JSON lines.

        A file that is not what was attached any more raises Damaged, at once or behind its last piece.
        """
        address, job_dir = self._admit(uri)
        with self._reading(address, job_dir):
            if address.type == KV:
                yield [jsonio.compact(self._value(address, job_dir)["value"]) + b"\n"]
            elif address.type == TABLE:
                with OpenTable(job_dir, address) as table:
                    yield table.chunks()
            else:
                described = self._described(job_dir, address.attempt).get(address.uri, {})
                with open(looking.open_below(job_dir, address.place), "rb") as file:
                    _check_size(address, described, file)
                    yield _verified(address, described, file)

    # -- tables -------------------------------------------------------------------------------------

    def schema(self, uri: str) -> Fields:
        """The columns, keys and size of a table."""
        with self._table(uri) as table:
            return table.schema()

    def query(self, uri: str, query: Query) -> Fields:
        """The rows of a page, ``rowCount``, which is how many rows match on all pages, and the ``schema``."""
        with self._table(uri) as table:
            query.check(table.columns)
            if not query.where and not query.sort:  # what counts is known: read no further than the page
                end = None if query.limit is None else query.offset + query.limit
                page = Page(islice(table.rows(), end), query)
                return {"rows": [*page], "rowCount": table.meta["rowCount"], "schema": _schema(table, query)}
            page = Page(table.rows(), query)
            return {"rows": [*page], "rowCount": page.matched, "schema": _schema(table, query)}

    def get_row(self, uri: str, key: Mapping[str, Any]) -> Fields:
        """The first row whose fields have the given values. Raises NotFound."""
        with self._table(uri) as table:
            wanted = {name: identity(value) for name, value in key.items()}
            if not wanted:
                raise InvalidInput("which row? no key was given", hint=_keys_of(table), field="key")
            Query(where=[[name, "is-null"] for name in wanted]).check(table.columns)
            for row in table.rows():
                if all(identity(row.get(name)) == value for name, value in wanted.items()):
                    return row
            shown = ", ".join(f"{name}={jsonio.compact(value).decode()}" for name, value in key.items())
            raise NotFound(f"the table has no row with {shown}", hint=_keys_of(table), uri=uri)

    def sql(self, uri: str, statement: str, limit: int | None = PAGE_ROWS) -> Fields:
        """What a SELECT answers in which the table is called ``rows``: rows, rowCount, schema. Needs DuckDB."""
        with self._table(uri) as table:
            return querying.select(table.chunks, table.columns, statement, limit)

    def export(
        self,
        uri: str,
        out: str,
        form: str = exporting.CSV,
        query: Query | None = None,
        **options: bool,
    ) -> Fields:
        """Write the rows of a table to a file: seen whole or not at all.

        ``form`` is ``csv``, ``json`` (an array) or ``parquet``, which needs DuckDB and takes no query. ``options``:
        ``overwrite``; ``safe``, for CSV that a spreadsheet reads.

        Raises Conflict when there is such a file and it is not to be overwritten.
        """
        overwrite, safe, chosen = options.get("overwrite", False), options.get("safe", False), query or Query()
        _check_export(form, chosen, out, overwrite)
        with self._table(uri) as table, doing("export the table"):
            chosen.check(table.columns)
            out = os.path.abspath(out)
            aside = files.aside_of(out)
            try:
                if form == exporting.PARQUET:
                    querying.write_parquet(table.chunks, table.columns, aside)
                    count = table.meta["rowCount"]
                else:
                    count = _written(aside, table, form, chosen, safe)
                _publish(aside, out, overwrite)
            finally:
                files.forget(aside)
            return {"path": out, "format": form, "rowCount": count, "sizeBytes": os.stat(out).st_size}

    # -- resolve ------------------------------------------------------------------------------------

    def _admit(self, uri: str) -> tuple[Address, str]:
        """What an address means, and the job's directory. Every operation on an address passes here first."""
        self._access.need(RESOURCES_READ)
        address, job_dir = self._resolved(uri)
        if self._access.limited:
            with self._reading(address, job_dir):
                self._access.need_type(_job_type(job_dir))
        return address, job_dir

    def _resolved(self, uri: str) -> tuple[Address, str]:
        address = addresses.parse(uri)
        if address.workspace != self._workspace:
            raise NotFound(
                f"{uri} is of workspace {address.workspace}; this spool is of {self._workspace}",
                hint="name the spool of that workspace with --spool",
                uri=uri,
            )
        return address, self._index.job_dir(address.job_id)

    @contextmanager
    def _table(self, uri: str) -> Iterator[OpenTable]:
        address, job_dir = self._admit(uri)
        if address.type != TABLE:
            raise InvalidInput(f"{uri} is a {address.type}, not a table", field="uri")
        with self._reading(address, job_dir), OpenTable(job_dir, address) as table:
            yield table

    @contextmanager
    def _reading(self, address: Address, job_dir: str) -> Iterator[None]:
        with doing(f"read {address.uri}"):
            try:
                yield
            except FileNotFoundError as error:
                raise self._missing(address, job_dir) from error

    def _missing(self, address: Address, job_dir: str) -> SpoolError:
        """Why there is nothing at an address."""
        listed = looking.names_if_any(job_dir)
        if not listed:
            error = claims.no_such_job(address.job_id, self._index.tree)
            if isinstance(error, Damaged):
                return NotFound(f"{address.uri} is gone: {error.message}", hint=error.hint, uri=address.uri)
            return error
        if address.attempt not in paths.attempts_of(listed):
            return NotFound(f"{address.job_id} has had no attempt {address.attempt}", uri=address.uri)
        described = self._described(job_dir, address.attempt).get(address.uri, {})
        if described.get("expiresAt"):
            return _expired(address, str(described["expiresAt"]))
        what = "was attached, but its file is gone" if described else f"is not there: no such {address.type}"
        near = f"{addresses.PREFIX}{address.workspace}/{addresses.PLACES[address.type]}/{address.job_id}"
        return NotFound(
            f"{address.uri} {what}", hint=f"'breyta resources list --prefix {near}' shows what is", uri=address.uri
        )

    def _now(self, address: Address, job_dir: str) -> Fields:
        """What the files of a resource say of it now."""
        if address.type == KV:
            found = self._value(address, job_dir)
            return {name: found.get(name) for name in ("key", "contentType", "createdAt", "expiresAt")}
        if address.type == TABLE:
            with OpenTable(job_dir, address) as table:
                return {key: value for key, value in table.schema().items() if key != "name"}
        with open(looking.open_below(job_dir, address.place), "rb") as file:
            found_at = os.fstat(file.fileno())
            return {"sizeBytes": found_at.st_size, "createdAt": durations.rfc3339(found_at.st_mtime * 1000)}

    def _value(self, address: Address, job_dir: str) -> Fields:
        """The file of a kv. Raises NotFound when it has expired, FileNotFoundError."""
        found, due = kv.load(job_dir, address)
        if due is not None and self._server_time() >= due:
            raise _expired(address, durations.rfc3339(due * 1000))
        return found

    def _server_time(self) -> float:
        try:
            return self._index.now()
        except OSError:
            return time.time()  # somebody who may only read

    # -- what is attached ---------------------------------------------------------------------------

    def _job_ids(self, prefix: str) -> Iterable[str]:
        named = _JOB_ID.search(prefix)
        # The number of a job in a batch may be cut off at the end of the prefix, so only a whole id is one.
        if named and prefix[named.end() : named.end() + 1] == "." and ids.is_job_id(named[0]):
            return [named[0]]
        return listing.jobs(self._index)

    def _attached_to(self, job_id: str, type: str | None, prefix: str) -> Iterator[Fields]:  # noqa: A002
        try:
            job_dir = self._index.job_dir(job_id)
            status = status_in(job_dir)
            if status is None or not status.attempt or status.state == states.QUEUED:
                return
            if self._access.limited and not self._access.allows(_job_type(job_dir)):
                return
            described = self._described(job_dir, status.attempt)
        except (Damaged, FileNotFoundError):
            return  # who reads the job itself is told
        for uri, fields in described.items():
            if not uri.startswith(prefix):
                continue
            try:
                address, _ = self._resolved(uri)
            except SpoolError:
                continue  # described by a handler, and lies elsewhere
            wanted = (address.job_id, address.attempt) == (job_id, status.attempt) and type in (None, address.type)
            if wanted and not (fields.get("expiresAt") and self._is_gone(address, job_dir)):
                yield fields | _told_by(address)

    def _is_gone(self, address: Address, job_dir: str) -> bool:
        try:
            self._value(address, job_dir)
        except (NotFound, Damaged, FileNotFoundError):
            return True
        return False

    @staticmethod
    def _described(job_dir: str, attempt: int) -> dict[str, Fields]:
        """What an attempt has attached, by address."""
        try:
            data = looking.read_below(job_dir, f"{paths.attempt_name(attempt)}/{paths.ATTACHED}", outputs.LIST_LIMIT)
        except FileNotFoundError:
            return {}
        attached = outputs.parsed(data)
        if not attached:  # a power cut can tear the list of an attempt whose result is whole
            with suppress(Damaged):
                result = jobs.load_result(job_dir, attempt)
                attached = [each for each in result.artifacts if isinstance(each, dict)] if result else []
        return {str(each["resourceUri"]): each for each in attached if "resourceUri" in each}


def _check_size(address: Address, described: Fields, file: BinaryIO) -> None:
    """Raise Damaged when a file has not as many bytes as were attached."""
    size, attached = os.fstat(file.fileno()).st_size, described.get("sizeBytes")
    if isinstance(attached, int) and size != attached:
        raise _not_as_attached(address, f"it has {size} bytes, and {attached} were attached")


def _verified(address: Address, described: Fields, file: BinaryIO) -> Iterator[bytes]:
    """The pieces of a file; in the end raises Damaged if it was not the one that was attached."""
    import hashlib

    digest = hashlib.sha256()
    while piece := file.read(PAGE_BYTES):
        digest.update(piece)
        yield piece
    if described.get("sha256", digest.hexdigest()) != digest.hexdigest():
        raise _not_as_attached(address, "its sha256 differs")


def _not_as_attached(address: Address, why: str) -> Damaged:
    hint = "a power cut tore it, or the disk fails; its job has to be done again"
    return Damaged(f"{address.uri} is not what was attached: {why}", hint=hint, uri=address.uri)


def _whole(**given: Any) -> None:
    for field, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            raise InvalidInput(f"{field}: {shown(value)} is not a whole number from 0", field=field)


def _job_type(job_dir: str) -> str:
    """The type of a job, for an account that may have to do with some types only. Raises Damaged, FileNotFoundError."""
    path = f"{job_dir}/{paths.JOB}"
    try:
        return str(jsonio.parse_object(looking.read(path, RECORD_LIMIT), path, jsonio.RECORD_DEPTH).get("jobType"))
    except InvalidInput as error:
        raise Damaged(error.message, path=path) from None


def _told_by(address: Address) -> Fields:
    """What the address itself says: no description of a handler's may say otherwise."""
    whose = {"jobId": address.job_id, "attempt": address.attempt, "name": address.name}
    return {"resourceUri": address.uri, "type": address.type, **whose}


def _expired(address: Address, when: str) -> NotFound:
    return NotFound(
        f"{address.uri} has expired, at {when}",
        hint="it was attached with --ttl-seconds; its job has to be done again",
        uri=address.uri,
        expiredAt=when,
    )


def _text(file: BinaryIO, offset: int, limit: int | None) -> Fields:
    """A part of a file as text, and where the next part begins; no character is cut in two."""
    size = os.fstat(file.fileno()).st_size
    wanted = size - offset if limit is None else min(limit, size - offset)
    if wanted > _TEXT_LIMIT:
        raise InvalidInput(f"the file has {size} bytes, too many for one answer", hint="--raw writes them as they are")
    file.seek(offset)
    data = file.read(max(0, wanted))
    told: Fields = {"sizeBytes": size, "offset": offset, "content": None, "nextOffset": None}
    skipped = 0
    while offset and skipped < min(3, len(data)) and data[skipped] & 0xC0 == 0x80:
        skipped += 1
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(data[skipped:], final=offset + len(data) >= size)
    except UnicodeDecodeError:
        return told
    if "\0" in text:
        return told
    end = offset + len(data) - len(decoder.getstate()[0])
    return told | {"offset": offset + skipped, "content": text, "nextOffset": end if end < size else None}


# -- tables -----------------------------------------------------------------------------------------


def _schema(table: OpenTable, query: Query) -> Fields:
    columns = [{"name": name, **table.columns[name]} for name in query.select or table.columns if name in table.columns]
    return {"columns": columns, "keyFields": table.meta["keyFields"], "indexFields": table.meta["indexFields"]}


def _keys_of(table: OpenTable) -> str:
    keys = table.meta["keyFields"]
    return f"the key of this table is {', '.join(keys)}" if keys else "this table has no key: name any of its fields"


def _check_export(form: str, query: Query, out: str, overwrite: bool) -> None:
    if form not in exporting.FORMATS:
        raise InvalidInput(f"unknown format {form!r}: allowed are {', '.join(exporting.FORMATS)}", field="format")
    if form == exporting.PARQUET and query.chooses:
        raise InvalidInput("a Parquet file holds the whole table", hint="filter when you read it", field="format")
    if os.path.isdir(out) or not os.path.isdir(os.path.dirname(os.path.abspath(out))):
        raise InvalidInput(f"cannot write to {out!r}: name a file in a directory that is there", path=out)
    if os.path.exists(out) and not os.path.isfile(out):  # root could rename a file over /dev/null
        raise InvalidInput(f"cannot write to {out!r}: that is no file, but a device or a pipe", path=out)
    if os.path.lexists(out) and not overwrite:
        raise _is_there(out)


def _is_there(out: str) -> Conflict:
    return Conflict(f"there is a file {out} already", hint="give another name, or --overwrite", path=out)


def _written(aside: str, table: OpenTable, form: str, query: Query, safe: bool) -> int:
    count = 0

    def counted() -> Iterator[Fields]:
        nonlocal count
        for row in Page(table.rows(), query):
            count += 1
            yield row

    columns = list(query.select or table.columns)
    pieces = exporting.as_json(counted()) if form == exporting.JSON else exporting.as_csv(counted(), columns, safe=safe)
    with files.writing_new(aside) as write:
        for piece in pieces:
            write(piece)
    return count


def _publish(aside: str, out: str, overwrite: bool) -> None:
    if overwrite:
        files.rename(aside, out)
        return
    try:
        files.place(aside, out)
    except FileExistsError:
        raise _is_there(out) from None
