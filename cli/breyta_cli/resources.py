"""The group ``resources``: what jobs have attached, by address."""

from __future__ import annotations

import sys

import click

from breyta_cli import given, output
from breyta_cli.tree import Group, command

_COMPACT = ("resourceUri", "type", "label", "contentType", "sizeBytes", "rowCount", "jobId")


@click.command(
    cls=Group,
    members={
        "list": ("breyta_cli.resources:list_", "List files, values and tables, newest job first."),
        "get": ("breyta_cli.resources:get", "Show what is known of a resource."),
        "read": ("breyta_cli.resources:read", "Read a file, a value or the rows of a table."),
        "table": ("breyta_cli.resources:table", "Query and export tables."),
    },
    aliases={"ls": "list", "show": "get"},
)
def resources() -> None:
    """Read what jobs have attached: files, values (kv) and tables, each by its address.

    \b
    Example:
      breyta resources list --type table
      breyta resources read res://v1/ws/ws-acme/file/job-01JD0W3Z8Q4X5V6B7N8M9K0P1R.1.report.md
      breyta resources table query res://v1/ws/ws-acme/result/table/job-01JD0W3Z8Q4X5V6B7N8M9K0P1R.1.findings
    """


@click.command(
    cls=Group,
    members={
        "query": ("breyta_cli.resources_table:query", "Filter, sort and page through the rows."),
        "get-row": ("breyta_cli.resources_table:get_row", "Show one row."),
        "schema": ("breyta_cli.resources_table:schema", "Show the columns, the key and the size."),
        "export": ("breyta_cli.resources_table:export", "Write the rows to a file: CSV, JSON or Parquet."),
        "sql": ("breyta_cli.resources_table:sql", "Ask anything else, with DuckDB."),
    },
)
def table() -> None:
    """Query and export tables.

    \b
    Example:
      breyta resources table query "$uri" --where-json '[["severity","=","high"]]' --limit 20
      breyta resources table export "$uri" --out findings.csv
    """


@command("list")
@click.option("--type", "kind", help="Only file, kv or table.")
@click.option("--prefix", default="", metavar="ADDRESS", help="Only addresses that begin so.")
@click.option("--limit", type=click.IntRange(1, given.MOST), default=10, show_default=True, help="At most so many.")
@click.option("--offset", type=click.IntRange(0, given.MOST), default=0, help="After so many.")
@click.option("--full", is_flag=True, help="All that was said of each when it was attached.")
def list_(kind: str | None, prefix: str, limit: int, offset: int, full: bool) -> None:
    """List what the last attempt of each job has attached, newest job first.

    \b
    Example:
      breyta resources list --type file --limit 50
    """
    found = given.spool().resources.list(kind, prefix, limit + 1, offset)
    items = found[:limit]
    if not full:
        items = [{name: item[name] for name in _COMPACT if name in item} for item in items]
    meta = {"outputView": "full" if full else "compact", "limit": limit, "offset": offset, "more": len(found) > limit}
    output.answer({"items": items}, **meta)


@command()
@click.argument("uri", metavar="ADDRESS")
def get(uri: str) -> None:
    """Show what is known of a resource: how it was described, and what is there now.

    \b
    Example:
      breyta resources get res://v1/ws/ws-acme/file/job-01JD0W3Z8Q4X5V6B7N8M9K0P1R.1.report.md
    """
    output.answer({"resource": given.spool().resources.get(uri)})


@command()
@click.argument("uri", metavar="ADDRESS")
@click.option(
    "--limit", type=click.IntRange(0, given.MOST), help="At most so many bytes, or rows. Default: 1 MiB, 100 rows."
)
@click.option("--offset", type=click.IntRange(0, given.MOST), default=0, help="From this byte, or row, on.")
@click.option("--full", is_flag=True, help="All of it.")
@click.option("--raw", is_flag=True, help="Write the bytes and nothing else; all of them.")
def read(uri: str, limit: int | None, offset: int, full: bool, raw: bool) -> None:
    """Read a file as text, a value, or the rows of a table.

    A file that is not UTF-8 text has no content here; --raw writes any file as it is, a value as JSON, rows as JSON
    lines.

    \b
    Example:
      breyta resources read "$uri" --raw >report.md
    """
    from breyta_spool import addresses

    if (raw or full) and (limit is not None or (raw and offset)):
        raise click.UsageError("--raw and --full are all of it: leave --limit and --offset out")
    spool = given.spool()
    if raw:
        return _raw(uri)
    if addresses.parse(uri).type == addresses.TABLE:
        from breyta_cli.resources_table import answer_page
        from breyta_spool.rows import Query

        rows = None if full else 100 if limit is None else limit
        return answer_page(spool, uri, Query(limit=rows, offset=offset))
    found = spool.resources.read(uri, offset, None if full else (1 << 20) if limit is None else limit)
    not_text = "content" in found and found["content"] is None
    return output.answer(found, **({"note": "not text; --raw writes the bytes"} if not_text else {}))


def _raw(uri: str) -> None:
    with given.spool().resources.open(uri) as pieces:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
