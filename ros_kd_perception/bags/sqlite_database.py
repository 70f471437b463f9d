"""Prepares SQLite databases of bags for reading, including data that is still in a log beside the database.

Bags are opened as immutable databases, without locks, and SQLite then ignores logs. A database with a log is therefore
copied together with the log, and SQLite merges the two in the copy. Nothing is written beside the user's files.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ros_kd_perception.bags.errors import BagError, being_written, one_line

_LOGS = ("-wal", "-journal")
_WAL_HEADER_BYTES = 32
_JOURNAL_FIRST_BYTES = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"  # zeros after the commit
_COPY_ATTEMPTS = 3
# Bytes that SQLite locks for writing, see PENDING_BYTE and below in https://www.sqlite.org/src/file/src/os.h.
_LOCKED_FROM, _LOCKED_COUNT = 0x40000000, 512
_FLOCK = struct.Struct("hhqqi4x")


def immutable_uri(database: Path) -> str:
    """Return the URI that makes SQLite read a database without locks and logs. Any path is allowed."""
    # A path with two slashes at the start would be read as a host name.
    path = quote(os.fsencode(database.absolute())).lstrip("/")
    return f"file:/{path}?mode=ro&immutable=1"


def logs_of(database: Path) -> list[Path]:
    """Return the logs beside a database that SQLite would recover it from: write-ahead log, rollback journal in use."""
    logs = []
    for suffix in _LOGS:
        # SQLite looks beside the target of a symbolic link. A folder of links has a link to the log as well.
        beside = {folder.with_name(folder.name + suffix) for folder in (database.resolve(), database.absolute())}
        logs += [log for log in sorted(beside) if log.is_file() and _is_in_use(log)][:1]
    return logs


def copied_bytes(database: Path) -> int:
    """Return how many bytes a copy needs on the disk while its logs are merged into it."""
    return database.stat().st_size + 2 * sum(log.stat().st_size for log in logs_of(database))


def state_of(file: Path) -> tuple[int, int]:
    """Return size and modification time of a file, to find out later whether something wrote to it."""
    state = file.stat()
    return state.st_size, state.st_mtime_ns


def copy_with_logs(database: Path, target: Path) -> str:
    """Copy a database and its logs and merge them in the copy.

    Args:
        database: The database. Nothing is written to it or its folder.
        target: Path of the copy, in a folder that holds nothing else.

    Returns:
        A sentence that says what was done. Empty if the log has disappeared meanwhile.

    Raises:
        BagError: The database changes while it is copied, or its log does not match it.
        OSError: The database cannot be read, or the copy cannot be written.
    """
    logs = _copy(database, target)
    if not logs:
        return ""
    names = " and ".join(log.name for log in logs)
    try:
        before = _facts_of_copy(target) if logs[0].name.endswith("-wal") else None
        with closing(sqlite3.connect(target, isolation_level=None)) as connection:
            pages = _merge(connection)
            if before is not None and not _holds(connection, *before):
                raise ValueError("contents of the database are missing after the merge")
    except (sqlite3.Error, ValueError) as error:
        raise BagError(
            f"expected {names} to be the log of {database}, got one that does not match it ({one_line(error)}); move "
            "the log elsewhere to read the database without it, or record the bag again"
        ) from None
    if pages == 0:
        return f"{names} holds no committed data, so {database.name} is read without it"
    return f"{database.name} was cut off or is still being recorded: its committed data is read with {names}"


def check_not_in_transaction(database: Path) -> None:
    """Refuse a database that another process is writing to.

    Raises:
        BagError: Another process holds a lock for writing.
        OSError: The file cannot be opened.
    """
    with database.open("rb") as file:
        asked = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, _LOCKED_FROM, _LOCKED_COUNT, 0)
        try:
            kind, *_, process = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
        except OSError:
            return  # the file system has no locks, so no writer can hold one
    if kind != fcntl.F_UNLCK:
        raise BagError(
            f"expected {database} to be complete, but process {process} is writing to it; wait until the recording has "
            "ended"
        )


def _is_in_use(log: Path) -> bool:
    if log.name.endswith("-wal"):
        return log.stat().st_size > _WAL_HEADER_BYTES
    with log.open("rb") as file:
        return file.read(len(_JOURNAL_FIRST_BYTES)) == _JOURNAL_FIRST_BYTES


def _copy(database: Path, target: Path) -> list[Path]:
    """Copy a database and its logs in one consistent state, and return the logs."""
    for _ in range(_COPY_ATTEMPTS):
        try:
            logs = logs_of(database)
            before = [state_of(file) for file in (database, *logs)]
            shutil.copyfile(database, target)
            for log in logs:
                shutil.copyfile(log, target.with_name(target.name + log.name[log.name.rindex("-") :]))
            if logs_of(database) == logs and [state_of(file) for file in (database, *logs)] == before:
                return logs
        except FileNotFoundError:
            if not database.exists():
                raise
            # The recorder has just ended and removed its log. Try again.
        for suffix in _LOGS:
            target.with_name(target.name + suffix).unlink(missing_ok=True)
    raise being_written(database, "copied")


def _facts_of_copy(copy: Path) -> tuple[list[tuple[int, str]], list[tuple[int, int]]] | None:
    """Return topics and the first and last message of a database without its log, or None if they are unreadable."""
    try:
        with closing(sqlite3.connect(immutable_uri(copy), uri=True)) as connection:
            topics = connection.execute("SELECT id, name FROM topics").fetchall()
            ends = "(SELECT min(id) FROM messages), (SELECT max(id) FROM messages)"
            messages = connection.execute(f"SELECT id, timestamp FROM messages WHERE id IN ({ends})").fetchall()
    except sqlite3.Error:
        return None  # all data is in the log, or a merge of the log was interrupted
    return topics, messages


def _merge(connection: sqlite3.Connection) -> int:
    """Let SQLite recover a database.

    Returns:
        The number of valid pages in the write-ahead log. -1 without a write-ahead log.

    Raises:
        ValueError, sqlite3.Error: The result is not a valid database.
    """
    connection.execute("PRAGMA synchronous=OFF")  # the copy is temporary and need not survive a power failure
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # makes SQLite open the log
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise ValueError(str(verdict))
    return int(pages)


def _holds(
    connection: sqlite3.Connection, topics: Sequence[tuple[int, str]], messages: Sequence[tuple[int, int]]
) -> bool:
    """Return whether a database has these topics and messages. A recorder only adds rows, so none may be missing."""
    checks: list[tuple[str, tuple[object, ...]]] = []
    checks += [("SELECT count(*) FROM topics WHERE id = ? AND name = ?", row) for row in topics]
    checks += [("SELECT count(*) FROM messages WHERE id = ? AND timestamp = ?", row) for row in messages]
    return all(connection.execute(query, row).fetchone()[0] for query, row in checks)
