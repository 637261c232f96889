"""Service accounts and their keys: files that are written once, so that no two writers can undo each other.

An account is a directory with one file a revision, and the highest counts: of two who make the same one, the loser
reads again. A key is a directory with its record, and, once it is revoked, a second file that says so.
"""

from __future__ import annotations

import base64
import getpass
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from breyta_spool import access, durations, files, ids, jsonio, looking, paths
from breyta_spool.access import Access
from breyta_spool.errors import Conflict, Damaged, InvalidInput, NotFound, doing, shown
from breyta_spool.records import AccountRecord, Key, KeyRecord, Record, RevokedRecord, read_record

METADATA_LIMIT = 64 << 10
"""The most bytes of an account's or a key's metadata: each check of a key reads them."""
SECRET_BYTES = 32
BY_INIT = "spool init"
"""Who made the first account of a spool that requires keys."""
_TRIES = 100

Accounts = list[AccountRecord]
Names = list[str]
Keys = list[Key]
R = TypeVar("R", bound=Record)
Commit = Callable[[Callable[[], Iterator[str]]], None]


class AccountStore:
    """The service accounts of one spool. Every call needs the scope ``workspace.full``, if the caller has a key."""

    def __init__(self, tree: paths.Tree, commit: Commit, gate: Access, by: str = "") -> None:
        self._tree = tree
        self._commit = commit
        self._gate = gate
        self._by = by

    # -- accounts -----------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        scopes: Iterable[str],
        *,
        job_types: Iterable[str] = (),
        status: str = access.ACTIVE,
        metadata: Mapping[str, Any] | None = None,
    ) -> AccountRecord:
        """Make an account; ``job_types`` limits it to these. Raises InvalidInput, NotAllowed, StorageError."""
        self._gate.need(access.FULL)
        now = _now()
        account = AccountRecord(
            service_account_id=ids.new_account_id(),
            name=_name(name),
            status=_status(status),
            scopes=access.parse_scopes(scopes),
            job_types=_job_types(job_types),
            metadata=_metadata(metadata),
            created_at=now,
            updated_at=now,
            updated_by=self._caller(),
        )
        with doing("make the service account"):
            self._make_dir(self._tree.account(account.service_account_id))
            self._publish(self._tree.account(account.service_account_id), paths.account_revision(1), account)
        return account

    def get(self, account_id: str) -> AccountRecord:
        """An account as it is now. Raises InvalidInput, NotFound, NotAllowed, Damaged, StorageError."""
        self._gate.need(access.FULL)
        with doing(f"read {account_id}"):
            return self._latest(_account_id(account_id))[0]

    def list(self, damaged: Names | None = None) -> Accounts:
        """All accounts, newest first; the ids of damaged ones go into ``damaged``. Raises NotAllowed, StorageError."""
        self._gate.need(access.FULL)
        with doing("list the service accounts"):
            names = filter(ids.is_account_id, self._names())
            return _all(names, lambda account_id: self._latest(account_id)[0], damaged)

    def update(
        self,
        account_id: str,
        *,
        name: str | None = None,
        status: str | None = None,
        scopes: Iterable[str] | None = None,
        job_types: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AccountRecord:
        """Change what is given and leave the rest; an empty ``job_types`` lifts the limit.

        Counts for every check from when it returns. Raises InvalidInput, NotFound, NotAllowed, Conflict, StorageError.
        """
        self._gate.need(access.FULL)
        given = {
            "name": None if name is None else _name(name),
            "status": None if status is None else _status(status),
            "scopes": None if scopes is None else access.parse_scopes(scopes),
            "job_types": None if job_types is None else _job_types(job_types),
            "metadata": None if metadata is None else _metadata(metadata),
        }
        changes = {field: value for field, value in given.items() if value is not None}
        if not changes:
            raise InvalidInput("nothing to change was given", hint="name, status, scopes, job types or metadata")
        with doing(f"update {account_id}"):
            return self._revise(_account_id(account_id), changes)

    def _revise(self, account_id: str, changes: dict[str, Any]) -> AccountRecord:
        for _ in range(_TRIES):
            old, revision = self._latest(account_id)
            new = old.model_copy(update={**changes, "updated_at": _now(), "updated_by": self._caller()})
            try:
                self._publish(self._tree.account(account_id), paths.account_revision(revision + 1), new)
            except FileExistsError:
                continue  # RACE: somebody else made this revision; what he changed must not be lost
            return new
        raise Conflict(f"{account_id} is changed by others all the time", hint="try again")

    def _latest(self, account_id: str) -> tuple[AccountRecord, int]:
        directory = self._tree.account(account_id)
        revision = paths.latest_revision(looking.names_if_any(directory))
        if not revision:
            raise NotFound(
                f"no such service account: {account_id}", hint="'breyta service-accounts list' shows them",
                serviceAccountId=account_id,
            )  # fmt: skip
        account = _read(AccountRecord, f"{directory}/{paths.account_revision(revision)}")
        if account.service_account_id != account_id:
            raise Damaged(f"{directory} holds the record of {account.service_account_id}", path=directory)
        return account, revision

    # -- keys ---------------------------------------------------------------------------------------

    def create_key(
        self,
        account_id: str,
        name: str = "",
        *,
        expires_at: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> tuple[Key, str]:
        """Make a key for an account; gives it, and its text: the only time that anybody sees that.

        ``expires_at`` is an RFC 3339 time in the future. Raises InvalidInput, NotFound, NotAllowed, StorageError.
        """
        account = self.get(account_id)
        key_id = ids.new_key_id()
        api_key = access.api_key_of(key_id, base64.urlsafe_b64encode(os.urandom(SECRET_BYTES)).decode().rstrip("="))
        record = KeyRecord(
            key_id=key_id,
            service_account_id=account.service_account_id,
            name=_name(name) if name else "",
            sha256=access.sha256(api_key),
            created_at=_now(),
            created_by=self._caller(),
            expires_at=_expiry(expires_at),
            metadata=_metadata(metadata),
        )
        with doing(f"make a key for {account_id}"):
            self._make_dir(self._tree.key(key_id))
            self._publish(self._tree.key(key_id), paths.KEY, record)
        return Key.of(record), api_key

    def keys(self, account_id: str, damaged: Names | None = None) -> Keys:
        """The keys of an account, newest first, also those that were revoked or have expired."""
        self.get(account_id)
        with doing(f"list the keys of {account_id}"):
            found = _all(filter(ids.is_key_id, self._names()), self._key, damaged)
        return [key for key in found if key.service_account_id == account_id]

    def revoke_key(self, account_id: str, key_id: str) -> Key:
        """End a key for good; returned, no check of it succeeds any more. One that is revoked already stays so.

        Raises InvalidInput, NotFound, NotAllowed, StorageError.
        """
        self._gate.need(access.FULL)
        _account_id(account_id), _key_id(key_id)
        directory = self._tree.key(key_id)
        with doing(f"revoke {key_id}"):
            if self._key(key_id).service_account_id != account_id:
                raise _no_key_of(account_id, key_id)
            record = RevokedRecord(key_id=key_id, revoked_at=_now(), revoked_by=self._caller())
            try:
                self._publish(directory, paths.REVOKED, record)
            except FileExistsError:
                # RACE: somebody else was faster, and may not have come to his barrier.
                self._commit(lambda: self._written(directory, paths.REVOKED))
            return self._key(key_id)

    def _key(self, key_id: str) -> Key:
        directory = self._tree.key(key_id)
        names = looking.names_if_any(directory)
        if paths.KEY not in names:
            raise _no_key_of("this spool", key_id)
        record = _read(KeyRecord, f"{directory}/{paths.KEY}")
        if record.key_id != key_id:
            raise Damaged(f"{directory} holds the record of {record.key_id}", path=directory)
        return Key.of(record, self._revoked(directory) if paths.REVOKED in names else None)

    @staticmethod
    def _revoked(directory: str) -> RevokedRecord:
        path = f"{directory}/{paths.REVOKED}"
        try:
            return _read(RevokedRecord, path)
        except Damaged:  # its name alone revokes the key
            when = durations.rfc3339(os.lstat(path).st_mtime * 1000)
            return RevokedRecord(key_id=os.path.basename(directory), revoked_at=when, revoked_by="")

    # -- files --------------------------------------------------------------------------------------

    def _names(self) -> Names:
        return looking.names_if_any(self._tree.top(paths.ACCOUNTS))

    def _make_dir(self, directory: str) -> None:
        top = self._tree.root
        files.make_dirs(directory, top, in_spool=paths.SPOOL_FILE in looking.names(top))

    def _publish(self, directory: str, name: str, record: Record) -> None:
        """Write a record once and make it durable. Not writable, and not readable for others: that is for the group."""
        files.publish_new(f"{directory}/{name}", jsonio.record(record.to_map()), 0o640, sync=True)
        self._commit(lambda: self._written(directory, name))

    def _written(self, directory: str, name: str) -> Iterator[str]:
        yield from (f"{directory}/{name}", directory, self._tree.top(paths.ACCOUNTS), self._tree.root)

    def _caller(self) -> str:
        """Who asks: the key that was used, or else the Unix user."""
        return self._by or self._gate.key_id or _user()


def first(tree: paths.Tree, commit: Commit) -> tuple[AccountRecord, Key, str]:
    """Make the account and the key that a spool which requires keys begins with. Raises OSError, StorageError."""
    store = AccountStore(tree, commit, Access(tree.root), BY_INIT)
    account = store.create("first account", [access.FULL])
    return account, *store.create_key(account.service_account_id, "first key")


def left_by_init(tree: paths.Tree) -> bool:
    """Whether there is nothing in accounts/ but what inits that were killed left: their keys nobody was told."""
    names = looking.names_if_any(tree.top(paths.ACCOUNTS))
    return all(_is_by_init(tree, name) for name in names if not name.startswith("."))


def _is_by_init(tree: paths.Tree, name: str) -> bool:
    directory = tree.account(name)
    kinds: dict[str, tuple[type[Record], str]] = {
        paths.account_revision(1): (AccountRecord, "updated_by"),
        paths.KEY: (KeyRecord, "created_by"),
    }
    for file in looking.names_if_any(directory):
        model, by = kinds.get(file, (Record, ""))
        made_by = None
        with suppress(Damaged, OSError):
            made_by = getattr(_read(model, f"{directory}/{file}"), by) if by else None
        if made_by != BY_INIT and not file.startswith("."):
            return False
    return ids.is_account_id(name) or ids.is_key_id(name)


def _all(names: Iterable[str], load: Callable[[str], R], damaged: list[str] | None) -> list[R]:
    """The records of some ids, newest first; the ids of damaged ones go into ``damaged``."""
    found = []
    for name in sorted(names, reverse=True):
        try:
            found.append(load(name))
        except NotFound:
            pass  # who made its directory died before there was a record in it
        except Damaged:
            if damaged is not None:
                damaged.append(name)
    return found


def _read(model: type[R], path: str) -> R:
    return read_record(model, looking.read(path, access.RECORD_LIMIT), path)


# -- what is given ----------------------------------------------------------------------------------


def _now() -> str:
    return durations.rfc3339(time.time_ns() // 1_000_000)


def _user() -> str:
    try:
        return getpass.getuser().encode(errors="replace").decode()  # LOGNAME may be set to any bytes
    except (KeyError, OSError):
        return str(os.getuid())


def _account_id(text: str) -> str:
    if not isinstance(text, str) or not ids.is_account_id(text):
        hint = "it looks like sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R; 'breyta service-accounts list' shows them"
        raise InvalidInput(f"not the id of a service account: {shown(text)}", hint=hint, field="serviceAccountId")
    return text


def _key_id(text: str) -> str:
    if not isinstance(text, str) or not ids.is_key_id(text):
        hint = "a key's id looks like key-01JD0W3Z8Q4X5V6B7N8M9K0P1R; 'breyta service-accounts keys list' shows them"
        # Not what was given: somebody may have taken the key itself for its id.
        raise InvalidInput("not the id of a key", hint=hint, field="keyId")
    return text


def _no_key_of(whose: str, key_id: str) -> NotFound:
    return NotFound(
        f"no such key of {whose}: {key_id}", hint="'breyta service-accounts keys list' shows them", keyId=key_id
    )


def _name(text: str) -> str:
    if not isinstance(text, str) or not 1 <= len(text) <= 100 or not text.isprintable() or text != text.strip():
        raise InvalidInput(f"name: {shown(text)} is not a name: 1 to 100 characters that can be printed", field="name")
    return text


def _status(text: str) -> str:
    if text not in (access.ACTIVE, access.DISABLED):
        raise InvalidInput(f"unknown status {shown(text)}: allowed are active, disabled", field="status")
    return text


def _job_types(given: Iterable[str]) -> list[str]:
    return sorted({paths.check_job_type(job_type) for job_type in given})


def _metadata(given: Mapping[str, Any] | None) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise InvalidInput(f"metadata must be an object, not {jsonio.kind_of(given)}", field="metadata")
    metadata = dict(given or {})
    jsonio.check_depth(metadata, "metadata")
    if len(jsonio.compact(metadata, "metadata")) > METADATA_LIMIT:
        raise InvalidInput(f"metadata: more than {METADATA_LIMIT} bytes", field="metadata")
    return metadata


def _expiry(text: str | None) -> str | None:
    if text is None:
        return None
    ms = durations.epoch_ms(text, field="expiresAt")
    if ms <= time.time() * 1000:
        raise InvalidInput(f"expiresAt: {text} is in the past, by this host's clock", field="expiresAt")
    return durations.rfc3339(ms)
