"""What a machine remembers between processes: rates and contacts, in plain files that may be damaged or missing."""

from pathlib import Path

import pytest

from zlb.core.ids import Endpoint
from zlb.core.work import Contacts, Rate
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
