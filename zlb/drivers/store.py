"""What a replica keeps through crashes, in one SQLite file: `zlb.core.replica`'s records in, what they fold to out."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn
from zlib import crc32

from zlb.core.errors import ExitCode, ZlbError
from zlb.core.ids import NodeId
from zlb.core.limits import SNAPSHOT_BYTES_MAX
from zlb.core.replica import (
    Append,
    Configuration,
    Entry,
    EntryKind,
    Index,
    ReplicaRecord,
    Saved,
    Snapshot,
    Vote,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PAGE_BYTES = 4096
WAL_PAGES = 4096
"""16 MiB between checkpoints: each costs two fsyncs more, a longer WAL a longer start after a crash."""
WAL_BYTES_KEPT = 64 << 20
"""A WAL that a snapshot made larger is cut down to this."""
FRAMES_AT_ONCE = 1024
LOG = "log.sqlite3"
APPLICATION_ID = 0x7A6C_626C  # "zlbl": tells our file from any other of SQLite's
FORMAT = 1

# `state` is one row, rewritten with each group: with it a lost tail, or a lost snapshot, is noticed.
SCHEMA = """
CREATE TABLE owner (cluster TEXT, node TEXT, directory TEXT, device TEXT, filesystem TEXT, inode TEXT);
CREATE TABLE state (term INTEGER, voted_for TEXT, first INTEGER, last INTEGER, snapshot INTEGER, sum INTEGER);
CREATE TABLE snapshot (idx INTEGER, term INTEGER, time_ns INTEGER, configuration TEXT, data BLOB, trimmed INTEGER,
                       replaces_log INTEGER, sum INTEGER);
CREATE TABLE entry (idx INTEGER PRIMARY KEY, term INTEGER, kind INTEGER, time_ns INTEGER, data BLOB, sum INTEGER);
"""
INSERT_ENTRY = "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)"
INSERT_SNAPSHOT = "INSERT INTO snapshot VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_OWNER = "INSERT INTO owner VALUES (?, ?, ?, ?, ?, ?)"
INSERT_STATE = "INSERT INTO state VALUES (?, ?, ?, ?, ?, ?)"
UPDATE_STATE = "UPDATE state SET term = ?, voted_for = ?, first = ?, last = ?, snapshot = ?, sum = ?"

_WAL_HEAD_BYTES = 32
_FRAME_BYTES = 24 + PAGE_BYTES

REMEDY = "remove the directory and join as a new member"
KINDS = {int(kind): kind for kind in EntryKind}
Row = tuple[Index, int, int, int, bytes, int]
_entry_head = struct.Struct("<qqBq").pack


class StoreFailed(ZlbError):
    """A save may not have reached the disk, or the store is closed. Start again from what `load` then finds."""

    def __init__(self, text: str) -> None:
        super().__init__(text, ExitCode.FAILED)


class _State(NamedTuple):
    """The row that says what else there is: `first` to `last` are the log, `snapshot` is that row's checksum."""

    term: int = 0
    voted_for: NodeId | None = None
    first: Index = 1
    last: Index = 0
    snapshot: int | None = None


class _Place(NamedTuple):
    """Where a file lies, in words: numbers may be larger than SQLite's."""

    device: str
    filesystem: str
    inode: str

    def same(self, other: _Place) -> bool:
        """Whether it is the same file, also after a start of the machine that numbered its devices anew."""
        # A device number may change with a reboot, a file system's id is then often its UUID; 0 is none at all.
        same_id = self.filesystem == other.filesystem != "0"
        return self.inode == other.inode and (self.device == other.device or same_id)


class Store:
    """The log in `path`/log.sqlite3 of `node` in `cluster`, made if need be and ours alone until `close`.

    Belongs to the thread that made it. Raises `ZlbError` when the directory cannot be used: another process has it, it
    is another cluster's or node's, it is damaged, or it is a copy: two members that share a past also share a vote,
    and a term then has two leaders. After a move to another disk, or after restoring the latest state, and only if
    no other copy will ever run, `adopt` takes the directory as it is.
    """

    def __init__(self, path: Path, cluster: str, node: NodeId, *, adopt: bool = False) -> None:
        self.path = path
        self._file = path / LOG
        self._why_closed = ""
        self._db: sqlite3.Connection | None = None
        try:
            _make_directory(path)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ZlbError(f"data directory {path}: {error.strerror}", ExitCode.USAGE) from None
        try:
            # A file of its own: closing any descriptor of SQLite's file would drop SQLite's locks on it.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _check_wal(
                path / "log.sqlite3-wal"
            )  # before SQLite sees it, and drops what it takes for a torn end
            self._open(cluster, node, adopt)
        except BlockingIOError:
            self._refuse("is used by another process")
        except OSError as error:
            self._refuse(f"cannot be used: {error.strerror}")
        except (sqlite3.Error, ValueError) as error:
            self._damaged(error)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def is_at(path: Path) -> bool:
        """Whether there is one already."""
        return (path / LOG).exists()

    def load(self) -> Saved:
        """All that was saved, folded, every byte of it checked.

        Raises `ZlbError` and closes if anything is damaged or missing; nothing is mended or left out.
        """
        db = self._usable()
        try:
            return self._read(db)
        except (sqlite3.Error, ValueError) as error:
            self._damaged(error)

    def save(self, records: Sequence[ReplicaRecord]) -> None:
        """Fold `records` in, in order, in one transaction: durable on return, all of them.

        Raises `StoreFailed` if that may not be so, and closes: after a failed fsync nobody knows what is on the disk,
        so there is no second try. What was saved before is safe; these records are found again all or not at all.
        """
        db = self._usable()
        if not records:
            return
        try:
            db.execute("BEGIN IMMEDIATE")
            state = self._apply(db, records)
            db.execute(UPDATE_STATE, (*state, _sum(state)))
            db.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            reason = "the disk is full" if full else _line(error)
            self.close(f"a save failed: {reason}")
            raise StoreFailed(f"cannot save to {self._file}: {reason}") from None
        except BaseException:
            self.close("a save was broken off")
            raise
        self._state = state

    def close(self, why: str = "it was closed") -> None:
        """Let go of the directory; again is fine. Whatever was saved stays saved."""
        if self._lock < 0:
            return
        self._why_closed = why
        if self._db is not None:
            with suppress(sqlite3.Error):  # a transaction left open is rolled back
                self._db.close()
            self._db = None
        os.close(self._lock)
        self._lock = -1

    # ---- opening

    def _open(self, cluster: str, node: NodeId, adopt: bool) -> None:
        # The transactions are ours to begin and end; nobody else is to be waited for.
        db = self._db = sqlite3.connect(self._file, timeout=0, isolation_level=None)
        # Exclusive: no tool writes next to us, and the WAL's index lives in our memory instead of a shared file.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA cell_size_check = ON")
        known = os.pread(self._lock, 64, 0).decode(errors="replace").strip()
        new = _one(db, "SELECT count(*) FROM sqlite_master") == 0
        if new and known:
            self._refuse(f"has lost its log: {REMEDY}", ExitCode.FAILED)
        if not new and (
            _one(db, "PRAGMA application_id") != APPLICATION_ID or _one(db, "PRAGMA user_version") != FORMAT
        ):
            self._refuse("was not written by this version of zlb")
        if new:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        if _one(db, "PRAGMA journal_mode = WAL") != "wal":
            self._refuse("cannot be used: SQLite keeps no write-ahead log there")
        db.execute("PRAGMA synchronous = FULL")  # the WAL is synced at each commit
        db.execute("PRAGMA fullfsync = ON")  # macOS: without it the drive's own cache is not written out
        db.execute("PRAGMA checkpoint_fullfsync = ON")
        db.execute(
            "PRAGMA secure_delete = OFF"
        )  # on in some builds: it would write zeros over what is trimmed
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        if new:
            self._create(db, cluster, node)
        else:
            self._check_owner(db, cluster, node, adopt, known)
        # What a crashed process left in the WAL may be readable and yet not on the disk, if its last fsync failed:
        # written once more, to the main file, it is before anyone acts on it.
        if _one(db, "PRAGMA wal_checkpoint(TRUNCATE)") != 0:
            self._refuse("is used by another process")
        self._state = self._read_state(db)

    def _create(self, db: sqlite3.Connection, cluster: str, node: NodeId) -> None:
        directory = secrets.token_hex(16)
        db.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        db.execute(INSERT_OWNER, (cluster, node, directory, *_place(self._file)))
        db.execute(INSERT_STATE, (*_State(), _sum(_State())))
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")
        # After the log itself: from now on a directory without one has lost it.
        self._remember(directory)

    def _remember(self, directory: str) -> None:
        os.pwrite(self._lock, directory.encode() + b"\n", 0)
        os.fsync(self._lock)
        _sync_directory(self.path)

    def _check_owner(
        self, db: sqlite3.Connection, cluster: str, node: NodeId, adopt: bool, known: str
    ) -> None:
        ((its_cluster, its_node, directory, *place),) = db.execute("SELECT * FROM owner").fetchall()
        if its_cluster != cluster:
            self._refuse(f"belongs to cluster {its_cluster!r}, not to {cluster!r}")
        if its_node != node:
            self._refuse(f"belongs to node {its_node!r}, not to {node!r}")
        here, there = _place(self._file), _Place(*place)
        same = here.same(there) and known in (
            "",
            directory,
        )  # none if the first start ended before it was kept
        if not same and not adopt:
            self._refuse(
                f"is a copy, or was moved or restored: {REMEDY}; or, if this is its latest state and no other copy "
                "will ever run, adopt it (--adopt)"
            )
        if not same:
            directory = secrets.token_hex(16)
        if not same or here != there:
            update = "UPDATE owner SET directory = ?, device = ?, filesystem = ?, inode = ?"
            db.execute(update, (directory, *here))
        if known != directory:
            self._remember(directory)

    # ---- reading

    def _read(self, db: sqlite3.Connection) -> Saved:
        if (found := _one(db, "PRAGMA quick_check(1)")) != "ok":
            raise ValueError(found)
        state = self._state = self._read_state(db)
        snapshot = self._read_snapshot(db, state)
        entries = tuple(self._read_entries(db, state))
        return Saved(Vote(state.term, state.voted_for), snapshot, state.first, entries)

    def _read_state(self, db: sqlite3.Connection) -> _State:
        rows = db.execute("SELECT * FROM state").fetchall()
        if len(rows) != 1 or _sum(state := _State(*rows[0][:-1])) != rows[0][-1]:
            raise ValueError("its state fails its checksum")
        return state

    def _read_snapshot(self, db: sqlite3.Connection, state: _State) -> Snapshot | None:
        rows = db.execute("SELECT * FROM snapshot").fetchall()
        if not rows and state.snapshot is None:
            return None
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} snapshots")
        index, term, time_ns, text, data, trimmed, replaces_log, kept = rows[0]
        found = _sum(
            (index, term, time_ns, text, trimmed, replaces_log), data if type(data) is bytes else b""
        )
        if type(data) is not bytes or not found == kept == state.snapshot:
            raise ValueError("its snapshot fails its checksum")
        voters, learners = json.loads(text)
        configuration = Configuration(tuple(voters), tuple(learners))
        return Snapshot(index, term, time_ns, configuration, data, trimmed, bool(replaces_log))

    def _read_entries(self, db: sqlite3.Connection, state: _State) -> Iterator[Entry]:
        expected = state.first
        for index, term, kind, time_ns, data, kept in db.execute("SELECT * FROM entry ORDER BY idx"):
            if index != expected:
                raise ValueError(f"entry {expected} is missing or entry {index} should not be there")
            try:
                sound = (
                    type(data) is bytes
                    and crc32(data, crc32(_entry_head(index, term, kind, time_ns))) == kept
                )
            except struct.error:  # not even numbers
                sound = False
            if not sound:
                raise ValueError(f"entry {index} fails its checksum")
            yield Entry(term, KINDS[kind], time_ns, data)
            expected += 1
        if expected != state.last + 1:
            raise ValueError(f"entries {expected} to {state.last} are missing")

    # ---- writing

    def _apply(self, db: sqlite3.Connection, records: Sequence[ReplicaRecord]) -> _State:
        """Fold `records` into the tables and give the state after them."""
        state = self._state
        rows: list[Row] = []  # entries not yet inserted: one executemany for as many records as possible
        for record in records:
            match record:
                case Vote(term, voted_for):
                    state = state._replace(term=term, voted_for=voted_for)
                case Append(first, entries):
                    assert state.first <= first <= state.last + 1, "a gap in the log"
                    if first <= state.last:
                        _flush(db, rows)
                        db.execute("DELETE FROM entry WHERE idx >= ?", (first,))
                    rows += _rows(first, entries)
                    state = state._replace(last=first + len(entries) - 1)
                case Snapshot():
                    _flush(db, rows)
                    state = self._put_snapshot(db, state, record)
        _flush(db, rows)
        return state

    def _put_snapshot(self, db: sqlite3.Connection, state: _State, snapshot: Snapshot) -> _State:
        index, term, time_ns, configuration, data, trimmed, replaces_log = snapshot
        if len(data) > SNAPSHOT_BYTES_MAX:
            raise OverflowError(f"a snapshot of {len(data)} bytes, {SNAPSHOT_BYTES_MAX} allowed")
        if replaces_log:
            trimmed = index
            db.execute("DELETE FROM entry")
        else:
            empty = state.last < state.first
            assert empty or state.first <= trimmed + 1, "a snapshot brings back what was trimmed"
            db.execute("DELETE FROM entry WHERE idx <= ?", (trimmed,))
        last = trimmed if replaces_log or state.last < state.first else max(state.last, trimmed)
        head = (index, term, time_ns, json.dumps(configuration), snapshot.trimmed, int(replaces_log))
        kept = _sum(head, data)
        db.execute("DELETE FROM snapshot")  # first, so that its pages are used again
        db.execute(INSERT_SNAPSHOT, (*head[:4], data, *head[4:], kept))
        return state._replace(first=trimmed + 1, last=last, snapshot=kept)

    # ---- giving up

    def _usable(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreFailed(f"the store in {self.path} is closed: {self._why_closed}")
        return self._db

    def _refuse(self, why: str, exit_code: ExitCode = ExitCode.USAGE) -> NoReturn:
        self.close(f"it {why}")
        raise ZlbError(f"data directory {self.path} {why}", exit_code) from None

    def _damaged(self, error: Exception) -> NoReturn:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_BUSY:
            self._refuse("is used by another process")
        if code == sqlite3.SQLITE_FULL:
            self._refuse("cannot be used: the disk is full", ExitCode.FAILED)
        self._refuse(f"is damaged ({_line(error)}) and was left as it is: {REMEDY}", ExitCode.FAILED)


def _one(db: sqlite3.Connection, query: str) -> object:
    """The first column of the first row."""
    row: tuple[object, ...] = db.execute(query).fetchone()
    return row[0]


def _line(error: Exception) -> str:
    """An error in one line, with SQLite's name of it if it has one."""
    name = getattr(error, "sqlite_errorname", None)
    return " ".join(str(error).split()) + (f", {name}" if name else "")


# CRC-32, here and for entries: it is against accidents, not against people, who could mend any sum; all bursts up to
# 32 bits and all but one in 2**32 other changes are found, at a fifth of the cost of a short BLAKE2b.
def _sum(fields: tuple[object, ...], data: bytes = b"") -> int:
    """The checksum of a row: of values and types, since SQLite's columns take any type."""
    return crc32(data, crc32(repr(tuple(fields)).encode()))


def _rows(first: Index, entries: Sequence[Entry]) -> Iterator[Row]:
    for index, entry in enumerate(entries, first):
        term, time_ns, data = entry.term, entry.time_ns, entry.data
        number = int(entry.kind)  # SQLite's binding is slow with anything but plain types
        yield (
            index,
            term,
            number,
            time_ns,
            data,
            crc32(data, crc32(_entry_head(index, term, number, time_ns))),
        )


def _flush(db: sqlite3.Connection, rows: list[Row]) -> None:
    if rows:
        db.executemany(INSERT_ENTRY, rows)
        rows.clear()


def _place(file: Path) -> _Place:
    found = file.stat()
    return _Place(str(found.st_dev), str(os.statvfs(file).f_fsid), str(found.st_ino))


def _make_directory(path: Path) -> None:
    """Make it and all above it, durably."""
    missing = [level for level in (path, *path.parents) if not level.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for level in missing:
        _sync_directory(level.parent)


def _sync_directory(path: Path) -> None:
    """Make the names in it durable: a file's own fsync does not."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- the write-ahead log (https://www.sqlite.org/fileformat2.html#the_write_ahead_log)


def _check_wal(file: Path) -> None:
    """Raise `ValueError` if a transaction in it is damaged that was durable once.

    SQLite ends a WAL where a checksum fails, and forgets the rest: right for the transaction that a power cut tore,
    which was never acknowledged. But each is synced before the next is written, so whatever follows a transaction shows
    that it was whole. Damage to the very last one cannot be told from a power cut.
    """
    if not file.exists() or file.stat().st_size <= _WAL_HEAD_BYTES + _FRAME_BYTES:
        return
    import numpy as np  # only after a crash

    with file.open("rb") as wal:
        head = wal.read(_WAL_HEAD_BYTES)
        order = ">" if head[3] & 1 else "<"
        words = np.frombuffer(head[:24], order + "u4")
        sound = struct.unpack(">II", head[24:]) == tuple(_wal_sums(words[None, :], np.zeros((1, 2), "u4"))[0])
        salts, sums = (head[16:24], head[24:]) if sound else (b"", b"")
        ended = committed = False  # SQLite's reading ended; a transaction has ended since
        # Less than a frame at the end is a torn one.
        while count := len(block := wal.read(FRAMES_AT_ONCE * _FRAME_BYTES)) // _FRAME_BYTES:
            frames = np.frombuffer(block[: count * _FRAME_BYTES], "u1").reshape(count, _FRAME_BYTES)
            salts = salts or frames[0, 8:16].tobytes()  # a damaged head: then the first frame knows
            kept = np.ascontiguousarray(frames[:, 16:24])
            before = np.vstack([np.frombuffer(sums.ljust(8, b"\0"), "u1"), kept[:-1]])
            checked = np.ascontiguousarray(np.hstack([frames[:, :8], frames[:, 24:]])).view(order + "u4")
            right = (_wal_sums(checked, before.view(">u4")) == kept.view(">u4")).all(axis=1)
            ours = (frames[:, 8:16] == np.frombuffer(salts, "u1")).all(axis=1)
            ends = frames[:, 4:8].any(axis=1)
            sums = kept[-1].tobytes()
            for is_right, is_ours, is_end in np.stack([right, ours, ends], axis=1).tolist():
                ended = ended or not sound or not (is_right and is_ours)
                if ended and is_ours:
                    if committed:
                        raise ValueError("its write-ahead log fails a checksum")
                    committed = is_end


def _wal_sums(words: NDArray[np.uint32], seeds: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """SQLite's checksum of each row of `words`, from its pair in `seeds`.

    Word by word it is t[k] = t[k-2] + t[k-1] + word[k], and the last two are the sum: so each word counts as often as a
    Fibonacci number says, which makes it one product, a hundred times faster than Python's steps.
    """
    import numpy as np

    length = words.shape[1]
    numbers = [0, 1]
    while len(numbers) < length + 2:
        numbers.append((numbers[-1] + numbers[-2]) & 0xFFFFFFFF)
    fibonacci = np.array(numbers, np.uint32)
    of_words = np.stack([fibonacci[length - 1 :: -1], fibonacci[length:0:-1]]).T
    of_seeds = np.stack([fibonacci[length - 1 : length + 1], fibonacci[length : length + 2]]).T
    return np.asarray(words.astype(np.uint32) @ of_words + seeds.astype(np.uint32) @ of_seeds, np.uint32)
