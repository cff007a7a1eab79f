"""The bytes of every message, as other nodes depend on them, and what becomes of bytes that were damaged on the way.

`wire.txt` holds `name hex repr` lines. A changed line is a change of the protocol: say so in docs/protocol.md, then
`pytest --rewrite`.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Raw, msgpack
from msgspec.structs import astuple

from zlb.core.errors import ErrorCode, RemoteProtocolError
from zlb.core.message import Message
from zlb.core.replica import Entry, EntryKind
from zlb.wire import messages as m
from zlb.wire import tracking as t
from zlb.wire.codec import SIGNATURE, VERSION, decode, encode
from zlb.wire.messages import KINDS

WIRE = Path(__file__).with_name("wire.txt")
TOP = (1 << 64) - 1
NOOP, COMMAND, CONFIGURATION = EntryKind

SAMPLES: list[Message] = [
    m.Hello("p1", 1, "tcp://127.0.0.1:7001", "tcp://127.0.0.1:7002", "tcp://127.0.0.1:7003"),
    m.Hello("~" * 64, TOP, "inproc://a", "", ""),
    m.Hello("t1", 1, "tcp://127.0.0.1:7001", "tcp://127.0.0.1:7002", "", "main"),
    m.Welcome("p2", 2, "tcp://127.0.0.1:7001", "tcp://127.0.0.1:7001", "", ("tcp://127.0.0.1:7009", "ipc:///tmp/p3")),
    m.Welcome("p2", 2, "", "", "", ()),
    m.Welcome("t2", 2, "tcp://127.0.0.1:7001", "tcp://127.0.0.1:7001", "", (), "main"),
    m.Goodbye("stopped"),
    m.Goodbye(""),
    m.Refused(8, "say HELLO first"),
    m.Refused(255, "schön"),
    m.LoadUpdate("p1", 1, 7, 1_500_000_000, 2.5e7, 3, 2),
    m.LoadUpdate("p1", TOP, TOP, TOP, 0.0, 0, TOP),
    m.JobAdvert("s", 3, 9, "job-1", "sha256", 1 << 32),
    m.JobAdvert("s", 0, 0, "j", "k", 0),
    m.JobAdvert("p1", 3, 9, "job-1", "sha256", 1 << 32, 2, 9),
    m.JobAdvert("p1", 3, 9, "job-1", "sha256", 1, 2, 9, ("s", "p0")),
    m.TaskRequest("job-1", 1, 4, 2, 1234.5, True),
    m.TaskRequest("j", 0, 0, 1, 0.0, False),
    m.TaskRequest("job-1", 1, 4, 2, 1234.5, True, 2),
    m.TaskTransfer("job-1", 4, (m.Grant(0, 16, 1), m.Grant(1 << 32, 1000, 2)), m.Spec("sha256", b"\x80", 1)),
    m.TaskTransfer("job-1", 4, (), None),
    m.TaskTransfer("job-1", TOP, (m.Grant(TOP, 1, TOP),), None),
    m.TaskTransfer("job-1", 5, (m.Grant(1, TOP, 3),), m.Spec("k", b"", 0)),
    m.TaskReport(
        "job-1",
        1,
        5,
        (
            m.Part(1, True, (m.Done(0, 5), m.Done(6, 10)), (m.Reported(3, b"\x00" * 32),), 50_000_000, ""),
            m.Part(2, False, (), (), 0, ""),
            m.Part(3, True, (), (), 0, "no such kernel"),
        ),
    ),
    m.TaskReport("job-1", 1, 6, ()),
    m.TaskReport("j", TOP, TOP, (m.Part(TOP, True, (m.Done(TOP, 1),), (m.Reported(TOP, b"\xff" * 64),), TOP, ""),)),
    m.TaskReport("job-1", 1, 7, (m.Part(0, False, (m.Done(0, 5),), (), 0, ""),), 2),
    m.TaskAck("job-1", 5),
    m.TaskAck("job-1", 5, False),
    m.TaskAck("j", TOP),
    m.TaskRequest("job-1", 1, 4, 2, 1234.5, True, 2, 512, 1_000_000),
    m.TaskTransfer("j", 6, (m.Grant(0, 16, 1, (m.Sampled(255, 3), m.Sampled((1 << 32) - 1, 0)), 4096),), None),
    m.TaskReport(
        "j", 1, 8, (m.Part(1, True, (m.Done(0, 16),), (), 9, "", ((1, 5, TOP), ()), b"\x01" * 32, (m.Done(16, 4),)),)
    ),
    m.TaskShrink("j", 1, 8),
    m.TaskShrink("job-1", TOP, TOP),
    m.TaskProve("j", 1, 63),
    m.TaskProof("j", 1, 63, (4, TOP), (b"\x02" * 32, b"\x03" * 32)),
    m.TaskProof("j", 1, 0, (), ()),
    m.TaskCancel("job-1", (1, 2, TOP)),
    m.TaskCancel("job-1", ()),
    m.JobClosed("job-1", "found"),
    m.JobClosed("j", ""),
    t.TrackerRequest((t.Ask(1, 0, b"\x93\x00\x00\xc4\x00"), t.Ask(TOP, 2, b""))),
    t.TrackerRequest(()),
    t.TrackerReply("t1", "tcp://127.0.0.1:7001", (t.Reply(1, 0, b"\x01"), t.Reply(TOP, 8, b"no"))),
    t.TrackerReply("", "", (t.Reply(2, 1, b"no majority"),)),
    t.Heartbeat(1, "tcp://127.0.0.1:7003", 4, 12),
    t.Heartbeat(TOP, "", 0, TOP),
    t.HeartbeatAck(12),
    t.HeartbeatAck(TOP),
    t.Heartbeats((t.Beat("p1", 1, "tcp://127.0.0.1:7003", 4), t.Beat("p2", TOP, "", 1 << 16))),
    t.Heartbeats(()),
    t.Roster(
        12,
        ("tcp://127.0.0.1:7001", "ipc:///tmp/t2"),
        (
            t.RosterJob("job-1", "running", 2, 5, "p1", 1, "tcp://127.0.0.1:7003"),
            t.RosterJob("job-2", "paused", 0, 9, "", 0, ""),
        ),
    ),
    t.Roster(0, (), ()),
    m.RequestVote(3, False, False, 7, 2),
    m.RequestVote(TOP, True, True, TOP, TOP),
    m.RequestVoteReply(3, False, True),
    m.RequestVoteReply(0, True, False),
    m.AppendEntries(3, 6, 2, 5, 9, (Entry(3, NOOP, 1_500_000_000, b""), Entry(3, COMMAND, 1_500_000_001, b"x"))),
    m.AppendEntries(TOP, TOP, TOP, TOP, TOP, (Entry(TOP, CONFIGURATION, TOP, b"\xff" * 64),)),
    m.AppendEntries(1, 0, 0, 0, 1, ()),
    m.AppendEntriesReply(3, True, 8, 0, 9),
    m.AppendEntriesReply(3, False, 4, 2, TOP),
    m.InstallSnapshot(3, 7, 2, 1_500_000_000, ("a", "b", "c"), ("d",), 65_536, 65_538, 0xCBF43926, 9, b"xy"),
    m.InstallSnapshot(1, 0, 0, 0, (), (), 0, 0, 0, 0, b""),
    m.InstallSnapshotReply(3, 7, 65_538, 9),
    m.InstallSnapshotReply(TOP, TOP, 0, TOP),
    m.TimeoutNow(3),
    m.TimeoutNow(TOP),
    m.ReadIndex(1),
    m.ReadIndex(TOP),
    m.ReadIndexReply(1, 8),
    m.ReadIndexReply(TOP, 0),
]  # fmt: skip


def lines() -> list[str]:
    seen: Counter[str] = Counter()
    found = []
    for message in SAMPLES:
        name = type(message).__name__
        seen[name] += 1
        found.append(f"{name}/{seen[name]} {encode(message).hex()} {message!r}")
    return found


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> list[tuple[str, bytes, str]]:
    if request.config.getoption("--rewrite"):
        WIRE.write_text("\n".join(lines()) + "\n")
    rows = [line.split(" ", 2) for line in WIRE.read_text().splitlines()]
    return [(name, bytes.fromhex(packed), shown) for name, packed, shown in rows]


def test_every_kind_has_a_line(golden: list[tuple[str, bytes, str]]) -> None:
    assert {name.split("/")[0] for name, _, _ in golden} == {kind.__name__ for kind in KINDS.values()}


def test_messages_have_the_bytes_they_had(golden: list[tuple[str, bytes, str]]) -> None:
    assert lines() == [f"{name} {packed.hex()} {shown}" for name, packed, shown in golden]


def test_bytes_mean_what_they_meant(golden: list[tuple[str, bytes, str]]) -> None:
    assert [decode(packed) for _, packed, _ in golden] == SAMPLES
    assert [repr(decode(packed)) for _, packed, _ in golden] == [shown for _, _, shown in golden]


def test_frames_begin_with_signature_version_and_kind(golden: list[tuple[str, bytes, str]]) -> None:
    numbers = {kind.__name__: number for number, kind in KINDS.items()}
    for name, packed, _ in golden:
        assert packed[:4] == SIGNATURE + bytes([VERSION, numbers[name.split("/")[0]]])


SHORTER = {
    m.Hello: "cluster",
    m.Welcome: "cluster",
    m.JobAdvert: "epoch, priority, ancestors",
    m.TaskRequest: "epoch, slots, rtt_ns",
    m.TaskReport: "epoch",
    m.TaskAck: "kept",
}
"""Fields that came later: frames of before lack them."""


@pytest.mark.parametrize("kind", SHORTER, ids=lambda kind: kind.__name__)
def test_frames_of_before_trackers_mean_what_they_meant(kind: type[Message]) -> None:
    later = SHORTER[kind].split(", ")
    assert list(kind.__struct_fields__[-len(later) :]) == later
    said = [message for message in SAMPLES if type(message) is kind]
    usual = [message for message in said if astuple(message)[-len(later) :] == kind.__struct_defaults__]
    assert 0 < len(usual) < len(said)
    for message in usual:
        fields = [Raw(msgpack.encode(field)) for field in astuple(message)[: -len(later)]]
        assert decode(encode(message)[:4] + msgpack.encode(fields)) == message


def damaged(frame: bytes) -> Iterator[bytes]:
    """Every truncation, every single bit flipped, one octet too many."""
    for size in range(len(frame)):
        yield frame[:size]
    for at in range(8 * len(frame)):
        flipped = bytearray(frame)
        flipped[at // 8] ^= 1 << at % 8
        yield bytes(flipped)
    yield frame + b"\0"


def test_damage_decodes_or_raises_the_one_error(golden: list[tuple[str, bytes, str]]) -> None:
    tried = refused = 0
    for _, packed, _ in golden:
        for frame in damaged(packed):
            tried += 1
            try:
                assert isinstance(decode(frame), Message)
            except RemoteProtocolError as error:
                refused += 1
                assert error.code in ErrorCode and error.detail  # noqa: PT017
    assert tried > 8_000 and 0 < refused < tried


def test_truncations_never_decode(golden: list[tuple[str, bytes, str]]) -> None:
    for _, packed, _ in golden:
        for size in range(len(packed)):
            with pytest.raises(RemoteProtocolError):
                decode(packed[:size])
