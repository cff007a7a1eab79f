"""A machine's key: made once however many ask, its owner's alone, and refused in one line when it is not right."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from zlb.core.errors import ExitCode, ZlbError
from zlb.drivers.keys import FILE, fingerprint, is_signed, known_key, own_key

AT_ONCE = 6

# Waits at a pipe, so that all of them ask for the key at the same moment.
ASK = """
import sys
from pathlib import Path
from zlb.drivers import keys
from cryptography.hazmat.primitives import serialization
print("ready", flush=True)
sys.stdin.readline()
print(keys.own_key(Path(sys.argv[1])).public.hex())
"""


def said(state_dir: Path) -> str:
    """The one line about a key that cannot be used."""
    with pytest.raises(ZlbError) as caught:
        own_key(state_dir)
    assert caught.value.exit_code is ExitCode.USAGE and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"key {state_dir / FILE}: ")
    return str(caught.value).partition(": ")[2]


def test_the_key_is_made_at_first_and_stays(tmp_path: Path) -> None:
    state = tmp_path / "a" / "b"
    assert known_key(state) is None
    key = own_key(state)
    assert own_key(state).public == known_key(state).public == key.public  # type: ignore[union-attr]
    assert os.listdir(state) == [FILE]


def test_it_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        own_key(tmp_path)
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert (tmp_path / FILE).read_text().startswith("-----BEGIN PRIVATE KEY-----\n")


def test_what_it_signs_is_signed_and_nothing_else(tmp_path: Path) -> None:
    one, other = own_key(tmp_path / "1"), own_key(tmp_path / "2")
    signature = one.sign(b"data")
    assert len(signature) == 64 and len(one.public) == 32
    assert is_signed(one.public, signature, b"data")
    assert not is_signed(one.public, signature, b"Data")
    assert not is_signed(other.public, signature, b"data")
    assert not is_signed(one.public, signature[:-1] + bytes([signature[-1] ^ 1]), b"data")
    assert not is_signed(one.public, b"", b"data")
    assert not is_signed(b"short", signature, b"data")


def test_signatures_are_those_of_rfc_8032() -> None:
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    signature = (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
        "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert is_signed(public, bytes.fromhex(signature), b"")


def test_a_fingerprint_is_short_and_of_the_whole_key(tmp_path: Path) -> None:
    key = own_key(tmp_path)
    assert key.fingerprint == fingerprint(key.public)
    assert re.fullmatch(r"[a-z2-7]{4}(-[a-z2-7]{4}){3}", key.fingerprint)
    assert fingerprint(key.public[:-1] + bytes([key.public[-1] ^ 1])) != key.fingerprint


def test_processes_that_ask_at_once_get_one_key(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASK, str(tmp_path / "state")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    asking = [subprocess.Popen(command, **pipes) for _ in range(AT_ONCE)]  # type: ignore[call-overload]
    for process in asking:
        assert process.stdout.readline() == "ready\n"
    for process in asking:
        process.stdin.write("\n")
        process.stdin.flush()
    got = {process.communicate(timeout=60)[0] for process in asking}
    assert got == {own_key(tmp_path / "state").public.hex() + "\n"}
    assert os.listdir(tmp_path / "state") == [FILE]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601, 0o660])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    own_key(tmp_path)
    (tmp_path / FILE).chmod(mode)
    assert said(tmp_path).startswith(f"others may use it (mode {mode:o}); ")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\0", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    (tmp_path / FILE).chmod(0o600)
    assert said(tmp_path).startswith("damaged, or no key")
    assert (tmp_path / FILE).read_bytes() == content


def test_every_cut_key_is_refused(tmp_path: Path) -> None:
    own_key(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    for length in range(0, len(whole) - 26, 7):  # without its last line it is still whole
        (tmp_path / FILE).write_bytes(whole[:length])
        assert said(tmp_path).startswith("damaged, or no key")


def test_a_key_with_a_password_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    text = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / FILE).write_bytes(text)
    (tmp_path / FILE).chmod(0o600)
    assert said(tmp_path).startswith("damaged, or no key")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    text = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / FILE).write_bytes(text)
    (tmp_path / FILE).chmod(0o600)
    assert said(tmp_path) == "not of Ed25519"


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert said(tmp_path) == "is no file"
    (tmp_path / FILE).rmdir()
    os.mkfifo(tmp_path / FILE, 0o600)
    assert said(tmp_path) == "is no file"


def test_a_state_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    assert said(tmp_path / "state") == "Not a directory"
    assert said(tmp_path / "state" / "below") == "Not a directory"
