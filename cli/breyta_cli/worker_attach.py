"""``breyta jobs worker attach-file/attach-kv/attach-table``: called by handlers, so they start fast."""

from __future__ import annotations

import sys
from typing import Any

import click

from breyta_cli import given, output
from breyta_cli.tree import command
from breyta_spool import jsonio
from breyta_spool.errors import InvalidInput

_print_uri = click.option("--print-uri", is_flag=True, help="Print the resource's address and nothing else.")


def _attached(artifact: dict[str, Any], print_uri: bool) -> None:
    if print_uri:
        sys.stdout.write(artifact["resourceUri"] + "\n")
    else:
        output.answer({"artifact": artifact})


@command("attach-file")
@click.option("--file", "file", required=True, metavar="FILE", help="The file to keep.")
@click.option("--label", help="What it is. Default: the file's name.")
@click.option("--kind", default="file", show_default=True, help="What kind of artifact.")
@click.option("--content-type", help="Its media type. Default: by the ending of its name.")
@click.option("--resource-label", help="A name for the resource itself.")
@_print_uri
def attach_file(
    file: str,
    label: str | None,
    kind: str,
    content_type: str | None,
    resource_label: str | None,
    print_uri: bool,
) -> None:
    """Keep a copy of a file as an artifact of the job; it survives a later crash of the handler.

    \b
    Example:
      uri="$(breyta jobs worker attach-file --file report.md --label report --print-uri)"
    """
    try:
        artifact = given.context().dir.attach_file(file, label, kind, content_type, resource_label)
    except (FileNotFoundError, IsADirectoryError, PermissionError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"--file: cannot attach {file!r}: {reason}", path=file) from None
    _attached(artifact, print_uri)


@command("attach-kv")
@click.option("--label", required=True, help="What it is.")
@click.option("--key", help="The key, within the job. Default: the label.")
@given.json_option("value", "The value.", any_value=True, missing=given.NOTHING)
@click.option("--field", "field", multiple=True, metavar="K=V", help="A field of an object value; repeatable.")
@click.option("--kind", default="kv", show_default=True, help="What kind of artifact.")
@click.option("--content-type", default="application/json", show_default=True, help="Its media type.")
@click.option("--ttl-seconds", type=click.IntRange(min=1), help="How long it is kept. Default: with the job.")
@_print_uri
def attach_kv(
    label: str,
    key: str | None,
    value: Any,
    field: tuple[str, ...],
    kind: str,
    content_type: str,
    ttl_seconds: int | None,
    print_uri: bool,
) -> None:
    """Keep a JSON value as an artifact of the job.

    \b
    Example:
      breyta jobs worker attach-kv --label review-summary --field finding-count=1 --field severity=high
    """
    fields = given.pairs("field", field)
    if value is given.NOTHING and not fields:
        raise InvalidInput("there is no value: give --value, --value-file or --field", field="value")
    content = {} if value is given.NOTHING else value
    if fields and not isinstance(content, dict):
        raise InvalidInput(f"--field adds to an object, but --value is {jsonio.kind_of(content)}", field="field")
    content = {**content, **fields} if fields else content
    _attached(given.context().dir.attach_kv(label, content, key, kind, content_type, ttl_seconds), print_uri)


@command("attach-table")
@click.option("--label", required=True, help="What it is.")
@click.option("--table", help="The table's name, within the job. Default: the label.")
@click.option("--rows", metavar="JSON", help="An array of objects.")
@click.option("--rows-file", metavar="FILE", help="The same from a file, - for stdin; JSON lines are fine too.")
@click.option("--write-mode", default="append", show_default=True, help="append, or upsert by the key fields.")
@click.option("--schema-mode", default="evolve", show_default=True, help="evolve, or strict: refuse other columns.")
@click.option("--key-field", "key_fields", multiple=True, metavar="FIELD", help="A field of the key; repeatable.")
@click.option(
    "--index-field", "index_fields", multiple=True, metavar="FIELD", help="A field to look up by; repeatable."
)
@click.option("--kind", default="table", show_default=True, help="What kind of artifact.")
@click.option("--content-type", default="application/vnd.breyta.table+json", show_default=True, help="Its media type.")
@_print_uri
def attach_table(
    label: str,
    table: str | None,
    rows: str | None,
    rows_file: str | None,
    write_mode: str,
    schema_mode: str,
    key_fields: tuple[str, ...],
    index_fields: tuple[str, ...],
    kind: str,
    content_type: str,
    print_uri: bool,
) -> None:
    """Keep rows as a table of the job: appended, or inserted and replaced by key. All of them or none.

    \b
    Example:
      breyta jobs worker attach-table --label findings --rows-file findings.json --write-mode upsert --key-field id
    """
    artifact = given.context().dir.attach_table(
        label,
        _rows(rows, rows_file),
        table,
        write_mode.lower(),
        schema_mode.lower(),
        list(key_fields),
        list(index_fields),
        kind,
        content_type,
    )
    _attached(artifact, print_uri)


def _rows(rows: str | None, rows_file: str | None) -> Any:
    if rows is not None and rows_file is not None:
        raise InvalidInput("--rows and --rows-file exclude each other: give one of them", field="rows")
    if rows is not None:
        return jsonio.parse(rows, "--rows")
    if rows_file is None:
        raise InvalidInput("there are no rows: give --rows or --rows-file", field="rows")
    return given.stream(rows_file, "--rows-file")
