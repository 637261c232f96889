"""Making a spool: its directories first, and its spool.json last, so that a directory with one is a whole spool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from breyta_spool import accounts, files, ids, jsonio, looking, outputs, owners, paths
from breyta_spool.barrier import Barrier
from breyta_spool.errors import Conflict, InvalidInput, doing
from breyta_spool.records import AccountRecord, Key, SpoolRecord


class FirstKey(NamedTuple):
    """What a spool that requires keys begins with: an account that may do everything, and its key in full."""

    account: AccountRecord
    key: Key
    api_key: str


def make(
    root: str, workspace: str, durability: str, group: str | None, require_keys: bool = False
) -> tuple[SpoolRecord, FirstKey | None]:
    """Make a spool in a directory that is missing or empty; gives its settings and, if keys are required, the first.

    Raises InvalidInput, Conflict when there is something already, StorageError.
    """
    check_root(root)
    if durability not in ("durable", "none"):
        raise InvalidInput(f"unknown durability {durability!r}: allowed are durable, none", field="durability")
    if not _is_workspace(workspace):
        raise InvalidInput(
            f"not a workspace id: {workspace!r}",
            hint="1 to 100 letters, digits and _ . - are allowed",
            field="workspace",
        )
    settings = SpoolRecord(
        spool_id=f"spool-{ids.new_ulid()}",
        workspace_id=workspace,
        created_at=outputs.now(),
        durability=durability,
        group=group,
        require_keys=require_keys,
    )
    with doing("make the spool"):
        _make_directories(root, group)
        # The key comes before the rule: at no moment does the spool ask for a key that nobody can have.
        first = _first_key(root, durability, group) if require_keys else None
        # Last, and whole: a directory with a spool.json is a spool. Of two who make one, one wins.
        try:
            # Nor may a power cut leave the name with a part: that would neither open nor let itself be made again.
            files.publish_new(f"{root}/{paths.SPOOL_FILE}", jsonio.record(settings.to_map()), sync=True)
        except FileExistsError:
            _forget(root, first)
            raise Conflict(f"{root} is a spool already: somebody else just made it", path=root) from None
    return settings, first


def unmake(root: str) -> None:
    """Take a spool back whose first key nobody will be told of."""
    with doing("take the spool back"):
        files.unlink(f"{root}/{paths.SPOOL_FILE}")


def _first_key(root: str, durability: str, group: str | None) -> FirstKey:
    first = FirstKey(*accounts.first(paths.Tree(root), _barrier(root, durability)))
    for name in (first.account.service_account_id, first.key.key_id):
        _share(f"{root}/{paths.ACCOUNTS}/{name}", group)  # or nobody else in the group could revoke it
    return first


def _forget(root: str, first: FirstKey | None) -> None:
    """Remove an account that nobody will be told of, from the spool of whoever was faster."""
    for name in (first.key.key_id, first.account.service_account_id) if first else ():
        files.remove_tree(f"{root}/{paths.ACCOUNTS}/{name}", f"{root}/tmp/{owners.marked(f'trash-{ids.new_ulid()}')}")


def _barrier(root: str, durability: str) -> Callable[[Callable[[], Iterator[str]]], None]:
    return Barrier(root) if durability == "durable" else lambda written: None


def _make_directories(root: str, group: str | None) -> None:
    files.make_dirs(root, "/")
    allowed = (*paths.TOP, paths.LOST_AND_FOUND)  # the latter is there at the root of a volume
    # What an init that was killed leaves does not stand in the way of the next.
    if foreign := [n for n in looking.names(root) if n not in allowed and not n.startswith(f".{paths.SPOOL_FILE}.")]:
        what = "is a spool already" if paths.SPOOL_FILE in foreign else f"is not empty: it has {min(foreign)!r}"
        raise Conflict(f"{root} {what}", hint="choose a directory that is empty or not there", path=root)
    if filled := [name for name in paths.TOP if _is_filled(root, name)]:
        raise Conflict(
            f"{root} has no spool.json, but its {filled[0]}/ is not empty",
            hint="did a spool lose its spool.json? Bring it back from a backup, or choose another directory",
            path=root,
        )
    _share(root, group)
    for name in paths.TOP:
        files.make_dirs(f"{root}/{name}", root)
        _share(f"{root}/{name}", group)


def _is_filled(root: str, name: str) -> bool:
    if name == paths.ACCOUNTS:
        return not accounts.left_by_init(paths.Tree(root))
    return bool(looking.names_if_any(f"{root}/{name}"))


def check_root(root: str) -> None:
    """Refuse a path that no system call can take. Raises InvalidInput."""
    if "\0" in root:
        raise InvalidInput("the spool's path holds a NUL byte", field="spool")


def _is_workspace(text: str) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text) <= 100
        and all(c.isascii() and (c.isalnum() or c in "_.-") for c in text)
    )


def _share(root: str, group: str | None) -> None:
    if group is not None:
        try:
            files.share(root, group)
        except LookupError:
            raise InvalidInput(f"there is no group {group!r} on this host", field="group") from None
