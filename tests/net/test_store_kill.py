"""A process that saves is killed at any moment: what it said was saved is there, and at most one group more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

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
from zlb.drivers.store import Store

ROUNDS = 12
GROUPS_MAX = 60
NODE = NodeId("t-1")

CHILD = """
import runpy, sys
from pathlib import Path
group = runpy.run_path(sys.argv[1])["group"]
from zlb.drivers.store import Store
store = Store(Path(sys.argv[2]), "c", "t-1")
for number in range(int(sys.argv[3]), 10**9):
    store.save(group(number))
    print(number, flush=True)
"""


def group(number: int) -> list[ReplicaRecord]:
    """The `number`-th group, from 1: eight entries, the last two of the group before written anew, and its number."""
    first = 6 * number - 5
    entries = tuple(Entry(number, EntryKind.COMMAND, number, b"%d" % number * 50) for _ in range(8))
    records: list[ReplicaRecord] = [Vote(number, NODE), Append(first, entries)]
    if number % 7 == 0:
        configuration = Configuration((NODE,))
        records.append(
            Snapshot(first, number, number, configuration, b"%d" % number * 9999, first - 3, False)
        )
    return records


@pytest.mark.slow
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    dice = Random(7)
    saved, number = Saved(), 0  # what the store must hold, and the last group in it
    for _ in range(ROUNDS):
        command = [sys.executable, "-P", "-c", CHILD, __file__, str(tmp_path / "data"), str(number + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(dice.randrange(1, GROUPS_MAX))]
            # It goes on meanwhile: how far into a group it is cut off, the machine decides.
            for _ in range(dice.randrange(100_000)):
                pass
            child.kill()
            lines += child.stdout.readlines()
        said = [int(line) for line in lines if line.endswith("\n")]
        assert said == list(range(number + 1, number + 1 + len(said))) and said
        acknowledged = said[-1]
        store = Store(tmp_path / "data", "c", NODE)
        try:
            loaded = store.load()
        finally:
            store.close()
        assert acknowledged <= loaded.vote.term <= acknowledged + 1
        while number < loaded.vote.term:
            number += 1
            for record in group(number):
                saved = fold(saved, record)
        assert loaded == saved
