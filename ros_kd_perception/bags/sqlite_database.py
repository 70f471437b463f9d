"""SQLite databases of bags as their recorder left them: what it committed may still lie in a log beside the file.

Bags are read as immutable databases, without locks, which passes over every log. So a database with a log is copied
together with it, and SQLite merges the two in the copy. Nothing is ever written beside the user's files.
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
_JOURNAL_FIRST_BYTES = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"  # those of one that was committed are zeros
_COPY_ATTEMPTS = 3
# Bytes that SQLite locks for writing: https://www.sqlite.org/src/file/src/os.h, PENDING_BYTE and what follows it.
_LOCKED_FROM, _LOCKED_COUNT = 0x40000000, 512
_FLOCK = struct.Struct("hhqqi4x")


def immutable_uri(database: Path) -> str:
    """The URI by which SQLite reads a database as it lies there, without locks and logs, whatever its path is."""
    # Two slashes at its start would name a host.
    path = quote(os.fsencode(database.absolute())).lstrip("/")
    return f"file:/{path}?mode=ro&immutable=1"


def logs_of(database: Path) -> list[Path]:
    """Logs beside a database from which SQLite would recover it: a write-ahead log, or a rollback journal in use."""
    logs = []
    for suffix in _LOGS:
        # SQLite looks beside the file that a link leads to; a store of links has both.
        beside = {folder.with_name(folder.name + suffix) for folder in (database.resolve(), database.absolute())}
        logs += [log for log in sorted(beside) if log.is_file() and _is_in_use(log)][:1]
    return logs


def copied_bytes(database: Path) -> int:
    """How much room a copy needs while its logs are merged into it."""
    return database.stat().st_size + 2 * sum(log.stat().st_size for log in logs_of(database))


def state_of(file: Path) -> tuple[int, int]:
    """What changes when a file is written to: its size, and the time of the last change."""
    state = file.stat()
    return state.st_size, state.st_mtime_ns


def copy_with_logs(database: Path, target: Path) -> str:
    """Copy a database and its logs and merge them in the copy.

    Args:
        database: as it was recorded; it and its folder are only read.
        target: the copy, in a folder of its own.

    Returns:
        A sentence that says what was done; empty if there turned out to be no log.

    Raises:
        BagError: it changes while it is copied, or its log does not fit it.
        OSError: it cannot be read, or the copy not be written.
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
                raise ValueError("what the database holds is not in it any more")
    except (sqlite3.Error, ValueError) as error:
        raise BagError(
            f"expected {names} to be the log of {database}, got one that does not fit it ({one_line(error)}); move it "
            "elsewhere to read the database without it, or record the bag again"
        ) from None
    if pages == 0:
        return f"{names} holds nothing that was committed to {database.name}, which was read without it"
    return f"{database.name} was cut off or is still being recorded: what was committed is read with {names}"


def check_not_in_transaction(database: Path) -> None:
    """Refuse a database that another process is in the middle of writing to.

    Raises:
        BagError: that is so.
        OSError: the file cannot be opened.
    """
    with database.open("rb") as file:
        asked = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, _LOCKED_FROM, _LOCKED_COUNT, 0)
        try:
            kind, *_, process = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
        except OSError:
            return  # a file system without locks: no writer can have one
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
    """Copy a database and its logs, all of one moment, and return the logs."""
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
            # The recorder took its log away: it has just ended.
        for suffix in _LOGS:
            target.with_name(target.name + suffix).unlink(missing_ok=True)
    raise being_written(database, "copied")


def _facts_of_copy(copy: Path) -> tuple[list[tuple[int, str]], list[tuple[int, int]]] | None:
    """Topics, and the first and the last message, of a database without its log; None where that cannot be read."""
    try:
        with closing(sqlite3.connect(immutable_uri(copy), uri=True)) as connection:
            topics = connection.execute("SELECT id, name FROM topics").fetchall()
            ends = "(SELECT min(id) FROM messages), (SELECT max(id) FROM messages)"
            messages = connection.execute(f"SELECT id, timestamp FROM messages WHERE id IN ({ends})").fetchall()
    except sqlite3.Error:
        return None  # all of it is in the log, or it was cut off while the log was being merged
    return topics, messages


def _merge(connection: sqlite3.Connection) -> int:
    """Have SQLite recover a database; returns how many pages of its write-ahead log were valid, -1 without one.

    Raises:
        ValueError, sqlite3.Error: the result is no sound database.
    """
    connection.execute("PRAGMA synchronous=OFF")  # a copy that is gone tomorrow
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the log
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise ValueError(str(verdict))
    return int(pages)


def _holds(
    connection: sqlite3.Connection, topics: Sequence[tuple[int, str]], messages: Sequence[tuple[int, int]]
) -> bool:
    """Whether a database has these topics and messages: a recorder only ever adds to it."""
    checks: list[tuple[str, tuple[object, ...]]] = []
    checks += [("SELECT count(*) FROM topics WHERE id = ? AND name = ?", row) for row in topics]
    checks += [("SELECT count(*) FROM messages WHERE id = ? AND timestamp = ?", row) for row in messages]
    return all(connection.execute(query, row).fetchone()[0] for query, row in checks)
