"""``breyta resources table query``, ``get-row``, ``schema``, ``export`` and ``sql``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from breyta_cli import given, output
from breyta_cli.tree import command
from breyta_spool import jsonio
from breyta_spool.errors import InvalidInput

if TYPE_CHECKING:
    from breyta_spool import Spool
    from breyta_spool.rows import Query

_uri = click.argument("uri", metavar="ADDRESS")


def _chosen(run: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the options that say which rows and fields; the command gets them as one ``query``."""

    @click.option("--where-json", metavar="JSON", help='Which rows: [["severity","=","high"]]; all clauses must hold.')
    @click.option("--sort-json", metavar="JSON", help='In which order: [["finding_id","asc"]].')
    @click.option("--select", metavar="A,B", help="Which fields. Default: all.")
    @click.option("--limit", type=click.IntRange(0, given.MOST), help="At most so many rows.")
    @click.option("--offset", type=click.IntRange(0, given.MOST), default=0, help="After so many rows.")
    @functools.wraps(run)
    def with_query(
        where_json: str | None,
        sort_json: str | None,
        select: str | None,
        limit: int | None,
        offset: int,
        **options: Any,
    ) -> Any:
        from breyta_spool.rows import Query

        where = [] if where_json is None else jsonio.parse(where_json, "--where-json")
        sort = [] if sort_json is None else jsonio.parse(sort_json, "--sort-json")
        fields = [name.strip() for name in select.split(",") if name.strip()] if select else []
        return run(query=Query(where, sort, fields, limit, offset), **options)

    return with_query


def answer_page(spool: Spool, uri: str, query: Query) -> None:
    """Print the rows of a query."""
    found = spool.resources.query(uri, query)
    shown = len(found["rows"])
    more = query.offset + shown < found["rowCount"]
    output.answer(found, limit=query.limit, offset=query.offset, returned=shown, more=more)


@command()
@_uri
@_chosen
def query(uri: str, query: Query) -> None:
    """Filter, sort and page through the rows of a table; 100 rows unless --limit says otherwise.

    Predicates: = != < <= > >= in contains is-null. A field that is missing is null. rowCount is the number of rows
    that match, on all pages together.

    \b
    Example:
      breyta resources table query "$uri" --where-json '[["severity","in",["high","low"]],["score",">=",7]]' \\
        --sort-json '[["score","desc"]]' --select finding_id,score --limit 10
    """
    from dataclasses import replace

    answer_page(given.spool(), uri, query if query.limit is not None else replace(query, limit=100))


@command("get-row")
@_uri
@click.option("--key", "key", multiple=True, required=True, metavar="K=V", help="A field and its value; repeatable.")
def get_row(uri: str, key: tuple[str, ...]) -> None:
    """Show the first row whose fields have the given values.

    A value is read as the column's type: of a text column as it stands, else as JSON.

    \b
    Example:
      breyta resources table get-row "$uri" --key finding_id=F-1
    """
    resources = given.spool().resources
    types = {column["name"]: column["type"] for column in resources.schema(uri)["columns"]}
    wanted = given.pairs("key", key)
    for pair in key:
        name, _, text = pair.partition("=")
        wanted[name] = text if types.get(name) == "string" else wanted[name]
    output.answer({"row": resources.get_row(uri, wanted)})


@command()
@_uri
def schema(uri: str) -> None:
    """Show the columns of a table, its key, and how much is in it.

    \b
    Example:
      breyta resources table schema "$uri" --pretty
    """
    output.answer({"schema": given.spool().resources.schema(uri)})


@command()
@_uri
@click.option("--out", required=True, metavar="FILE", help="Where to.")
@click.option("--format", "format_", default="csv", show_default=True, help="csv, json (an array) or parquet.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@click.option("--spreadsheet-safe", is_flag=True, help="CSV: put ' before text that a spreadsheet takes for a formula.")
@_chosen
def export(uri: str, out: str, format_: str, overwrite: bool, spreadsheet_safe: bool, query: Query) -> None:
    """Write the rows of a table to a file, which is there whole or not at all. A file that is there stays.

    Parquet needs DuckDB (pip install 'breyta-spool[tables]').

    \b
    Example:
      breyta resources table export "$uri" --out findings.csv --where-json '[["severity","=","high"]]'
    """
    if spreadsheet_safe and format_ != "csv":
        raise InvalidInput("--spreadsheet-safe is for CSV", field="format")
    exported = given.spool().resources.export(uri, out, format_, query, overwrite=overwrite, safe=spreadsheet_safe)
    output.answer({"export": exported})


@command()
@_uri
@click.argument("statement", metavar="SELECT")
@click.option(
    "--limit", type=click.IntRange(0, given.MOST), default=100, show_default=True, help="At most so many rows."
)
def sql(uri: str, statement: str, limit: int) -> None:
    """Answer one SELECT, in which the table is called rows. Needs DuckDB (pip install 'breyta-spool[tables]').

    DuckDB sees the rows of this table and nothing else: no files, no network.

    \b
    Example:
      breyta resources table sql "$uri" 'select severity, count(*) as n from rows group by severity order by n desc'
    """
    found = given.spool().resources.sql(uri, statement, limit)
    shown = len(found["rows"])
    output.answer(found, limit=limit, returned=shown, more=shown < found["rowCount"])
