"""A table as a reader sees it: the rows that count, in one state of the table, while a writer may be at work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from breyta_spool import jsonio, looking, paths, tables
from breyta_spool.addresses import Address
from breyta_spool.errors import Damaged, InvalidInput, SpoolError

_TRIES = 20


class OpenTable:
    """An open table: its description and its rows do not change any more, whatever a writer does. A context manager.

    ``meta`` is the description: name, columns, keyFields, indexFields, rowCount, sizeBytes.
    """

    def __init__(self, job_dir: str, address: Address) -> None:
        self.path = f"{job_dir}/{address.place}"
        self._file, self.meta = _opened(job_dir, address)

    def __enter__(self) -> OpenTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def columns(self) -> dict[str, dict[str, Any]]:
        """The columns by name, each with ``type`` and ``nullable``."""
        columns: dict[str, dict[str, Any]] = self.meta["columns"]
        return columns

    def chunks(self) -> Iterator[bytes]:
        """The rows that count as they lie there, in pieces of whole lines. Raises Damaged."""
        self._file.seek(0)
        return tables.whole_lines(self._file, self.meta["sizeBytes"], self.path)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows that count, one after the other. Raises Damaged."""
        number = 0
        for chunk in self.chunks():
            for line in chunk.split(b"\n")[:-1]:
                try:
                    yield jsonio.parse_object(line, f"row {number}")
                except InvalidInput as error:
                    raise Damaged(f"{self.path}: {error.message}", path=self.path) from None
                number += 1

    def schema(self) -> dict[str, Any]:
        """Columns in order, keys, and how much there is."""
        return {
            "name": self.meta["name"],
            "columns": [{"name": name, **column} for name, column in self.columns.items()],
            **{name: self.meta[name] for name in ("keyFields", "indexFields", "rowCount", "sizeBytes")},
        }


def _opened(job_dir: str, address: Address) -> tuple[BinaryIO, dict[str, Any]]:
    place = f"{paths.attempt_name(address.attempt)}/{paths.table_description(address.name)}"
    for _ in range(_TRIES):
        file = open(looking.open_below(job_dir, address.place), "rb")  # noqa: SIM115 - the caller closes it
        try:
            data = looking.read_below(job_dir, place, tables.DESCRIPTION_LIMIT)
            inode = os.fstat(file.fileno()).st_ino
            # RACE: an upsert may have put other rows into place between the two; then the description is of those.
            if _inode(job_dir, address.place) == inode:
                return file, tables.description(data, inode, f"{job_dir}/{place}", address.name)
        except BaseException:
            file.close()
            raise
        file.close()
    raise SpoolError(f"{address.uri} changes faster than it can be read", hint="try again")


def _inode(job_dir: str, place: str) -> int:
    with open(looking.open_below(job_dir, place), "rb") as file:
        return os.fstat(file.fileno()).st_ino
