"""Random jobs cut into random rows: their certificates are read as written; what is taken away or doubled is found."""

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from zlb.core.ids import JobId, NodeId, Span
from zlb.core.work import Hit, Job, Oracle, Row, StopRule
from zlb.protocols.certificate import Certificate, decode, encode
from zlb.protocols.evidence import alike
from zlb.protocols.examiner import share_pattern, share_word
from zlb.protocols.verdict import verify

TOP = 3000
PRIME = 2654435761
"""Times it, modulo 2^32, integers are spread evenly: as many match a pattern as are to be expected."""
HITS_EVERY = 97
JOB, PARAMS = JobId("j-1"), b"\x80"
SHARE_WORD = share_word(JOB, PARAMS)


def word(n: int) -> int:
    return n * PRIME % 2**32


def check(n: int) -> bytes | None:
    return n.to_bytes(9, "big") if n % HITS_EVERY == 0 else None


ORACLE = Oracle(check, word)


@dataclass(frozen=True)
class Cut:
    """How a job is cut: into spans at even points, and rows at all."""

    points: list[int]
    bits: int
    asked: list[bool]
    """Whether there are shares, row by row."""

    def certificate(self) -> Certificate:
        spans = tuple((self.points[at], self.points[at + 1]) for at in range(0, len(self.points) - 1, 2))
        rows = [
            self.row(number, (a, b))
            for number, (start, stop) in enumerate(spans)
            for a, b in ((start, (start + stop) // 2), ((start + stop) // 2, stop))
            if a < b
        ]
        hits = tuple(Hit(n, found) for a, b in spans for n in range(a, b) if (found := check(n)))
        job = Job(JOB, "k", PARAMS, spans, StopRule.ALL, 0)
        return Certificate(job, "complete", "shares", hits, tuple(rows), 10**18, NodeId("c-1"), bytes(32))

    def row(self, number: int, span: Span) -> Row:
        if not self.asked[number % len(self.asked)]:
            return Row(*span, NodeId(f"p-{number % 3}"), None, (), number)
        mask = 2**self.bits - 1
        pattern = share_pattern(SHARE_WORD, mask)
        shares = tuple(n for n in range(*span) if word(n) & mask == pattern.value)
        return Row(*span, NodeId(f"p-{number % 3}"), pattern, shares, number)


POINTS = st.lists(st.integers(0, TOP), min_size=2, max_size=12, unique=True).map(sorted)
CUTS = st.builds(Cut, POINTS, st.integers(0, 6), st.lists(st.booleans(), min_size=1, max_size=4))


@given(CUTS, st.binary(min_size=64, max_size=64))
def test_certificates_are_read_as_they_were_written(cut: Cut, signature: bytes) -> None:
    certificate = cut.certificate()
    data = encode(certificate, lambda body: signature)
    signed = decode(data)
    assert signed.certificate == certificate
    assert signed.signature == signature and data.startswith(signed.body)
    assert encode(signed.certificate, lambda body: signature) == data


@given(CUTS)
def test_honest_ones_are_good(cut: Cut) -> None:
    found = verify(cut.certificate(), ORACLE)
    assert found.good, found
    assert found.covered == found.size


@given(st.lists(CUTS, min_size=1, max_size=4))
def test_rows_with_any_masks_are_made_alike_as_if_asked_so(cuts: list[Cut]) -> None:
    most = max((cut.bits for cut in cuts if any(row.pattern for row in cut.certificate().rows)), default=0)
    rows = [row for cut in cuts for row in cut.certificate().rows]
    wanted = [row for cut in cuts for row in replace(cut, bits=most).certificate().rows]
    assert list(alike(rows, SHARE_WORD, word)) == wanted


@given(CUTS, st.data())
def test_a_row_that_is_dropped_is_found(cut: Cut, data: st.DataObject) -> None:
    whole = cut.certificate()
    gone = data.draw(st.integers(0, len(whole.rows) - 1))
    found = verify(whole._replace(rows=whole.rows[:gone] + whole.rows[gone + 1 :]), ORACLE)
    start, stop = whole.rows[gone][:2]
    assert any(line.startswith("gap: ") for line in found.faults)
    assert found.size - found.covered == stop - start


@given(CUTS, st.data())
def test_a_row_that_overlaps_is_found(cut: Cut, data: st.DataObject) -> None:
    whole = cut.certificate()
    row = data.draw(st.sampled_from(whole.rows))
    start = data.draw(st.integers(row.start, row.stop - 1))
    stop = data.draw(st.integers(start + 1, row.stop))
    found = verify(whole._replace(rows=(*whole.rows, cut.row(0, (start, stop)))), ORACLE)
    assert any(line.startswith("overlap: ") for line in found.faults)


@settings(max_examples=50)
@given(st.integers(400, TOP), st.sampled_from([2, 3]), st.data())
def test_many_shares_that_are_dropped_are_found(stop: int, bits: int, data: st.DataObject) -> None:
    whole = Cut([0, stop], bits, [True]).certificate()._replace(hits=(), status="cancelled")
    every = data.draw(
        st.integers(8, 40)
    )  # only each so many-th is left: with 50 or more to expect, that is no chance
    rows = tuple(row._replace(shares=row.shares[::every]) for row in whole.rows)
    found = verify(whole._replace(rows=rows), ORACLE)
    assert any("to be expected" in line for line in found.faults)


@given(CUTS, st.data())
def test_a_share_that_was_made_up_is_found(cut: Cut, data: st.DataObject) -> None:
    whole = cut.certificate()
    at = data.draw(st.integers(0, len(whole.rows) - 1))
    row = whole.rows[at]
    others = sorted({*range(row.start, row.stop)} - {*row.shares})
    if row.pattern is None or not others:
        return
    forged = row._replace(shares=tuple(sorted((*row.shares, data.draw(st.sampled_from(others))))))
    found = verify(whole._replace(rows=(*whole.rows[:at], forged, *whole.rows[at + 1 :])), ORACLE)
    assert any("shares are none" in line for line in found.faults)
