"""SqliteFile: reads messages from an SQLite file of rosbag2 in the order of their log times."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from struct import Struct
from typing import ClassVar

from ros_kd_perception.bags.errors import CutOff, Damaged
from ros_kd_perception.bags.sqlite_database import immutable_uri
from ros_kd_perception.bags.storage import StoredMessage, StoredTopic, ros2_type

_TIMES_END = (1 << 63) - 1
# From the first 100 bytes: page size, change counter, number of pages, change counter at which that number was valid.
_FILE_HEAD = Struct(">16sH6xII60xI4x")


class SqliteFile:
    """An open .db3 file. The attributes are those of StorageFile.

    The definitions of message types in the file are ignored.

    Raises:
        CutOff: The file is shorter than its header says.
        Damaged: The file has wrong bytes.
        ValueError: The database is not a bag.
        OSError: The file cannot be read.
    """

    repair: ClassVar[str] = "`sqlite3 FILE .recover | sqlite3 NEW.db3`"

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_length(path)
        # A bag is opened in one thread and may be read in another, but never in two at the same time.
        self._database = sqlite3.connect(immutable_uri(path), uri=True, check_same_thread=False)
        try:
            # Keep the page cache small: each page of a large message is read only once.
            self._database.execute("PRAGMA cache_size = -256")
            # Replace invalid UTF-8, so that the name of an unused topic does not make the file unreadable.
            self._database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            self._open()
        except sqlite3.Error as error:
            self.close()
            raise _error(error) from None
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        tables = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"topics", "messages"} <= tables:
            raise ValueError(
                f"expected the tables topics and messages, found {', '.join(sorted(tables)[:9]) or 'no tables'}; give "
                "the database of a bag"
            )
        counts = dict(self._database.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
        self.topics = tuple(
            StoredTopic(number, str(name), ros2_type(str(kind), str(encoding)), counts.get(number, 0))
            for number, name, kind, encoding in self._database.execute(
                "SELECT id, name, type, serialization_format FROM topics ORDER BY id"
            )
        )
        self.undeclared = sum(counts.values()) - sum(topic.count for topic in self.topics)
        [start_ns] = self._database.execute("SELECT min(timestamp) FROM messages").fetchone()
        [end_ns] = self._database.execute("SELECT max(timestamp) FROM messages").fetchone()
        self.start_ns, self.end_ns = _integer(start_ns or 0), _integer(end_ns or 0)

    def messages(self, topic_ids: Collection[int], start_ns: int | None, end_ns: int | None) -> Iterator[StoredMessage]:
        """Implement `StorageFile.messages`."""
        condition = f"topic_id IN ({','.join('?' * len(topic_ids))})"
        values = [*topic_ids]
        if start_ns is not None:
            condition += " AND timestamp >= ?"
            values.append(start_ns)
        if end_ns is not None:
            condition += " AND timestamp < ?"
            values.append(min(end_ns, _TIMES_END))
        query = f"SELECT topic_id, timestamp, data FROM messages WHERE {condition} ORDER BY timestamp, id"
        try:
            for topic_id, log_time_ns, data in self._database.execute(query, values):
                # A column of SQLite may hold any type. A view lets rosbags use the pixels without a copy.
                content = memoryview(data) if isinstance(data, bytes) else b""
                yield StoredMessage(topic_id, _integer(log_time_ns), content)
        except sqlite3.Error as error:
            raise _error(error) from None

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _error(error: sqlite3.Error) -> ValueError:
    # Only DatabaseError itself means wrong bytes. Its subclasses mean that the tables are different from a bag's.
    return Damaged(str(error)) if type(error) is sqlite3.DatabaseError else ValueError(str(error))


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError(f"expected integers as times, got {str(value)[:40]!r}")
    return value


def _check_length(path: Path) -> None:
    """Refuse a file that is shorter than its header says. SQLite itself notices only when it reads a missing page."""
    with path.open("rb") as file:
        head = file.read(_FILE_HEAD.size)
    size = path.stat().st_size
    if len(head) < _FILE_HEAD.size:
        raise CutOff(f"it has only {size} bytes")
    _, page_size, changes, page_count, counted_at_change = _FILE_HEAD.unpack(head)
    stated = page_count * (page_size if page_size > 1 else 1 << 16)
    if changes == counted_at_change and stated > size:
        raise CutOff(f"it should have {stated} bytes and has {size}")
