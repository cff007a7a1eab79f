"""What the parent makes of a child that measures: whatever it prints, there is one outcome."""

import subprocess
import sys
from queue import SimpleQueue
from typing import Any

import pytest

from zlb.core.work import Failed, Measure, Measured, Outcome
from zlb.drivers import gauge

ENOUGH_S = 60
MEASURE = Measure("k", b"\x80", 1, 100)


def outcome(monkeypatch: pytest.MonkeyPatch, code: str) -> Outcome:
    """Of a child that runs `code`."""
    start = subprocess.Popen

    def child(_command: object, **options: Any) -> "subprocess.Popen[str]":
        return start([sys.executable, "-c", code], **options)

    monkeypatch.setattr(subprocess, "Popen", child)
    told: SimpleQueue[Outcome] = SimpleQueue()
    gauge.Gauge(MEASURE, told.put, 0).join()
    return told.get(timeout=ENOUGH_S)


def test_a_number_is_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(monkeypatch, "print(12.5)") == Measured(12.5)


@pytest.mark.parametrize("said", ["", "hello", "hello\\n12.5", "nan", "inf", "-1", "0"])
def test_anything_else_is_a_failure(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    found = outcome(monkeypatch, f"print('{said}')")
    assert isinstance(found, Failed) and found.detail.endswith(" is no rate")


def test_so_are_bytes_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os; os.write(1, b'\\xff' * 1000); os.write(2, b'\\xff\\n')"
    found = outcome(monkeypatch, code)
    assert isinstance(found, Failed) and found.detail.isascii() and len(found.detail) < 500


def test_a_child_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(monkeypatch, "import sys; sys.exit('so')") == Failed("so")
