"""The three meanings of "d zeros" against digests spelled out bit by bit."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlb.kernels.interface import KernelError
from zlb.kernels.matching import MATCHES, rule_for_difficulty, rule_for_digest, rule_for_target

DIGESTS = st.one_of(
    st.binary(min_size=32, max_size=32),
    # Random digests rarely have many zeros at either end.
    st.tuples(st.integers(0, 32), st.binary(min_size=32, max_size=32), st.integers(0, 32)).map(
        lambda t: (bytes(t[0]) + t[1][t[0] : 32 - t[2]] + bytes(32))[:32]
    ),
)


def zeros(match: str, digest: bytes) -> int:
    """How many zero bits the digest shows in the sense of `match`."""
    ordered = digest[::-1] if match == "bitcoin" else digest
    bits = "".join(f"{byte:08b}" for byte in ordered)
    return len(bits) - len(bits.rstrip("0") if match == "trailing" else bits.lstrip("0"))


@given(match=st.sampled_from(MATCHES), digest=DIGESTS, difficulty=st.integers(0, 256))
def test_difficulty_is_a_number_of_zero_bits(match: str, digest: bytes, difficulty: int) -> None:
    assert rule_for_difficulty(match, difficulty).accepts(digest) == (zeros(match, digest) >= difficulty)


@given(match=st.sampled_from(MATCHES), digest=DIGESTS, difficulty=st.integers(0, 256))
def test_the_test_of_one_word_turns_away_no_winner(match: str, digest: bytes, difficulty: int) -> None:
    rule = rule_for_difficulty(match, difficulty)
    assert rule.word_test().passes(digest) or not rule.accepts(digest)


@given(match=st.sampled_from(MATCHES), digest=DIGESTS, difficulty=st.integers(0, 32))
def test_up_to_32_bits_one_word_decides(match: str, digest: bytes, difficulty: int) -> None:
    rule = rule_for_difficulty(match, difficulty)
    assert rule.word_test().passes(digest) == rule.accepts(digest)


@given(digest=DIGESTS, other=DIGESTS)
def test_a_digest_is_met_by_itself_alone(digest: bytes, other: bytes) -> None:
    rule = rule_for_digest(digest)
    assert rule.accepts(digest)
    assert rule.word_test().passes(digest)
    assert rule.accepts(other) == (digest == other)
    assert rule.word_test().passes(other) == (digest[-4:] == other[-4:])


def test_trailing_and_bitcoin_order_agree_on_whole_bytes_only() -> None:
    seed, bitcoin = (rule_for_difficulty(match, 20) for match in ("trailing", "bitcoin"))
    digest_of = {n: sha256(b"%d" % n).digest() for n in (828028, 2602835)}
    assert seed.accepts(digest_of[828028])
    assert not seed.accepts(digest_of[2602835])
    assert bitcoin.accepts(digest_of[2602835])
    assert not bitcoin.accepts(digest_of[828028])


@pytest.mark.parametrize("match", ["leading", "bitcoin"])
def test_a_target_is_met_by_itself_and_below(match: str) -> None:
    digest = sha256(b"zlb").digest()
    target = digest if match == "leading" else digest[::-1]
    lower = (int.from_bytes(target, "big") - 1).to_bytes(32, "big")
    assert rule_for_target(match, target).accepts(digest)
    assert not rule_for_target(match, lower).accepts(digest)


def test_trailing_zeros_have_no_target() -> None:
    with pytest.raises(KernelError, match="trailing"):
        rule_for_target("trailing", bytes(32))


@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize("difficulty", [0, 1, 20, 255, 256])
def test_tests_per_hit_of_a_difficulty(match: str, difficulty: int) -> None:
    assert rule_for_difficulty(match, difficulty).tests_per_hit() == 2.0**difficulty


def test_tests_per_hit_of_a_target() -> None:
    assert rule_for_target("leading", b"\xff" * 32).tests_per_hit() == 1.0
    assert rule_for_target("bitcoin", b"\xbf" + b"\xff" * 31).tests_per_hit() == 4 / 3
