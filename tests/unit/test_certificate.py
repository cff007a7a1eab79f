"""Certificates as text, and what verifying one finds: each way to be wrong, one at a time."""

import json
import math
from fractions import Fraction
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from zlb.core.ids import JobId, NodeId
from zlb.core.work import Hit, Job, Oracle, Pattern, Row, StopRule
from zlb.kernels.hashes import SHA256
from zlb.protocols import verdict
from zlb.protocols.certificate import Certificate, CertificateError, decode, encode, time_text
from zlb.protocols.evidence import alike
from zlb.protocols.examiner import share_pattern, share_word
from zlb.protocols.verdict import DOUBT_BELOW, Verdict, poisson_chance, skipped_max, verify
from zlb.wire import values

PARAMS: dict[str, object] = {"difficulty": 8}
SAMPLER = SHA256.sampler(PARAMS)
ORACLE = Oracle(SHA256.checker(PARAMS), lambda n: SAMPLER(n) << 8 & 0xFFFFFFFF | SAMPLER(n) >> 24)
"""The low bits of this word are the end of the digest: so every hit is a share."""
assert ORACLE.word is not None
WORD = ORACLE.word
SIZE, ROWS = 4096, 4
HITS = tuple(Hit(n, digest) for n in range(SIZE) if (digest := ORACLE.check(n)))
STARTED = 1_795_285_271_000_000_001
KEY, SIGNATURE = bytes(range(32)), bytes(64)
PATTERN = Pattern(0xF, 0)
"""The digest's last hexadecimal digit is 0, which happens to be what this job asks for."""


def row(start: int, stop: int, peer: str = "p-3f", pattern: Pattern | None = PATTERN, at_ns: int = 7) -> Row:
    """As an honest peer would have it."""
    shares = () if pattern is None else tuple(n for n in range(start, stop) if matches(n, pattern))
    return Row(start, stop, NodeId(peer), pattern, shares, at_ns)


def matches(n: int, pattern: Pattern) -> bool:
    assert ORACLE.word is not None
    return ORACLE.word(n) & pattern.mask == pattern.value


JOB = Job(JobId("j-7Q2MXW"), "sha256", values.pack(PARAMS), ((0, SIZE),), StopRule.ALL, 0)
EACH = SIZE // ROWS
HONEST = tuple(row(n * EACH, (n + 1) * EACH, f"p-{n % 2}", at_ns=n) for n in range(ROWS))
GOOD = Certificate(JOB, "complete", "shares", HITS, HONEST, STARTED, NodeId("c-1"), KEY)


def sign(body: bytes) -> bytes:
    return SIGNATURE


def with_row(index: int, new: Row) -> Certificate:
    return GOOD._replace(rows=(*HONEST[:index], new, *HONEST[index + 1 :]))


def job(rule: StopRule, wanted: int, **more: object) -> Job:
    return JOB._replace(rule=rule, hits_wanted=wanted, **more)


def fault(certificate: Certificate) -> str:
    """The only fault that is found."""
    (found,) = verify(certificate, ORACLE).faults
    return found


# -- the text


def test_what_is_written_is_read_again() -> None:
    data = encode(GOOD, sign)
    signed = decode(data)
    assert signed.certificate == GOOD
    assert (
        signed.body + json.dumps({"signature": SIGNATURE.hex()}, separators=(",", ":")).encode() + b"\n"
        == data
    )


def test_the_signature_is_over_all_lines_before_it() -> None:
    handed: list[bytes] = []
    data = encode(GOOD, lambda body: handed.append(body) or SIGNATURE)
    assert handed == [decode(data).body] == [b"".join(data.splitlines(keepends=True)[:-1])]


def test_lines_are_json_that_people_can_read() -> None:
    lines = [json.loads(line) for line in encode(GOOD, sign).splitlines()]
    assert len(lines) == 1 + ROWS + len(HITS) + 1
    assert lines[0]["spans"] == [["0", "4096"]] and lines[0]["started"] == "2026-11-21T18:21:11.000000001Z"
    second = {key: value for key, value in lines[2].items() if key != "shares"}
    assert second == {
        "start": "1024",
        "stop": "2048",
        "peer": "p-1",
        "kernel": "sha256",
        "mask": "0000000f",
        "value": "00000000",
        "time": "2026-11-21T18:21:11.000000002Z",
    }
    assert [int(n) for n in lines[2]["shares"]] == [*HONEST[1].shares]


def test_a_share_is_what_sha256sum_says() -> None:
    n = HONEST[0].shares[0]
    assert sha256(str(n).encode()).hexdigest()[-1] == "0"


def test_the_manual_reckons_right(root: Path) -> None:
    """docs/certificate.md, "By hand"."""
    manual = (root / "docs" / "certificate.md").read_text()
    packed = values.pack({"difficulty": 20})
    word = sha256(b"zlb share word\0" + b"j-7Q2MXK" + b"\0" + packed)
    assert f"echo {packed.hex()} | xxd" in manual and f"{word.hexdigest()}  -\n" in manual
    assert f"{share_word(JobId('j-7Q2MXK'), packed):08x}" == "d0382881" and "d0382881 under" in manual
    digest = sha256(b"937")
    assert f"{SAMPLER(937):08x}" == "c3963881" and 0xC3963881 & 0xFFF == 0x881
    assert f"{digest.hexdigest()}  -\n" in manual and "backwards are c3963881" in manual
    assert '"mask":"00000fff","value":"00000881","shares":["937",' in manual
    for expected, part in ((256, "a third"), (1000, "some 18 %"), (4096, "some 9 %")):
        assert f"{expected:,} {part}" in manual
    assert [round(100 * skipped_max(n, n)) for n in (256, 1000, 4096)] == [33, 18, 9]


def test_the_largest_integers_pass() -> None:
    top = 1 << 64
    big = GOOD._replace(
        job=JOB._replace(spans=((0, 5), (5, 7), (top - 9, top))),
        hits=(Hit(top - 1, b""),),
        rows=(Row(top - 9, top, NodeId("p"), Pattern(0xFFFFFFFF, 1 << 31), (top - 1,), 0),),
    )
    assert decode(encode(big, sign)).certificate == big


LINES = encode(GOOD._replace(rows=(row(0, 64), row(64, SIZE, pattern=None))), sign).splitlines(keepends=True)


def changed(line: int, **fields: object) -> bytes:
    """The text with other fields in one line; None: without that field."""
    now = json.loads(LINES[line - 1]) | fields
    now = {key: value for key, value in now.items() if value is not ...}
    text = json.dumps(now, separators=(",", ":")).encode() + b"\n"
    return b"".join([*LINES[: line - 1], text, *LINES[line:]])


WRONG = {
    "no bytes": (b"", "line 1: cut off"),
    "no text": (b"\xff\xfe\n", "line 1: is no JSON object"),
    "no object": (b"[]\n", "line 1: is no JSON object"),
    "deep": (b"[" * 100_000 + b"\n", "line 1: is no JSON object"),
    "long number": (b'{"certificate":' + b"9" * 5000 + b"}\n", "line 1: is no JSON object"),
    "only a header": (LINES[0], "line 1: cut off"),
    "no signature": (b"".join(LINES[:-1]), f"line {len(LINES) - 1}: cut off"),
    "half a line": (b"".join(LINES)[:-1], f"line {len(LINES)}: cut off"),
    "more than the signature": (
        b"".join(LINES) + LINES[-1],
        f"line {len(LINES)}: more comes after the signature",
    ),
    "another version": (changed(1, certificate=2), "line 1: certificates of version 2 are not known here"),
    "version of text": (changed(1, certificate="1"), "line 1: certificates of version ? are"),
    "version true": (changed(1, certificate=True), "line 1: is not written as certificates are"),
    "no kernel": (changed(1, kernel=...), "line 1: kernel is missing"),
    "a new field": (changed(1, more=1), "line 1: is not written as certificates are"),
    "rule": (changed(1, rule="some"), "line 1: rule is none of first, lowest, count, all"),
    "status": (changed(1, status="fine"), "line 1: status is none of found,"),
    "verify": (changed(1, verify="quorum:1"), "line 1: verify is none of none, shares, spot, quorum:2,"),
    "no verify": (changed(1, verify=...), "line 1: verify is missing"),
    "name": (changed(1, job="j 1"), "line 1: job is no name"),
    "long name": (changed(1, job="j" * 65), "line 1: job is no name"),
    "key": (changed(1, key="00"), "line 1: key has 64 hex digits, not 2"),
    "capitals": (changed(1, params="81AA"), "line 1: params is not in hex digits"),
    "odd hex": (changed(1, params="8"), "line 1: params is not in hex digits"),
    "long params": (changed(1, params="00" * 200_000), "line 1: params take more than"),
    "no spans": (changed(1, spans=[]), "line 1: spans are missing"),
    "bad span": (changed(1, spans=["0"]), "line 1: spans are pairs"),
    "empty span": (changed(1, spans=[["5", "5"]]), "line 1: spans are not ascending"),
    "spans overlap": (changed(1, spans=[["0", "5"], ["4", "9"]]), "line 1: spans are not ascending"),
    "numbers": (changed(1, spans=[[0, 4096]]), "line 1: spans: integers are written as texts"),
    "day": (changed(1, started="2026-02-30T00:00:00.000000000Z"), "line 1: started is no time"),
    "short time": (changed(1, started="2026-02-20T00:00:00Z"), "line 1: started is no time"),
    "old time": (changed(1, started="1969-12-31T23:59:59.000000000Z"), "line 1: started is before 1970"),
    "zeros": (changed(2, start="00"), "line 2: start: integers are written as"),
    "large": (changed(2, stop=str(2**64 + 1)), "line 2: stop: integers are written as"),
    "empty row": (changed(2, stop="0"), "line 2: the row ends, at 0, before it starts, at 0"),
    "other kernel": (changed(2, kernel="sha1"), "line 2: kernel is not sha256"),
    "before it began": (
        changed(2, time="2025-01-01T00:00:00.000000000Z"),
        "line 2: time is before the job began",
    ),
    "no mask": (changed(2, mask=None), "line 2: shares without a mask and a value"),
    "half a pattern": (changed(2, value=None), "line 2: value is no text"),
    "short mask": (changed(2, mask="0f"), "line 2: mask has 8 hex digits, not 2"),
    "shares": (changed(2, shares="5"), "line 2: shares is no list"),
    "share": (changed(2, shares=[5]), "line 2: shares: integers are written"),
    "value alone": (changed(3, value="00000000"), "line 3: is not written as certificates are"),
    "long digest": (changed(4, digest="00" * 129), "line 4: digest takes more than"),
    "row after hits": (b"".join([*LINES[:-1], LINES[2], LINES[-1]]), f"line {len(LINES)}: hits come last"),
    "blank": (
        b"".join([LINES[0].replace(b'"key":', b'"key": '), *LINES[1:]]),
        "line 1: is not written as certificates are",
    ),
    "twice": (b"".join([LINES[0], LINES[1][:-2] + b',"time":"x"}\n']), "line 2: "),
    "signature": (changed(len(LINES), signature="00"), f"line {len(LINES)}: signature has 128 hex digits"),
}


@pytest.mark.parametrize(("data", "said"), WRONG.values(), ids=WRONG)
def test_anything_else_is_refused_with_one_line(data: bytes, said: str) -> None:
    with pytest.raises(CertificateError) as caught:
        decode(data)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_too_long_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zlb.protocols.certificate.CERTIFICATE_BYTES_MAX", 100)
    with pytest.raises(CertificateError, match=r"^line 1: longer than the 100 bytes"):
        decode(b"".join(LINES))


def test_every_truncation_is_refused() -> None:
    data = b"".join(LINES)
    for length in range(0, len(data), 3):
        with pytest.raises(CertificateError):
            decode(data[:length])


def test_every_changed_byte_is_refused_or_changes_what_is_signed() -> None:
    data = b"".join(LINES)
    whole = decode(data)
    for at in range(len(data)):
        for flip in (0x01, 0x20, 0x80):
            other = bytearray(data)
            other[at] ^= flip
            try:
                now = decode(bytes(other))
            except CertificateError:
                continue
            assert (now.body, now.signature) != (whole.body, whole.signature)


def test_times_are_of_four_digit_years() -> None:
    assert time_text(0) == "1970-01-01T00:00:00.000000000Z"
    last = 253_402_300_800 * 10**9 - 1
    assert time_text(last) == "9999-12-31T23:59:59.999999999Z"
    with pytest.raises(AssertionError):
        time_text(last + 1)


# -- the verdict


def test_an_honest_certificate_is_good() -> None:
    found = verify(GOOD, ORACLE)
    assert found.good and found.covered == found.size == SIZE
    assert found.total.shares == sum(len(one.shares) for one in HONEST) and found.total.expected == SIZE / 16
    assert [(tally.peer, tally.rows, tally.integers) for tally in found.peers] == [
        ("p-0", 2, 2048),
        ("p-1", 2, 2048),
    ]


def test_rows_may_come_in_any_order_and_cut_as_they_like() -> None:
    rows = (row(3000, SIZE), row(0, 1), row(1, 3000))
    assert verify(GOOD._replace(rows=rows), ORACLE).good


def test_a_gap_is_found() -> None:
    assert (
        fault(with_row(1, row(1024, 2047))) == "gap: [2047, 2048) is in no row, although the job is complete"
    )
    gone = verify(GOOD._replace(rows=HONEST[1:]), ORACLE)
    assert gone.faults == ("gap: [0, 1024) is in no row, although the job is complete",)
    assert gone.covered == 3072


def test_an_overlap_is_found() -> None:
    said = fault(with_row(1, row(1000, 2048, "p-1")))
    assert said == "overlap: [1000, 1024) is in row [1000, 2048) of p-1 and in another one"
    assert fault(GOOD._replace(rows=(*HONEST, HONEST[2]))).startswith("overlap: [2048, 3072) is in row")
    within = verify(GOOD._replace(rows=(row(0, SIZE), row(100, 200))), ORACLE)
    assert within.faults == ("overlap: [100, 200) is in row [100, 200) of p-3f and in another one",)


def test_what_is_not_of_the_job_is_found() -> None:
    spans = ((0, 1000), (1100, SIZE))
    hits = tuple(hit for hit in HITS if not 1000 <= hit.n < 1100)
    out = GOOD._replace(job=JOB._replace(spans=spans), hits=hits)
    found = verify(out, ORACLE)
    assert found.faults[0] == "[1000, 1100) is in rows, but not in the job"
    assert found.covered == found.size == SIZE - 100
    hit = HITS[0]
    elsewhere = GOOD._replace(job=JOB._replace(spans=((hit.n + 1, SIZE),)), rows=(row(hit.n + 1, SIZE),))
    assert fault(elsewhere) == f"hit {hit.n} is not in the job's range"


def test_a_share_that_is_none_is_found() -> None:
    shares = HONEST[1].shares
    wrong = next(n for n in range(1024, 2048) if n not in shares)
    forged = HONEST[1]._replace(shares=tuple(sorted((*shares, wrong))))
    assert fault(with_row(1, forged)) == (
        f"row [1024, 2048) of p-1: 1 of {len(shares) + 1} shares are none, the first {wrong}"
    )


def test_shares_are_ascending_each_once_and_in_their_row() -> None:
    shares = HONEST[1].shares
    said = "row [1024, 2048) of p-1: its shares are not ascending, each once"
    assert fault(with_row(1, HONEST[1]._replace(shares=(*shares, shares[-1])))) == said
    assert said in verify(with_row(1, HONEST[1]._replace(shares=shares[::-1])), ORACLE).faults
    other = HONEST[1]._replace(shares=(HONEST[0].shares[-1], *shares))
    assert fault(with_row(1, other)) == "row [1024, 2048) of p-1: a share lies outside of it"


@pytest.mark.parametrize("pattern", [(0xF, 1), (0xF0, 0), (0x8000000F, 0), (0xF, 0x10)])
def test_a_pattern_that_is_not_the_jobs_is_found(pattern: tuple[int, int]) -> None:
    chosen = row(1024, 2048, "p-1", Pattern(*pattern))
    said = verify(with_row(1, chosen), ORACLE).faults
    assert said[0].startswith("row [1024, 2048) of p-1: its pattern is not the job's, 0")


def test_another_job_has_another_pattern() -> None:
    word = share_word(JOB.id, JOB.params)
    others = [share_word(JobId(f"{JOB.id}{n}"), JOB.params + bytes(m)) for n in range(9) for m in range(9)]
    assert len({word, *others}) == 82 and not any(word >> 32 for word in others)
    for other in (JOB._replace(id=JobId("j-OTHER")), JOB._replace(params=values.pack({"difficulty": 9}))):
        faults = verify(GOOD._replace(job=other), None).faults
        assert len(faults) == ROWS and all("its pattern is not the job's" in fault for fault in faults)


def test_where_everything_is_a_share_everything_is_there() -> None:
    rows = tuple(row(*one[:3], Pattern(0, 0)) for one in HONEST)
    assert verify(GOOD._replace(rows=rows), ORACLE).good
    less = rows[1]._replace(shares=tuple(n for n in rows[1].shares if n != 1029))
    assert (
        fault(GOOD._replace(rows=(rows[0], less, *rows[2:])))
        == "row [1024, 2048) of p-1: every integer is a share, but only 1023 are there"
    )


def test_rows_of_different_masks_are_found() -> None:
    word = share_word(JOB.id, JOB.params)
    mixed = with_row(1, row(1024, 2048, "p-1", share_pattern(word, 0x1F)))
    assert fault(mixed) == "rows have 2 masks, from 0000000f to 0000001f, and are to have the same"
    assert verify(mixed._replace(rows=alike(mixed.rows, word, WORD)), ORACLE).good


def test_half_of_everything_cannot_be_skipped_by_a_choice_of_masks_row_by_row() -> None:
    word = share_word(JOB.id, JOB.params)

    def lazy(start: int, mask: int) -> Row:
        """Of the odd integers only."""
        pattern = share_pattern(word, mask)
        shares = tuple(n for n in range(start + 1, start + 16, 2) if matches(n, pattern))
        return Row(start, start + 16, NodeId("p"), pattern, shares, 0)

    def doubt(start: int, mask: int) -> float:
        return abs(len(lazy(start, mask).shares) - 16 / (mask + 1))

    masks = [min((3, 7, 15, 31), key=partial(doubt, start)) for start in range(0, SIZE, 16)]
    rows = [lazy(16 * number, mask) for number, mask in enumerate(masks)]
    chosen = GOOD._replace(rows=tuple(rows), hits=(), status="cancelled")
    assert verify(chosen, None).total.chance > DOUBT_BELOW  # the counts alone do not show it
    assert any("masks" in fault for fault in verify(chosen, None).faults)
    assert verify(chosen._replace(rows=alike(rows, word, WORD)), ORACLE).skipped_max > 0.5


def test_hits_are_hashed_again() -> None:
    n, digest = HITS[0]
    assert (
        fault(GOOD._replace(hits=(Hit(n, bytes(32)), *HITS[1:])))
        == f"hit {n} has another digest: {digest.hex()}"
    )
    none = next(n for n in range(SIZE) if ORACLE.check(n) is None and not matches(n, PATTERN))
    assert fault(GOOD._replace(hits=(*HITS, Hit(none, digest)))) == f"hit {none} is none"
    assert fault(GOOD._replace(hits=(*HITS, HITS[0]))) == f"hit {n} is there twice"


def test_a_hit_that_was_kept_from_the_shares_is_found() -> None:
    hit = HITS[0]
    index = hit.n // EACH
    less = HONEST[index]._replace(shares=tuple(n for n in HONEST[index].shares if n != hit.n))
    assert fault(with_row(index, less)).endswith(
        f"hit {hit.n} matches its pattern, but is not among its shares"
    )


def test_a_share_that_is_a_hit_nobody_told_of_is_found() -> None:
    assert fault(GOOD._replace(hits=HITS[1:])).endswith(f"share {HITS[0].n} is a hit, but not among the hits")


def test_too_few_shares_are_doubted() -> None:
    half = [one._replace(shares=tuple(n for n in one.shares if ORACLE.check(n) or n % 2)) for one in HONEST]
    found = verify(GOOD._replace(rows=tuple(half)), ORACLE)
    assert not found.good and found.total.chance < DOUBT_BELOW
    assert found.faults[-1].startswith("all rows together have")
    assert "256 are to be expected" in found.faults[-1]


def test_one_lazy_peer_among_honest_ones_is_named() -> None:
    lazy = Row(0, 1024, NodeId("p-lazy"), PATTERN, tuple(n for n in HONEST[0].shares if ORACLE.check(n)), 0)
    found = verify(GOOD._replace(rows=(lazy, *HONEST[1:])), ORACLE)
    assert found.faults[0].startswith("p-lazy's rows have ")


def test_too_many_shares_are_doubted() -> None:
    assert poisson_chance(500, 256.0) < DOUBT_BELOW


def test_the_word_of_peers_alone_is_reported() -> None:
    found = verify(with_row(3, row(3072, SIZE, "p-1", None)), ORACLE)
    assert found.good and found.total.alone == 1024 and found.total.expected == 192
    alone = verify(GOOD._replace(rows=(row(0, SIZE, pattern=None),)), ORACLE)
    assert alone.good and alone.skipped_max == 1.0 and alone.total.chance == 1.0


ENDS = [
    ("found", StopRule.FIRST, 1, 1, ""),
    ("found", StopRule.FIRST, 1, 0, "the job is found, with 0 hits"),
    ("found", StopRule.COUNT, 3, 2, "the job is found, with 2 hits"),
    ("found", StopRule.ALL, 0, 2, "the job is found, with 2 hits"),
    ("exhausted", StopRule.COUNT, len(HITS) + 1, len(HITS), ""),
    ("exhausted", StopRule.COUNT, 2, len(HITS), "the job is exhausted, with"),
    ("exhausted", StopRule.ALL, 0, len(HITS), "the job is exhausted, with"),
    ("complete", StopRule.ALL, 0, len(HITS), ""),
    ("complete", StopRule.COUNT, 9, len(HITS), "the job is complete, under the rule count"),
]


@pytest.mark.parametrize(("status", "rule", "wanted", "hits", "said"), ENDS)
def test_how_it_ended_goes_with_the_rule(
    status: str, rule: StopRule, wanted: int, hits: int, said: str
) -> None:
    found = verify(GOOD._replace(job=job(rule, wanted), status=status, hits=HITS[:hits]), ORACLE)
    assert found.faults == () if not said else found.faults[0].startswith(said)


def test_a_job_that_found_its_hit_need_not_be_whole() -> None:
    first = GOOD._replace(job=job(StopRule.FIRST, 1), status="found", hits=HITS[1:2], rows=HONEST[1:3])
    found = verify(first, ORACLE)
    assert found.good and found.covered == 2048


@pytest.mark.parametrize("status", ["timeout", "cancelled", "failed"])
def test_nor_one_that_was_ended(status: str) -> None:
    found = verify(GOOD._replace(status=status, rows=HONEST[:1], hits=()), ORACLE)
    assert found.good and found.covered == 1024


def test_below_the_lowest_hit_everything_is_covered() -> None:
    hit = HITS[0]
    lowest = GOOD._replace(job=job(StopRule.LOWEST, 1), status="found", hits=(hit,))
    upto = hit.n + 1
    assert verify(lowest._replace(rows=(row(0, upto),)), ORACLE).good
    assert verify(lowest._replace(rows=(row(0, upto + 9),)), ORACLE).good
    assert verify(lowest._replace(rows=(row(0, upto), row(upto + 5, upto + 9))), ORACLE).good
    gap = f"gap: [{hit.n}, {upto}) is in no row, although {hit.n} is the lowest hit"
    assert fault(lowest._replace(rows=(row(0, hit.n),))) == gap
    assert fault(lowest._replace(rows=(row(1, upto),))).startswith("gap: [0, 1)")


def test_a_lower_hit_among_the_shares_is_found() -> None:
    second = HITS[1]
    not_lowest = GOOD._replace(
        job=job(StopRule.LOWEST, 1), status="found", hits=(second,), rows=(row(0, SIZE),)
    )
    assert fault(not_lowest).endswith(f"share {HITS[0].n} is a hit, but not among the hits")


def test_without_the_kernel_gaps_and_overlaps_are_still_found() -> None:
    found = verify(GOOD, None)
    assert found.unchecked == ("no share and no hit was recomputed: kernel sha256 cannot be used here",)
    assert not found.good and found.faults == ()
    assert len(verify(GOOD._replace(rows=HONEST[1:]), None).faults) == 1


def test_a_kernel_that_takes_no_samples_leaves_shares_open() -> None:
    found = verify(GOOD, Oracle(ORACLE.check))
    assert found.unchecked == ("no share was recomputed: kernel sha256 takes no samples here",)
    assert verify(GOOD._replace(rows=(row(0, SIZE, pattern=None),)), Oracle(ORACLE.check)).good


def test_a_kernel_that_fails_confirms_nothing() -> None:
    def fail(n: int) -> bytes | None:
        raise RuntimeError(n)

    found = verify(GOOD._replace(rows=HONEST[:1], hits=HITS[:1], status="cancelled"), Oracle(fail, fail))  # type: ignore[arg-type]
    assert [line.partition(": ")[2] or line for line in found.faults] == [
        f"hit {HITS[0].n} is none",
        f"{len(HONEST[0].shares)} of {len(HONEST[0].shares)} shares are none, the first {HONEST[0].shares[0]}",
    ]


# -- counts


@pytest.mark.parametrize("mean", [0.25, 1.0, 7.5, 40.0])
@pytest.mark.parametrize("count", [0, 1, 3, 8, 30, 90])
def test_the_chance_is_the_exact_sum(count: int, mean: float) -> None:
    def term(k: int) -> Fraction:
        return Fraction(mean) ** k / math.factorial(k)

    inside = range(count + 1) if count <= mean else range(count)
    below = math.exp(-mean) * float(sum(term(k) for k in inside))
    if count > mean:
        above = math.exp(-mean) * float(sum(term(k) for k in range(count, count + 300)))
        assert poisson_chance(count, mean) == pytest.approx(min(1.0, 2 * above), rel=1e-9)
    else:
        assert poisson_chance(count, mean) == pytest.approx(min(1.0, 2 * below), rel=1e-9)


def test_chances_of_nothing_and_of_much() -> None:
    assert poisson_chance(0, 0.0) == 1.0 and poisson_chance(1, 0.0) == 0.0
    assert poisson_chance(0, 1e19) == 0.0
    assert poisson_chance(10**7, 1e7) > 0.99


def test_what_may_have_been_skipped() -> None:
    assert skipped_max(0, 0.0) == 1.0 and skipped_max(0, 500.0) == pytest.approx(1.0)
    limit = skipped_max(1000, 1000.0)
    assert 0.15 < limit < 0.2
    assert skipped_max(5000, 5000.0) < limit < skipped_max(900, 1000.0)
    # At the limit such a count is exactly as unlikely as that.
    assert poisson_chance(1000, 1000 * (1 - limit)) / 2 == pytest.approx(DOUBT_BELOW, rel=1e-3)


def test_a_verdict_is_good_only_if_all_was_checked() -> None:
    fine: Verdict = verify(GOOD, ORACLE)
    assert fine.good
    assert not fine._replace(unchecked=("x",)).good and not fine._replace(faults=("x",)).good
    assert verdict.DOUBT_BELOW == 1e-9
