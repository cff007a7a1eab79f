"""The answers anyone can check with `sha256sum`, from an embedded peer."""

import hashlib
from collections.abc import Callable

import pytest

GENESIS = (
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3"
    "888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)
BLOCK_125552 = (
    "0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000e320b6c2fffc8d750423db8b1eb942ae710e951e"
    "d797f7affc8892b0f1fc122bc7f5d74df2b9441a42a14695"
)


@pytest.mark.parametrize(("match", "n"), [("trailing", 828028), ("bitcoin", 2602835)])
def test_lowest_at_20_bits(submit: Callable, match: str, n: int) -> None:
    answer = submit("--range", "0:2**32", "--difficulty", "20", "--lowest", "--match", match)
    assert (answer.code, answer.integers) == (0, [n])
    assert answer.out == f"{n}\t{hashlib.sha256(str(n).encode()).hexdigest()}\n"


@pytest.mark.parametrize(
    ("encoding", "trailing", "leading"),
    [
        ("dec", 31214, 88484),
        ("hex", 7562, 191101),
        ("u32be", 18656, 129544),
        ("u32le", 10361, 21462),
        ("u64be", 30366, 30556),
        ("u64le", 6057, 31429),
    ],
)
def test_lowest_at_16_bits_in_every_encoding(
    submit: Callable, encoding: str, trailing: int, leading: int
) -> None:
    for match, n in (("trailing", trailing), ("leading", leading)):
        answer = submit("-r", ":1M", "-d", "16", "--lowest", "-e", encoding, "-m", match)
        assert (answer.code, answer.integers) == (0, [n])


@pytest.mark.parametrize(("header", "nonce"), [(GENESIS, 2083236893), (BLOCK_125552, 2504433986)])
def test_real_block_headers(submit: Callable, header: str, nonce: int) -> None:
    answer = submit("--header", header, "--range", f"{nonce - 100_000}:+200_000")
    assert (answer.code, answer.integers) == (0, [nonce])


@pytest.mark.parametrize("algo", ["sha1", "sha256"])
def test_the_integer_of_a_digest(submit: Callable, algo: str) -> None:
    digest = hashlib.new(algo, b"a3039c").hexdigest()
    answer = submit("--digest", digest, "--algo", algo, "--prefix", "a", "-e", "hex", "-r", ":2^20")
    assert (answer.code, answer.out) == (0, f"{0x3039C}\t{digest}\n")


def test_a_rolled_block_header(submit: Callable) -> None:
    arguments = ("--header", GENESIS, "--roll-version", "4", "--range", "2083236000:2083237000")
    digest = hashlib.sha256(hashlib.sha256(bytes.fromhex(GENESIS)).digest()).hexdigest()
    assert submit(*arguments).out == f"2083236893\t{digest}\t00000001\n"
    everything = submit(*arguments, "--all", "--json")
    assert (everything.code, everything.done["tested"]) == (0, "4000")
    (hit,) = (event for event in everything.events if event["event"] == "hit")
    assert (hit["nonce"], hit["version"], hit["header"]) == ("2083236893", "00000001", GENESIS)


def test_rules_and_exit_codes(submit: Callable) -> None:
    assert submit("-r", ":1000", "-d", "40").code == 3
    counted = submit("-r", ":1M", "-d", "10", "--count", "7", "--json")
    assert counted.code == 0
    hits = [event for event in counted.events if event["event"] == "hit"]
    assert len({hit["n"] for hit in hits}) == 7
    assert submit("-r", ":2**63", "-d", "200", "--timeout", "500ms").code == 4
    everything = submit("-r", "0:300", "-d", "0", "--all")
    assert (everything.code, sorted(everything.integers)) == (0, list(range(300)))


def test_the_last_integers_there_are(submit: Callable) -> None:
    answer = submit("-r", "2**64-1000:2**64", "-d", "4", "--all", "-e", "u64be")
    expected = [
        n for n in range(2**64 - 1000, 2**64) if hashlib.sha256(n.to_bytes(8, "big")).digest()[-1] & 15 == 0
    ]
    assert (answer.code, sorted(answer.integers)) == (0, expected)
