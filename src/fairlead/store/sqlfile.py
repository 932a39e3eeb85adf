"""The file of the embedded store: its tables, how it is opened, and who owns it.

One process owns the file for writing. It holds a lock on `<file>.lock` for its life (the kernel lets go when it dies, however it
dies), so a second owner is refused with the first one's process id. Anybody may read it: WAL readers and the writer do not wait
for each other.

`synchronous = FULL` syncs the WAL at each commit; NORMAL only at checkpoints, so that a crash of the machine (not of the process)
loses the last commits.

Events are kept as chunks (see `chunk`): one row for all that one commit appended to a topic. So 128 events of a commit cost the
B-tree one insertion. `chunks.last` is the seq of the chunk's newest event; what lies at or before `topics.first` has been trimmed,
even while its chunk, with newer events in it, is still there.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from .contract import Ack, StoreError

VERSION = 1
CACHED = 256  # prepared statements per connection
CHECKPOINT = 4000  # pages of WAL (16 MiB) after which it is copied into the file
LARGEST_WAL = 64 << 20  # bytes to which a WAL that grew is cut when it begins anew
BUSY = 30.0  # seconds that a reader waits while the WAL is being recovered

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE topics (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, epoch INTEGER NOT NULL, first INTEGER NOT NULL,
  last INTEGER NOT NULL, closed INTEGER NOT NULL, bytes INTEGER NOT NULL, created REAL NOT NULL, used REAL NOT NULL,
  gone REAL, trim REAL, config TEXT NOT NULL);
CREATE INDEX topics_gone ON topics (gone) WHERE gone IS NOT NULL;
CREATE INDEX topics_trim ON topics (trim) WHERE trim IS NOT NULL;
CREATE TABLE chunks (topic INTEGER NOT NULL, last INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (topic, last)) WITHOUT ROWID;
CREATE TABLE latest (topic INTEGER NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (topic, key)) WITHOUT ROWID;
CREATE TABLE garbage (topic INTEGER PRIMARY KEY);
CREATE TABLE producers (
  topic INTEGER NOT NULL, id TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, last INTEGER NOT NULL,
  at REAL NOT NULL, PRIMARY KEY (topic, id)) WITHOUT ROWID;
CREATE INDEX producers_at ON producers (at);
CREATE TABLE dedupes (
  topic INTEGER NOT NULL, key TEXT NOT NULL, last INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (topic, key)) WITHOUT ROWID;
CREATE INDEX dedupes_at ON dedupes (at);
CREATE TABLE queues (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, epoch INTEGER NOT NULL,
  cursor INTEGER NOT NULL);
CREATE TABLE items (
  queue INTEGER NOT NULL, id TEXT NOT NULL, state INTEGER NOT NULL, at REAL NOT NULL, priority INTEGER NOT NULL,
  ord INTEGER NOT NULL, fence INTEGER NOT NULL, attempt INTEGER NOT NULL, since REAL NOT NULL, epoch INTEGER, seq INTEGER,
  record BLOB, body BLOB);
CREATE UNIQUE INDEX items_id ON items (queue, id);
CREATE INDEX items_next ON items (queue, state, priority DESC, ord);
CREATE INDEX items_when ON items (queue, state, at);
CREATE INDEX items_due ON items (at) WHERE state > 0;
CREATE TABLE dead (
  queue INTEGER NOT NULL, id TEXT NOT NULL, ord INTEGER NOT NULL, priority INTEGER NOT NULL, attempts INTEGER NOT NULL,
  reason TEXT NOT NULL, at REAL NOT NULL, epoch INTEGER, seq INTEGER, record BLOB, body BLOB);
CREATE UNIQUE INDEX dead_id ON dead (queue, id);
CREATE INDEX dead_ord ON dead (queue, ord);
CREATE TABLE entries (
  key TEXT PRIMARY KEY, purpose TEXT NOT NULL, version INTEGER NOT NULL, expires REAL, due REAL, value BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX entries_due ON entries (purpose, due) WHERE due IS NOT NULL;
CREATE INDEX entries_expires ON entries (expires) WHERE expires IS NOT NULL;
CREATE TABLE callers (id TEXT PRIMARY KEY, done INTEGER NOT NULL, answers BLOB NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""


class Lock:
    """The ownership of a file."""

    def __init__(self, path: str) -> None:
        self.path = f"{path}.lock"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(self.fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self.fd)
            hint = (
                "one server owns a store's file; give each its own store.url, or use postgresql or redis to share one"
            )
            raise StoreError(f"{path} belongs to another server, process {owner}", hint=hint) from None
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        """Let go. The file stays: removing it would let two processes lock two files of one name."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def path_of(url: str) -> str:
    """The file that a `sqlite:` URL means: four slashes are absolute, three are relative. StoreError when there is none."""
    rest = url.partition("?")[0].removeprefix("sqlite://")
    path = rest.removeprefix("/")
    if not rest.startswith("/") or not path:
        raise StoreError(f"{url}: no file", hint='write "sqlite:////var/lib/fairlead/fairlead.db"')
    return path


def open_writer(path: str, ack: Ack | None) -> sqlite3.Connection:
    """The one connection that writes; the file, its folder and its tables are made if they are not there."""
    try:
        Path(path).absolute().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(
            path, isolation_level=None, cached_statements=CACHED, check_same_thread=False, timeout=BUSY
        )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'NORMAL' if ack in (Ack.MEMORY, Ack.NODE) else 'FULL'}")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        db.execute(f"PRAGMA journal_size_limit = {LARGEST_WAL}")
        db.execute("PRAGMA cache_size = -16384")
        made(db, path)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be opened: {error}", hint="another folder: store.url") from error
    return db


def made(db: sqlite3.Connection, path: str) -> None:
    """Make the tables, or check that they are ours."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return
    if version > VERSION or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StoreError(f"{path} is of another program or a newer version", hint="name another file: store.url")
    db.executescript(f"BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")


def open_reader(path: str) -> sqlite3.Connection:
    """A connection that only reads."""
    try:
        address = f"{Path(path).absolute().as_uri()}?mode=ro"
        return sqlite3.connect(
            address, uri=True, isolation_level=None, cached_statements=CACHED, check_same_thread=False, timeout=BUSY
        )
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def trouble(path: str, error: sqlite3.Error) -> StoreError:
    """What SQLite could not do, as an error of ours."""
    code = getattr(error, "sqlite_errorname", "")
    if code == "SQLITE_FULL":
        return StoreError(
            f"{path}: the disk is full", retry="always", status=507, hint="free some room; nothing acknowledged is lost"
        )
    if code.startswith("SQLITE_TOOBIG"):
        return StoreError(f"{path}: too big for a row: {error}", side="peer", status=413)
    damaged = code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
    hint = "restore a backup, or move the file away to begin anew" if damaged else ""
    return StoreError(f"{path}: {error} ({code})", retry="never" if damaged else "always", status=503, hint=hint)


def above(prefix: str) -> str:
    """The smallest text that is above every text with this prefix; "" when there is none."""
    while prefix:
        code = ord(prefix[-1]) + 1
        if code == 0xD800:
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[:-1] + chr(code)
        prefix = prefix[:-1]
    return ""
