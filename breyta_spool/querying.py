"""SQL over one table, and Parquet: by DuckDB, an optional extra, in a process memory of its own and locked in.

What DuckDB gets to see are the rows that count, through a pipe, as a table called ``rows``. Before it is given a
statement of the caller's, files, network, extensions and settings are closed to it for good.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from breyta_spool import jsonio
from breyta_spool.errors import InvalidInput, SpoolError

if TYPE_CHECKING:
    import duckdb

TABLE = "rows"
MEMORY = "1GB"
ANSWER_BYTES = 256 << 20
"""The most bytes of text in an answer: DuckDB bounds its own memory, not what it hands out."""
_FETCH = 100
_SQL_TYPES = {"integer": "BIGINT", "number": "DOUBLE", "string": "VARCHAR", "boolean": "BOOLEAN", "json": "JSON"}
_SETTINGS = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",  # or a statement could read the variables of this program
    "memory_limit": MEMORY,
}

Chunks = Callable[[], Iterator[bytes]]
Columns = dict[str, dict[str, Any]]


def select(chunks: Chunks, columns: Columns, statement: str, limit: int | None) -> dict[str, Any]:
    """Run one SELECT over a table: its first ``limit`` rows, how many there are, and their columns.

    Raises InvalidInput for what DuckDB refuses.
    """
    jsonio.compact(statement, "the statement")  # DuckDB has no words for half of a character
    with _loaded(chunks, columns) as (connection, refusals):
        for setting in ("enable_external_access = false", "lock_configuration = true"):
            connection.execute(f"SET {setting}")
        try:
            names, found, count = _answered(connection, _only_select(connection, statement))
            kinds = [str(column[1]) for column in found.description or []]
            rows = _fetched(found, limit)
        except refusals as error:
            raise InvalidInput(f"the query cannot be answered: {error}", hint=_hint(columns), field="sql") from None
    shown = [
        {name: _plain(value, kind == "JSON") for name, value, kind in zip(names, row, kinds, strict=True)}
        for row in rows
    ]
    schema = [{"name": name, "type": kind} for name, kind in zip(names, kinds, strict=True)]
    return {"rows": shown, "rowCount": count, "schema": {"columns": schema}}


def write_parquet(chunks: Chunks, columns: Columns, path: str) -> None:
    """Write a table as a Parquet file that is not there yet. Raises InvalidInput, OSError."""
    with _loaded(chunks, columns) as (connection, refusals):
        try:
            connection.execute(f"COPY {TABLE} TO {_quoted(path)} (FORMAT parquet)")
        except refusals as error:
            raise SpoolError(f"the Parquet file could not be written: {error}", path=path) from None


def _answered(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[list[str], Any, int]:
    """Run a query into a table, which DuckDB bounds, as it does not an answer; gives names, rows and their number."""
    names = _distinct([str(row[0]) for row in connection.execute(f"DESCRIBE {query}").fetchall()])
    listed = ", ".join(f"c{number}" for number in range(len(names)))
    connection.execute(f"CREATE TEMP TABLE answer({listed}) AS {query}")
    (count,) = connection.execute("SELECT count(*) FROM answer").fetchone() or (0,)
    return names, connection.execute("SELECT * FROM answer"), count


def _only_select(connection: duckdb.DuckDBPyConnection, statement: str) -> str:
    statements = connection.extract_statements(statement)
    if len(statements) != 1 or str(statements[0].type).rpartition(".")[2] != "SELECT":
        raise InvalidInput("one SELECT statement is needed", hint=f"the table is called {TABLE}", field="sql")
    return statement.strip().rstrip(";") + "\n"  # behind a comment at its end comes nothing of ours


def _fetched(found: Any, limit: int | None) -> list[Any]:
    """The first rows of an answer."""
    rows: list[Any] = []
    size = 0
    while (limit is None or len(rows) < limit) and (
        part := found.fetchmany(_FETCH if limit is None else min(_FETCH, limit - len(rows)))
    ):
        size += sum(len(value) for row in part for value in row if isinstance(value, str | bytes))
        if size > ANSWER_BYTES:
            what = f"the answer has more than {ANSWER_BYTES} bytes"
            raise InvalidInput(what, hint="ask for fewer rows (--limit) or columns", field="sql")
        rows += part
    return rows


def _hint(columns: Columns) -> str:
    return f"the table is called {TABLE}, its columns are {', '.join(list(columns)[:30])}"


def _distinct(names: list[str]) -> list[str]:
    """Names for the columns of an answer, each once: ``select 1 a, 2 a`` gives a and a_2."""
    found: list[str] = []
    for name in names:
        number, distinct = 1, name
        while distinct in found:
            number += 1
            distinct = f"{name}_{number}"
        found.append(distinct)
    return found


# -- load -------------------------------------------------------------------------------------------


@contextmanager
def _loaded(chunks: Chunks, columns: Columns) -> Iterator[tuple[duckdb.DuckDBPyConnection, type[Exception]]]:
    """DuckDB with the table in it, and the error it raises. What its memory cannot hold goes to a scratch directory."""
    duck = _duckdb()
    _check_names(columns)
    with tempfile.TemporaryDirectory(prefix="breyta-sql-") as scratch:
        connection = duck.connect(":memory:", config={**_SETTINGS, "temp_directory": scratch})
        try:
            _load(connection, chunks, columns, duck)
            yield connection, duck.Error
        finally:
            connection.close()


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise SpoolError(
            "SQL and Parquet need DuckDB, which is not installed here",
            hint="pip install 'breyta-spool[tables]'; 'breyta resources table query' filters and sorts without it",
        ) from None
    return duckdb


def _check_names(columns: Columns) -> None:
    if "" in columns:
        raise InvalidInput("a column has no name, which SQL does not allow", hint="the formats csv and json do")
    seen: dict[str, str] = {}
    for name in columns:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise InvalidInput(
                f"the columns {other!r} and {name!r} are one to SQL, which does not tell capitals apart",
                hint="'breyta resources table query' and the formats csv and json do",
            )


def _load(connection: duckdb.DuckDBPyConnection, chunks: Chunks, columns: Columns, duck: Any) -> None:
    if not columns:
        connection.execute(f"CREATE TABLE {TABLE} (nothing INTEGER)")
        return
    try:
        _read_in(connection, chunks, columns, {})
    except duck.Error:
        # Whole numbers of JSON have no bounds: those that need more than 64 bits get 128.
        try:
            _read_in(connection, chunks, columns, {"integer": "HUGEINT"})
        except duck.Error as error:
            raise InvalidInput(f"DuckDB cannot hold the rows of this table: {error}") from None


def _read_in(
    connection: duckdb.DuckDBPyConnection, chunks: Chunks, columns: Columns, other_types: dict[str, str]
) -> None:
    types = _SQL_TYPES | other_types
    listed = ", ".join(f"{_quoted(name)}: '{types.get(column['type'], 'VARCHAR')}'" for name, column in columns.items())
    with _piped(chunks) as path:
        connection.execute(
            f"CREATE TABLE {TABLE} AS SELECT * FROM read_json({_quoted(path)}, "  # noqa: S608 - every part is quoted
            f"format = 'newline_delimited', columns = {{{listed}}})"
        )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _piped(chunks: Chunks) -> Iterator[str]:
    """The path of a pipe through which the rows come, so that none beyond those that count is ever seen.

    Raises what reading the rows raises.
    """
    read, write = os.pipe()
    failures: list[BaseException] = []

    def feed() -> None:
        # The command line dies of SIGPIPE; here it only means that DuckDB has read enough, or given up.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
        try:
            with suppress(BrokenPipeError), os.fdopen(write, "wb", 0) as pipe:
                for chunk in chunks():
                    _write_all(pipe, chunk)
        except BaseException as error:
            failures.append(error)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        yield f"/dev/fd/{read}"
    finally:
        os.close(read)
        feeder.join()
        if failures:
            raise failures[0]


def _write_all(pipe: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


# -- answer -----------------------------------------------------------------------------------------


def _plain(value: Any, is_json: bool) -> Any:
    """A value of DuckDB's as JSON has it: times and durations as text, exact decimals as numbers."""
    if isinstance(value, str):
        return jsonio.parse(value, "a JSON value") if is_json else value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None  # neither NaN nor infinity is JSON
    if isinstance(value, list | tuple):
        return [_plain(item, False) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item, False) for name, item in value.items()}
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    from datetime import date, time
    from decimal import Decimal

    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, date | time) else str(value)
