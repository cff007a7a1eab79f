"""What a machine remembers between processes: rates and contacts, in plain files that may be damaged or missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from zlb.core.errors import ExitCode, ZlbError
from zlb.core.ids import Endpoint, NodeId
from zlb.core.work import Contacts, Rate, Standing
from zlb.drivers.state import State

NOBODY = Contacts((), ())
SOME = Contacts((Endpoint("tcp://127.0.0.1:1"), Endpoint("ipc:///tmp/t")), (Endpoint("tcp://127.0.0.1:2"),))


def kept_in(state: State) -> Path:
    """The file that holds contacts."""
    state.save([SOME])
    (path,) = state.path.glob("contacts*.json")
    return path


def test_contacts_are_nobody_before_a_tracker_said_anything(tmp_path: Path) -> None:
    assert State(tmp_path).contacts() == NOBODY


def test_contacts_and_rates_outlive_the_process(tmp_path: Path) -> None:
    State(tmp_path).save([Rate("k", 7.0), SOME])
    assert State(tmp_path).contacts() == SOME and State(tmp_path).rates() == {"k": 7.0}


def test_contacts_saved_last_win_and_those_before_are_forgotten(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.save([SOME, Contacts((), (Endpoint("tcp://127.0.0.1:9"),))])
    assert state.contacts() == Contacts((), (Endpoint("tcp://127.0.0.1:9"),))
    state.save([NOBODY])
    assert state.contacts() == NOBODY


def test_saving_the_one_leaves_the_other(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.save([SOME])
    state.save([Rate("k", 1.0)])
    state.save([Rate("l", 2.0)])
    assert state.contacts() == SOME and state.rates() == {"k": 1.0, "l": 2.0}


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        '"x"',
        '{"trackers": []}',
        '{"trackers": 1, "peers": []}',
        '{"peers": []}',
        "\0",
    ],
)
def test_contacts_that_cannot_be_read_are_nobody(tmp_path: Path, damaged: str) -> None:
    state = State(tmp_path)
    kept_in(state).write_text(damaged)
    assert state.contacts() == NOBODY
    state.save([SOME])
    assert state.contacts() == SOME


def test_contacts_that_are_no_text_are_nobody(tmp_path: Path) -> None:
    kept_in(State(tmp_path)).write_bytes(b"\xff\xfe\xff")
    assert State(tmp_path).contacts() == NOBODY


def test_saving_leaves_no_drafts(tmp_path: Path) -> None:
    State(tmp_path).save([SOME, Rate("k", 1.0)])
    assert len(list(tmp_path.iterdir())) == 3 and not list(tmp_path.glob("*.tmp"))


def test_contacts_of_two_grids_on_one_machine_do_not_mix(tmp_path: Path) -> None:
    one, two = Endpoint("tcp://192.0.2.1:7000"), Endpoint("tcp://192.0.2.2:7000")
    State(tmp_path, [one]).save([SOME, Rate("k", 1.0)])
    assert State(tmp_path, [two]).contacts() == State(tmp_path).contacts() == NOBODY
    assert State(tmp_path, [two]).rates() == {"k": 1.0}
    State(tmp_path, [one, two]).save([SOME])
    assert State(tmp_path, iter([two, one])).contacts() == SOME


def test_a_machine_that_lends_a_part_keeps_the_rate_of_all_of_it(tmp_path: Path) -> None:
    State(tmp_path).save([Rate("k", 100.0)])
    part = State(tmp_path, share=0.25)
    assert part.rates() == {"k": 25.0}
    part.save([Rate("l", 50.0)])
    assert part.rates() == {"k": 25.0, "l": 50.0}
    assert State(tmp_path).rates() == {"k": 100.0, "l": 200.0}


# Waits at a pipe, so that all of them save at the same moments.
SAVE = """
import sys
from pathlib import Path
from zlb.core.ids import NodeId
from zlb.core.work import Rate, Standing
from zlb.drivers.state import State
me, state = sys.argv[1], State(Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for n in range(20):
    state.save([Rate(f"k-{me}-{n}", 1.0), Standing(NodeId(f"p-{me}-{n}"), 1.0, 0.0, 1.0, 0.0, 1, 1)])
"""


def test_what_processes_save_at_once_is_all_kept(tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SAVE, str(n), str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for n in range(4)
    ]
    for one in started:
        assert one.stdout is not None and one.stdout.readline() == b"ready\n"
    for one in started:
        assert one.stdin is not None
        one.stdin.write(b"\n")
        one.stdin.flush()
    for one in started:
        one.communicate(timeout=60)
    assert [one.returncode for one in started] == [0] * 4
    names = {f"{me}-{n}" for me in range(4) for n in range(20)}
    assert State(tmp_path).rates().keys() == {f"k-{name}" for name in names}
    assert {standing.node for standing in State(tmp_path).standings()} == {f"p-{name}" for name in names}


def test_a_state_directory_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    state = State(tmp_path)
    (tmp_path / "identity-0").mkdir()
    (tmp_path / "trust.json").mkdir()
    with pytest.raises(ZlbError) as caught:
        state.identity()
    assert str(caught.value) == f"state directory {tmp_path}: identity-0: Is a directory"
    assert caught.value.exit_code is ExitCode.USAGE
    with pytest.raises(ZlbError) as caught:
        state.save([Standing(NodeId("p"), 1.0, 0.0, 1.0, 0.0, 1, 1)])
    assert str(caught.value) == f"state directory {tmp_path}: Is a directory"
