"""Making a spool: its directories first, and its spool.json last, so that a directory with one is a whole spool."""

from __future__ import annotations

from breyta_spool import files, ids, jsonio, outputs, paths
from breyta_spool.errors import Conflict, InvalidInput, doing
from breyta_spool.records import SpoolRecord


def make(root: str, workspace: str, durability: str, group: str | None) -> SpoolRecord:
    """Make a spool in a directory that is missing or empty; gives its settings.

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
    )
    with doing("make the spool"):
        _make_directories(root, group)
        # Last, and whole: a directory with a spool.json is a spool. Of two who make one, one wins.
        try:
            files.publish_new(f"{root}/{paths.SPOOL_FILE}", jsonio.record(settings.to_map()))
        except FileExistsError:
            raise Conflict(f"{root} is a spool already: somebody else just made it", path=root) from None
    return settings


def _make_directories(root: str, group: str | None) -> None:
    files.make_dirs(root, "/")
    allowed = (*paths.TOP, paths.LOST_AND_FOUND)  # the latter is there at the root of a volume
    # What an init that was killed leaves does not stand in the way of the next.
    if foreign := [n for n in files.names(root) if n not in allowed and not n.startswith(f".{paths.SPOOL_FILE}.")]:
        what = "is a spool already" if paths.SPOOL_FILE in foreign else f"is not empty: it has {min(foreign)!r}"
        raise Conflict(f"{root} {what}", hint="choose a directory that is empty or not there", path=root)
    if filled := [name for name in paths.TOP if files.names_if_any(f"{root}/{name}")]:
        raise Conflict(
            f"{root} has no spool.json, but its {filled[0]}/ is not empty",
            hint="did a spool lose its spool.json? Bring it back from a backup, or choose another directory",
            path=root,
        )
    _share(root, group)
    for name in paths.TOP:
        files.make_dirs(f"{root}/{name}", root)
        _share(f"{root}/{name}", group)


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
