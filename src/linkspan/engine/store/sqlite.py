"""State in one SQLite file.

WAL mode with synchronous NORMAL: a commit appends to the write-ahead log and waits for no
disk, so a transaction runs right in the event loop (tens of microseconds; a thread would cost
more than it saves). What waits for the disk is the checkpoint; it runs in a thread, seconds
after a change. A killed process loses nothing. A power failure may lose the last seconds, as it
does the kernel objects that they describe, but never half a transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from linkspan.engine.store.interface import Change, Entry, check_keys
from linkspan.engine.store.watch import LocalWatch
from linkspan.errors import Conflict, Outdated, StorageFailed

APPLICATION_ID = 0x6C736E6B
"""In the file's header, so that it is known as ours ("lsnk")."""
SCHEMA_VERSION = 1
MEMORY = ":memory:"
"""Instead of a path: a store that ends with the process."""
CHECKPOINT_DELAY = 5.0
"""Seconds after a change until it is moved from the log into the file itself."""
CHECKPOINT_TRANSACTIONS = 1000
"""Transactions after which that is done at once: the log has grown by some 20 MB then."""
LONGEST_LOG = 8192
"""Pages (of 4 KiB) of the log above which it is emptied even if that holds up the event loop
for a few milliseconds."""
BUSY_SECONDS = 2.0
"""How long to wait for another process that has the file locked, a backup for example."""

_SCHEMA = (
    "CREATE TABLE entry (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE counter (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL)",
    "INSERT INTO counter VALUES (1, 0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_UPSERT = (
    "INSERT INTO entry VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision"
)

_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space there and try again",
    sqlite3.SQLITE_IOERR: "the disk reports an error; see the kernel log, or free some space",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the folder's owner and mount options",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that the folder is there and is ours",
    sqlite3.SQLITE_PERM: "it cannot be opened; check the file's owner and mode",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a backup, or move it away",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database; move it away, or name another folder",
    sqlite3.SQLITE_BUSY: "another process has it locked; end that process and try again",
    sqlite3.SQLITE_LOCKED: "another process has it locked; end that process and try again",
}


class SqliteStore:
    """A Store in one file, used by one process and one event loop."""

    def __init__(self, path: Path | str) -> None:
        """Open or create the file; its folder is made if it is missing.

        Raises:
            Conflict: another process uses this file.
            StorageFailed: the file cannot be opened or written, is damaged, not a file of
                ours, or made by a newer version.
        """
        self.path = str(path)
        self._watchers: set[LocalWatch] = set()
        self._checkpoint: asyncio.Task[None] | None = None
        self._unmoved = 0
        self._much = asyncio.Event()
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        try:
            if self.path != MEMORY:
                self._lock = claim_file(Path(self.path))
            with self._failing("open"):
                self._connection = connect(self.path)
                self._revision = prepare_schema(self._connection, self.path)
        except BaseException:
            self._release()
            raise

    @property
    def revision(self) -> int:
        """The revision of the last transaction."""
        return self._revision

    async def get(self, key: str) -> Entry | None:
        """See Store.get."""
        with self._failing("read"):
            row = (
                self._opened()
                .execute("SELECT value, revision FROM entry WHERE key = ?", (key,))
                .fetchone()
            )
        return None if row is None else Entry(key, row[0], row[1])

    async def list(
        self, prefix: str, *, after: str = "", limit: int | None = None, reverse: bool = False
    ) -> list[Entry]:
        """See Store.list."""
        query = (
            "SELECT key, value, revision FROM entry WHERE key >= ? AND key > ? AND key < ? "
            f"ORDER BY key {'DESC' if reverse else 'ASC'} LIMIT ?"
        )
        bounds = (prefix, after, prefix + "\U0010ffff", -1 if limit is None else limit)
        with self._failing("read"):
            return [Entry(*row) for row in self._opened().execute(query, bounds)]

    async def transaction(
        self,
        puts: Mapping[str, bytes] | None = None,
        deletes: Iterable[str] = (),
        expect: Mapping[str, int | None] | None = None,
    ) -> int:
        """See Store.transaction. Never yields to the event loop."""
        puts, deletes, expect = puts or {}, tuple(deletes), expect or {}
        check_keys(puts, deletes)
        with self._failing("write"):
            changes = self._write(self._opened(), puts, deletes, expect)
        if changes:
            for watcher in tuple(self._watchers):
                watcher.feed(changes)
            self._plan_checkpoint()
        return self._revision

    def _write(
        self,
        connection: sqlite3.Connection,
        puts: Mapping[str, bytes],
        deletes: tuple[str, ...],
        expect: Mapping[str, int | None],
    ) -> tuple[Change, ...]:
        revision = self._revision + 1
        connection.execute("BEGIN IMMEDIATE")
        try:
            for key, wanted in expect.items():
                check_revision(connection, key, wanted)
            deleted = [
                Change(key, None, revision)
                for key in deletes
                if connection.execute("DELETE FROM entry WHERE key = ?", (key,)).rowcount
            ]
            connection.executemany(_UPSERT, [(key, puts[key], revision) for key in puts])
            written = [Change(key, value, revision) for key, value in puts.items()]
            changes = (*deleted, *written)
            if changes:
                connection.execute("UPDATE counter SET revision = ?", (revision,))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # some errors roll back by themselves
                connection.execute("ROLLBACK")
            raise
        if changes:
            self._revision = revision
        return changes

    def watch(self, prefix: str) -> LocalWatch:
        """See Store.watch."""
        return LocalWatch(prefix, self._watchers)

    async def close(self) -> None:
        """See Store.close."""
        if self._checkpoint is not None:
            self._checkpoint.cancel()
            # A thread that is at work cannot be cancelled; wait for it.
            with contextlib.suppress(asyncio.CancelledError):
                await self._checkpoint
        for watcher in tuple(self._watchers):
            watcher.close()
        self._release()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageFailed(f"the state in {self.path} is closed")
        return self._connection

    def _release(self) -> None:
        if self._connection is not None:
            # Closing the last connection moves the log into the file; a full disk hinders
            # only that, and the log stays.
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def _failing(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain(error, verb, self.path) from error

    def _plan_checkpoint(self) -> None:
        if self.path == MEMORY:
            return
        self._unmoved += 1
        if self._unmoved >= CHECKPOINT_TRANSACTIONS:
            self._much.set()
        if self._checkpoint is None or self._checkpoint.done():
            self._checkpoint = asyncio.get_running_loop().create_task(self._checkpoint_later())

    async def _checkpoint_later(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._much.wait(), CHECKPOINT_DELAY)
        self._unmoved = 0
        self._much.clear()
        work = asyncio.get_running_loop().run_in_executor(None, move_log, self.path)
        try:
            pages = await asyncio.shield(work)
        except asyncio.CancelledError:
            await work
            raise
        if pages > LONGEST_LOG and self._connection is not None:
            # Written to without a pause, the log never was empty and only grew. What the thread
            # left is little: moved right here, nothing comes between.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def connect(path: str) -> sqlite3.Connection:
    """A connection whose transactions are explicit and whose commits wait for no disk."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {LONGEST_LOG * 4096}")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare_schema(connection: sqlite3.Connection, path: str) -> int:
    """Make the tables in an empty file, check them in another; gives the last revision.

    Raises:
        StorageFailed: the file belongs to another program or a newer version, or is damaged.
        sqlite3.Error: it could not be read or written.
    """
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not tables:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise StorageFailed(f"{path} belongs to another program; name another state folder")
    if version > SCHEMA_VERSION:
        raise StorageFailed(
            f"{path} was written by a newer linkspan (schema {version}, this one knows "
            f"{SCHEMA_VERSION}); start that version, or name another state folder"
        )
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise StorageFailed(f"{path}: {_ADVICE[sqlite3.SQLITE_CORRUPT]} ({damage})")
    return int(connection.execute("SELECT revision FROM counter").fetchone()[0])


def check_revision(connection: sqlite3.Connection, key: str, wanted: int | None) -> None:
    """Raise Outdated unless `key` has this revision (None: does not exist)."""
    row = connection.execute("SELECT revision FROM entry WHERE key = ?", (key,)).fetchone()
    found = None if row is None else row[0]
    if found == wanted:
        return
    if wanted is None:
        raise Outdated(f"{key} exists already; another request made it meanwhile; try again")
    what = "removed" if found is None else "changed"
    raise Outdated(f"{key} was {what} by another request meanwhile; try again")


def move_log(path: str) -> int:
    """Move what is in the write-ahead log into the file, and wait for the disk; gives the pages
    that the log has grown to.

    An error here is no loss: the log holds everything, and the next change tries again.
    """
    try:
        connection = connect(path)
        try:
            pages: int = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
        finally:
            connection.close()
    except sqlite3.Error:
        return 0
    return pages


def claim_file(path: Path) -> int:
    """Make the file, readable to us alone, and lock it; the lock lasts while the given
    descriptor is open.

    The lock is on a file beside it: closing any descriptor of the database itself would drop
    the locks that SQLite has on it (fcntl(2)).

    Raises:
        Conflict: another process holds it.
        StorageFailed: the folder or a file cannot be made.
    """
    beside = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except BaseException:
            os.close(descriptor)
            raise
    except BlockingIOError:
        raise Conflict(
            f"the state in {path} is used by another linkspan daemon; give this one its own "
            "--state-dir"
        ) from None
    except OSError as error:
        raise StorageFailed(
            f"cannot open the state in {path}: {error.strerror}; check the folder's owner, "
            "mount options and free space"
        ) from error
    return descriptor


def explain(error: sqlite3.Error, verb: str, path: str) -> StorageFailed:
    """An error of SQLite as ours: with the path, and what to do."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    advice = _ADVICE.get(code)
    detail = f"{advice} ({error})" if advice else str(error)
    return StorageFailed(f"cannot {verb} the state in {path}: {detail}")
