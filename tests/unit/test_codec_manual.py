"""docs/protocol.md and the code say the same: the message table against the classes, the errors against `ErrorCode`."""

import re
from pathlib import Path

import pytest

from zlb.core import limits
from zlb.core.config import (
    CoordinatorConfig,
    GossipConfig,
    NeighboursConfig,
    TrackedConfig,
    TrackerConfig,
    WorkerConfig,
)
from zlb.core.errors import ErrorCode
from zlb.core.limits import MS, SECOND
from zlb.core.message import Advert
from zlb.core.replica import Entry, EntryKind
from zlb.wire import values
from zlb.wire.messages import KINDS, Done, Grant, Part, Reported, Sampled, Spec
from zlb.wire.tracking import Ask, AskKind, AskOutcome, Beat, Reply, RosterJob


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs/protocol.md").read_text()


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table after `heading`, without its two head lines."""
    table = re.search(r"(\|.*\n)+", page[page.index(f"## {heading}\n") :])
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def shouted(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()


def test_the_message_table_is_the_classes(page: str) -> None:
    table = {int(kind): (name.strip("`"), fields) for kind, name, _, _, fields, _ in rows(page, "Messages")}
    classes = {
        number: (shouted(kind.__name__), ", ".join(kind.__struct_fields__)) for number, kind in KINDS.items()
    }
    assert table == classes


def test_what_is_published_is_an_advert_and_nothing_else(page: str) -> None:
    carriers = {int(row[0]): row[3] for row in rows(page, "Messages")}
    expected = {n: "publication" if issubclass(kind, Advert) else "link" for n, kind in KINDS.items()}
    assert carriers == expected


@pytest.mark.parametrize(
    ("inner", "fields"),
    [
        (Part, "[lease, ended, done, hits, busy_ns, error, samples, root, returned]"),
        (Spec, "[kernel, params, hits_max]"),
        (Grant, "[start, count, lease, patterns, blocks]"),
        (Sampled, "[mask, value]"),
        (Done, "[start, count]"),
        (Reported, "[n, digest]"),
        (Ask, "[number, kind, payload]"),
        (Reply, "[number, outcome, payload]"),
        (Beat, "[node, incarnation, listen, slots]"),
        (RosterJob, "[job, status, epoch, priority, node, incarnation, listen]"),
        (Entry, "[term, kind, time_ns, data]"),
    ],
)
def test_inner_arrays_are_as_written(page: str, inner: type, fields: str) -> None:
    assert f"`{fields}`" in page
    assert fields == f"[{', '.join(inner.__struct_fields__)}]"


def test_the_error_table_is_the_codes(page: str) -> None:
    table = {(int(code), name.strip("`"), kind) for code, name, kind, _ in rows(page, "Errors")}
    codes = {(int(code), code.name, "definite" if code.definite else "indefinite") for code in ErrorCode}
    assert table == codes


def test_the_table_of_outcomes_is_the_enum(page: str) -> None:
    section = page[page.index("### TRACKER_REQUEST") :]
    table = re.search(r"(\|.*\n)+", section)
    assert table is not None
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]
    told = {(int(number), name.strip("`")): kind for number, name, kind, _ in cells}
    assert list(told) == [(int(outcome), outcome.name) for outcome in AskOutcome]
    assert {name: kind in ("", "definite") for (_, name), kind in told.items()} == {
        outcome.name: outcome.final for outcome in AskOutcome
    }


def test_kinds_of_asks_and_of_entries_are_as_written(page: str) -> None:
    about = {
        AskKind.COMMAND: "a command for the log",
        AskKind.QUERY: "a query",
        AskKind.STEERING: "to this very",
    }
    for kind, words in about.items():
        assert f"{int(kind)} ({words}" in page
    for entry, words in {
        EntryKind.NOOP: "no-op",
        EntryKind.COMMAND: "command",
        EntryKind.CONFIGURATION: "conf",
    }.items():
        assert f"{int(entry)} ({words}" in page


def test_numbers_in_the_text_are_the_defaults() -> None:
    """Sentences of the page with a number in them, by section."""
    assert limits.MESSAGE_BYTES_MAX == 1 << 20 and limits.FRAME_BYTES_MAX == 4 << 20  # Frames
    assert limits.NODE_ID_BYTES_MAX == 64 and limits.NEIGHBOURS_TOLD_MAX == 16  # Links, HELLO
    assert NeighboursConfig().silence_ns == GossipConfig().forget_ns == 4 * SECOND  # Links, LOAD_UPDATE
    assert GossipConfig().period_ns == CoordinatorConfig().period_ns == 500 * MS  # "published twice a second"
    assert WorkerConfig().report_ns == SECOND and CoordinatorConfig().silence_ns == 3 * SECOND  # TASK_REPORT
    assert limits.STOP_NS_MAX == 50 * MS  # TASK_CANCEL
    assert limits.PRIORITY_MAX == 9 and WorkerConfig().kept_ns == 10 * SECOND  # JOB_ADVERT, TASK_ACK
    assert TrackedConfig().heartbeat_ns == SECOND and TrackerConfig().lease_ns == 4 * SECOND  # HEARTBEAT
    assert limits.SNAPSHOT_CHUNK_BYTES_MAX == 64 * 1024  # Replicas
    assert (values.DEPTH_MAX, limits.PARAMS_BYTES_MAX) == (8, 160 * 1024)  # Values
    assert (values.BIG_INTEGER, values.BIG_INTEGER_BYTES_MAX) == (1, 512)
