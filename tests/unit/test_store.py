"""The store: what it loads is what `fold` says, damage and strangers are refused, a failed save is the last."""

import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.core.errors import ExitCode, ZlbError
from zlb.core.ids import NodeId
from zlb.core.replica import (
    Append,
    Configuration,
    Entry,
    EntryKind,
    ReplicaRecord,
    Saved,
    Snapshot,
    Vote,
    fold,
)
from zlb.drivers import store as module
from zlb.drivers.store import Store, StoreFailed

NODE = NodeId("t-1")
CONFIGURATION = Configuration((NodeId("t-1"), NodeId("t-2")), (NodeId("t-3"),))
Open = Callable[..., Store]


def entries(count: int, term: int = 1, size: int = 20) -> tuple[Entry, ...]:
    return tuple(Entry(term, EntryKind.COMMAND, 1000 + i, b"%d" % i + bytes(size)) for i in range(count))


def snapshot(index: int, trimmed: int, data: bytes = b"state", *, replaces_log: bool = False) -> Snapshot:
    return Snapshot(index, 1, 1000 + index, CONFIGURATION, data, trimmed, replaces_log)


@pytest.fixture
def opened() -> Iterator[Open]:
    stores = []

    def open_store(path: Path, cluster: str = "c", node: NodeId = NODE, *, adopt: bool = False) -> Store:
        stores.append(Store(path, cluster, node, adopt=adopt))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def filled(data: Path) -> Path:
    """A closed store with all there can be in it."""
    store = Store(data, "c", NODE)
    store.save([Append(1, entries(9)), Vote(3, NODE), snapshot(5, 4)])
    store.close()
    return data


# ---- what is loaded


@st.composite
def groups(draw: st.DrawFn) -> list[list[ReplicaRecord]]:
    """Records as a replica may write them, in transactions."""
    saved, found = Saved(), []
    for _ in range(draw(st.integers(1, 4))):
        group: list[ReplicaRecord] = []
        for _ in range(draw(st.integers(0, 4))):
            group.append(draw(record(saved)))
            saved = fold(saved, group[-1])
        found.append(group)
    return found


@st.composite
def record(draw: st.DrawFn, saved: Saved) -> ReplicaRecord:
    small, last = st.integers(0, 9), saved.first + len(saved.entries) - 1
    match draw(st.sampled_from(["vote", "append", "snapshot"])):
        case "vote":
            return Vote(draw(small), draw(st.none() | st.sampled_from([NODE, NodeId("t-é")])))
        case "append":
            number = st.integers(0, 2**62)
            entry = st.builds(Entry, number, st.sampled_from(EntryKind), number, st.binary(max_size=9))
            return Append(draw(st.integers(saved.first, last + 1)), tuple(draw(st.lists(entry, max_size=4))))
        case _:
            trimmed = draw(st.integers(saved.first - 1, last + 3))
            index = trimmed + draw(small)
            return Snapshot(
                index,
                draw(small),
                draw(small),
                CONFIGURATION,
                draw(st.binary(max_size=9)),
                trimmed,
                draw(st.booleans()),
            )


@settings(max_examples=60)
@given(groups())
def test_loads_what_fold_says_also_when_opened_again(found: list[list[ReplicaRecord]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        saved = Saved()
        for group in found:
            store = Store(Path(folder), "c", NODE)
            try:
                assert store.load() == saved
                store.save(group)
                saved = reduce(fold, group, saved)
                assert store.load() == saved
            finally:
                store.close()


def test_new_is_empty_and_a_name_with_any_letters_is_kept(data: Path, opened: Open) -> None:
    store = opened(data / "deeper", "c-é", NodeId("t-é"))
    assert store.load() == Saved()
    store.save([])
    store.close()
    assert opened(data / "deeper", "c-é", NodeId("t-é")).load() == Saved()


def test_kinds_come_back_as_kinds(filled: Path, opened: Open) -> None:
    assert all(type(entry.kind) is EntryKind for entry in opened(filled).load().entries)


def test_a_gap_is_a_mistake_and_nothing_of_its_group_is_kept(data: Path, opened: Open) -> None:
    store = opened(data)
    with pytest.raises(AssertionError):
        store.save([Vote(1, None), Append(2, entries(1))])
    with pytest.raises(StoreFailed):
        store.save([Vote(1, None)])
    assert opened(data).load() == Saved()


# ---- whose it is


def refusal(run: Callable[[], object]) -> ZlbError:
    with pytest.raises(ZlbError) as found:
        run()
    assert "\n" not in str(found.value)
    return found.value


def test_one_process_at_a_time(data: Path, opened: Open) -> None:
    store = opened(data)
    assert "used by another process" in str(refusal(lambda: opened(data)))
    store.save([Vote(1, None)])
    store.close()
    opened(data)


def test_nobody_reads_or_writes_beside_us(data: Path, opened: Open) -> None:
    opened(data)
    other = sqlite3.connect(data / "log.sqlite3", timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM entry")
    other.close()


def test_others_who_read_are_told_of(filled: Path, opened: Open) -> None:
    other = sqlite3.connect(filled / "log.sqlite3")
    other.execute("SELECT * FROM entry").fetchone()
    assert "used by another process" in str(refusal(lambda: opened(filled)))
    other.close()
    opened(filled)


def test_other_clusters_and_nodes_are_refused_even_with_adopt(filled: Path, opened: Open) -> None:
    assert "cluster 'c', not to 'd'" in str(refusal(lambda: opened(filled, "d", adopt=True)))
    assert "node 't-1', not to 't-2'" in str(refusal(lambda: opened(filled, node=NodeId("t-2"), adopt=True)))
    assert refusal(lambda: opened(filled, "d")).exit_code == ExitCode.USAGE
    assert len(opened(filled).load().entries) == 5


def test_a_copy_is_refused_until_adopted(filled: Path, opened: Open) -> None:
    copy = filled.with_name("copy")
    shutil.copytree(filled, copy)
    text = str(refusal(lambda: opened(copy)))
    assert "copy" in text and "join as a new member" in text and "--adopt" in text
    assert opened(copy, adopt=True).load() == opened(filled).load()


def test_once_adopted_it_is_no_copy(filled: Path, opened: Open) -> None:
    copy = filled.with_name("copy")
    shutil.copytree(filled, copy)
    opened(copy, adopt=True).close()
    opened(copy)


def test_a_log_put_into_the_place_of_another_is_refused(filled: Path, opened: Open) -> None:
    other = filled.with_name("other")
    opened(other).close()
    (other / "log.sqlite3").rename(filled / "log.sqlite3")  # the same inode, another directory
    assert "copy" in str(refusal(lambda: opened(filled)))


def test_a_renamed_directory_is_the_same(filled: Path, opened: Open) -> None:
    filled.rename(filled.with_name("renamed"))
    opened(filled.with_name("renamed"))


def test_devices_may_be_numbered_anew(filled: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    place = module._place(filled / "log.sqlite3")._replace(filesystem="7")
    monkeypatch.setattr(module, "_place", lambda file: place)
    opened(filled).close()  # the device is the same: the file system is noted
    place = place._replace(device="99")
    opened(filled).close()  # and the other way round
    place = place._replace(device="100", filesystem="0")
    assert "copy" in str(refusal(lambda: opened(filled)))


def test_a_lost_log_is_not_begun_anew(filled: Path, opened: Open) -> None:
    (filled / "log.sqlite3").unlink()
    for _ in range(2):
        assert "lost its log" in str(refusal(lambda: opened(filled)))


def test_a_first_start_that_ended_early_is_begun_anew(data: Path, opened: Open) -> None:
    data.mkdir()
    (data / "log.sqlite3").touch()
    opened(data).close()
    (data / "lock").write_bytes(b"")  # ended before the directory's id was kept
    opened(data).close()
    assert len((data / "lock").read_text()) == 33


def test_another_format_or_another_programs_file_is_refused(filled: Path, opened: Open) -> None:
    for pragma in ("user_version", "application_id"):
        change(filled, f"PRAGMA {pragma} = 99")
        assert "this version of zlb" in str(refusal(lambda: opened(filled)))


def test_a_directory_that_cannot_be(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "file").touch()
    assert refusal(lambda: opened(tmp_path / "file")).exit_code == ExitCode.USAGE
    assert refusal(lambda: opened(tmp_path / "file" / "below")).exit_code == ExitCode.USAGE


# ---- damage


def change(path: Path, statement: str) -> None:
    db = sqlite3.connect(path / "log.sqlite3", isolation_level=None)
    db.execute(statement)
    db.close()


def refused_as_damaged(path: Path, opened: Open) -> None:
    error = refusal(lambda: opened(path).load())
    assert "damaged" in str(error) and error.exit_code == ExitCode.FAILED


ROWS = {
    "state": ("term", "voted_for", "first", "last", "snapshot", "sum"),
    "snapshot": ("idx", "term", "configuration", "data", "trimmed", "replaces_log", "sum"),
    "entry WHERE idx = 7": ("idx", "term", "kind", "time_ns", "data", "sum"),
    "entry WHERE idx = 9": ("idx",),
}
VALUES = ("99", "NULL", "'text'", "x'00'", "1.5")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("table", "column"), [(table, column) for table in ROWS for column in ROWS[table]])
def test_every_column_is_checked(filled: Path, opened: Open, table: str, column: str, value: str) -> None:
    name, _, where = table.partition(" ")
    try:
        change(filled, f"UPDATE {name} SET {column} = {value} {where}")
    except sqlite3.IntegrityError:
        return  # a row's number is a number
    refused_as_damaged(filled, opened)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entry WHERE idx = 5",
        "DELETE FROM entry WHERE idx = 7",
        "DELETE FROM entry WHERE idx = 9",
        "DELETE FROM entry",
        "INSERT INTO entry SELECT idx + 5, term, kind, time_ns, data, sum FROM entry WHERE idx = 5",
        "DELETE FROM snapshot",
        "INSERT INTO snapshot SELECT * FROM snapshot",
        "DELETE FROM state",
        "INSERT INTO state SELECT * FROM state",
        "DELETE FROM owner",
        "DROP TABLE entry",
    ],
)
def test_missing_and_added_rows_are_noticed(filled: Path, opened: Open, statement: str) -> None:
    change(filled, statement)
    refused_as_damaged(filled, opened)


def test_after_damage_the_store_is_closed(filled: Path, opened: Open) -> None:
    change(filled, "DELETE FROM entry WHERE idx = 7")
    store = opened(filled)
    refusal(store.load)
    with pytest.raises(StoreFailed, match="entry 7 is missing"):
        store.save([Vote(9, None)])


def flip(file: Path, at: int, bits: int) -> None:
    with file.open("r+b") as opened_file:
        opened_file.seek(at)
        (old,) = opened_file.read(1)
        opened_file.seek(at)
        opened_file.write(bytes([old ^ bits]))


def test_changed_bytes_in_the_file_are_noticed_or_harmless(filled: Path, opened: Open) -> None:
    dice, file = Random(1), filled / "log.sqlite3"
    sound, whole = file.read_bytes(), opened(filled).load()
    noticed = 0
    for _ in range(300):
        at, bits = dice.randrange(len(sound)), 1 << dice.randrange(8)
        copy = filled.with_name("copy")
        copy.mkdir()
        (copy / "log.sqlite3").write_bytes(sound)
        flip(copy / "log.sqlite3", at, bits)
        try:
            store = opened(copy, adopt=True)
            assert store.load() == whole
            store.close()
        except ZlbError:
            noticed += 1
        shutil.rmtree(copy)
    assert noticed


def test_a_file_cut_short_or_of_something_else_is_refused(filled: Path, opened: Open) -> None:
    file = filled / "log.sqlite3"
    file.write_bytes(file.read_bytes()[:-4096])
    refused_as_damaged(filled, opened)
    file.write_bytes(b"something else" * 999)
    refused_as_damaged(filled, opened)
    file.write_bytes(b"")
    assert "lost its log" in str(refusal(lambda: opened(filled)))


@pytest.fixture
def crashed(data: Path, tmp_path: Path, opened: Open) -> tuple[Path, list[Saved]]:
    """What a killed process leaves, its WAL too, and what it had saved after each group."""
    store, saved = opened(data), [Saved()]
    for number in range(20):
        group = [Vote(number, None), Append(3 * number + 1, entries(3, number, 400))]
        store.save(group)
        saved.append(reduce(fold, group, saved[-1]))
    shutil.copytree(data, tmp_path / "crashed")
    return tmp_path / "crashed", saved


def test_the_wal_is_taken_in(crashed: tuple[Path, list[Saved]], opened: Open) -> None:
    path, saved = crashed
    assert opened(path, adopt=True).load() == saved[-1]
    assert (path / "log.sqlite3-wal").stat().st_size == 0


def test_a_torn_end_of_the_wal_is_what_was_not_acknowledged(
    crashed: tuple[Path, list[Saved]], tmp_path: Path, opened: Open
) -> None:
    path, saved = crashed
    wal = (path / "log.sqlite3-wal").read_bytes()
    dice = Random(2)
    for round_number in range(25):
        copy = tmp_path / f"torn-{round_number}"
        shutil.copytree(path, copy)
        size = dice.randrange(len(wal))
        (copy / "log.sqlite3-wal").write_bytes(wal[:size] + bytes(dice.choice([0, len(wal) - size])))
        store = opened(copy, adopt=True)
        assert store.load() in saved
        store.close()


def test_damage_in_the_wal_is_not_taken_for_its_end(
    crashed: tuple[Path, list[Saved]], tmp_path: Path, opened: Open
) -> None:
    path, _ = crashed
    size = (path / "log.sqlite3-wal").stat().st_size
    dice = Random(3)
    # Everywhere but in the last two groups, whose damage may look like a power cut's.
    places = [*range(32), *(32 + dice.randrange(size - 32 - 10 * 4120) for _ in range(60))]
    for number, at in enumerate(places):
        copy = tmp_path / f"flipped-{number}"
        shutil.copytree(path, copy)
        flip(copy / "log.sqlite3-wal", at, 1 << dice.randrange(8))
        kept = (copy / "log.sqlite3-wal").read_bytes()
        for _ in range(2):  # it is left as it is, and not forgotten
            assert "write-ahead log" in str(refusal(lambda folder=copy: opened(folder, adopt=True)))
        assert (copy / "log.sqlite3-wal").read_bytes() == kept


@given(st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=40), st.binary(min_size=8, max_size=8))
def test_sums_of_the_wal_are_those_of_its_definition(words: list[int], seed: bytes) -> None:
    words = words[: len(words) // 2 * 2]
    seeds = np.frombuffer(seed, ">u4")
    s0, s1 = (int(word) for word in seeds)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + even + s1) % 2**32
        s1 = (s1 + odd + s0) % 2**32
    assert module._wal_sums(np.array([words], ">u4"), seeds[None, :]).tolist() == [[s0, s1]]


# ---- saves that fail


def used_no_more(store: Store, path: Path, opened: Open, saved: Saved) -> None:
    for run in (store.load, lambda: store.save([Vote(9, None)]), lambda: store.save([])):
        with pytest.raises(StoreFailed, match="a save failed"):
            run()
    store.close()
    again = opened(path)
    assert again.load() == saved
    again.save([Vote(9, None)])


def test_a_full_disk_ends_it(data: Path, opened: Open) -> None:
    store = opened(data)
    store.save([Append(1, entries(5))])
    saved = store.load()
    assert store._db is not None
    store._db.execute("PRAGMA max_page_count = 1").fetchone()  # SQLite takes what there is already
    error = refusal(lambda: store.save([Vote(4, NODE), Append(3, entries(500))]))
    assert isinstance(error, StoreFailed) and "disk is full" in str(error)
    used_no_more(store, data, opened, saved)


def test_a_failed_write_ends_it(data: Path, opened: Open) -> None:
    store = opened(data)
    store.save([Append(1, entries(5))])
    saved = store.load()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((data / "log.sqlite3-wal").stat().st_size + 9000, limits[1]))
    try:
        with pytest.raises(StoreFailed):
            store.save([Append(6, entries(500))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    used_no_more(store, data, opened, saved)


def test_a_snapshot_too_large_ends_it(data: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_BYTES_MAX", 10)
    store = opened(data)
    store.save([snapshot(1, 1, bytes(10))])
    saved = store.load()
    with pytest.raises(StoreFailed, match="11 bytes"):
        store.save([Vote(1, None), snapshot(2, 2, bytes(11))])
    used_no_more(store, data, opened, saved)


def test_numbers_beyond_sqlites_end_it(data: Path, opened: Open) -> None:
    store = opened(data)
    with pytest.raises(StoreFailed):
        store.save([Vote(2**63, None)])
    used_no_more(store, data, opened, Saved())


def test_closed_is_closed(data: Path, opened: Open) -> None:
    store = opened(data)
    store.close()
    store.close()
    with pytest.raises(StoreFailed, match="closed"):
        store.load()
