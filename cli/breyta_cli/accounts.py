"""The group ``service-accounts``: who may do what, and the keys that prove it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from breyta_cli import given, output
from breyta_cli.tree import Group, command

_account = click.argument("account_id", metavar="ACCOUNT-ID")


@click.command(
    "service-accounts",
    cls=Group,
    members={
        "create": ("breyta_cli.accounts:create", "Make a service account."),
        "list": ("breyta_cli.accounts:list_", "List the service accounts."),
        "show": ("breyta_cli.accounts:show", "Show one service account."),
        "update": ("breyta_cli.accounts:update", "Change, disable or enable a service account."),
        "keys": ("breyta_cli.accounts:keys", "Make, list and revoke the keys of an account."),
    },
    aliases={"ls": "list"},
)
def service_accounts() -> None:
    """Say who may do what in a spool. An account has scopes, maybe job types, and keys.

    \b
    Example:
      breyta service-accounts create --name agent-review-worker --scope jobs.worker --job-type agent-review
      breyta service-accounts keys create sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R --name agent-review-key
    """


@click.command(
    cls=Group,
    members={
        "create": ("breyta_cli.accounts:create_key", "Make a key; shown once."),
        "list": ("breyta_cli.accounts:list_keys", "List the keys of an account."),
        "revoke": ("breyta_cli.accounts:revoke_key", "End a key for good."),
    },
    aliases={"ls": "list"},
)
def keys() -> None:
    """Make, list and revoke the keys of a service account.

    \b
    Example:
      breyta service-accounts keys list sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R
    """


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of create and of update."""
    for option in (
        click.option("--status", help="active or disabled."),
        click.option(
            "--scope", "--capability", "scopes", multiple=True, metavar="S",
            help="What it may do: jobs.worker, jobs.submit, jobs.read, flows.read, flows.manage, flows.run, "
            "resources.read, resources.write, workspace.full; repeatable or comma-separated.",
        ),
        click.option(
            "--job-type", "job_types", multiple=True, metavar="T",
            help="Only jobs of this type; repeatable or comma-separated.",
        ),
        given.json_option("metadata", "An object for operators.", any_value=True),
    ):  # fmt: skip
        command = option(command)
    return command


def _split(given: tuple[str, ...]) -> list[str]:
    return [word.strip() for words in given for word in words.split(",") if word.strip()]


@command()
@click.option("--name", required=True, help="What people call it.")
@_settings
def create(name: str, status: str | None, scopes: tuple[str, ...], job_types: tuple[str, ...], metadata: Any) -> None:
    """Make a service account. It is of use once it has a key ('keys create').

    \b
    Example:
      breyta service-accounts create --name agent-review-worker --scope jobs.worker --job-type agent-review
    """
    account = given.spool().accounts.create(
        name, _split(scopes), job_types=_split(job_types), status=status or "active", metadata=metadata
    )
    output.answer({"serviceAccount": account.to_map()})


@command("list")
def list_() -> None:
    """List the service accounts, newest first.

    \b
    Example:
      breyta service-accounts list --pretty
    """
    damaged: list[str] = []
    accounts = given.spool().accounts.list(damaged)
    output.answer({"items": [account.to_map() for account in accounts]}, **_told(damaged))


def _told(damaged: list[str]) -> dict[str, Any]:
    return {"damaged": damaged} if damaged else {}


@command()
@_account
def show(account_id: str) -> None:
    """Show one service account.

    \b
    Example:
      breyta service-accounts show sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R
    """
    output.answer({"serviceAccount": given.spool().accounts.get(account_id).to_map()})


@command()
@_account
@click.option("--name", help="What people call it.")
@click.option("--any-job-type", is_flag=True, help="Lift the limit to some job types.")
@_settings
def update(
    account_id: str,
    name: str | None,
    any_job_type: bool,
    status: str | None,
    scopes: tuple[str, ...],
    job_types: tuple[str, ...],
    metadata: Any,
) -> None:
    """Change what is given; scopes, job types and metadata are replaced. A worker sees it before its next claim.

    \b
    Example:
      breyta service-accounts update sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R --status disabled
    """
    if any_job_type and job_types:
        raise click.UsageError("--any-job-type and --job-type exclude each other")
    account = given.spool().accounts.update(
        account_id,
        name=name,
        status=status,
        scopes=_split(scopes) if scopes else None,
        job_types=_split(job_types) if job_types or any_job_type else None,
        metadata=metadata,
    )
    output.answer({"serviceAccount": account.to_map()})


@command("create")
@_account
@click.option("--name", default="", help="What people call it.")
@click.option(
    "--expires-at", metavar="RFC3339", help="When it ends by itself, as 2027-01-01T00:00:00Z. Default: never."
)
@given.json_option("metadata", "An object for operators.", any_value=True)
def create_key(account_id: str, name: str, expires_at: str | None, metadata: Any) -> None:
    """Make a key. data.apiKey is the key itself: only its hash is kept, so it is never shown again.

    Give it to commands as BREYTA_API_KEY. As --api-key it would stand in the list of processes for everybody to see.

    \b
    Example:
      breyta service-accounts keys create sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R --name agent-review-key
    """
    key, api_key = given.spool().accounts.create_key(account_id, name, expires_at=expires_at, metadata=metadata)
    output.answer({"key": key.to_map(), "apiKey": api_key})


@command("list")
@_account
def list_keys(account_id: str) -> None:
    """List the keys of an account, newest first, with those that were revoked or have expired.

    \b
    Example:
      breyta service-accounts keys list sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R
    """
    damaged: list[str] = []
    found = given.spool().accounts.keys(account_id, damaged)
    output.answer({"items": [key.to_map() for key in found]}, **_told(damaged))


@command("revoke")
@_account
@click.argument("key_id", metavar="KEY-ID")
def revoke_key(account_id: str, key_id: str) -> None:
    """End a key for good. A worker that runs with it claims nothing more and finishes what it holds.

    \b
    Example:
      breyta service-accounts keys revoke sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R key-01JD0W4QJ3T2S1R0P9N8M7K6H5
    """
    output.answer({"key": given.spool().accounts.revoke_key(account_id, key_id).to_map()})
