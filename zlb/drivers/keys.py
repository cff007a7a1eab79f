"""The key a machine signs with (Ed25519, RFC 8032): made at first use, kept in the state directory for its owner alone.

The library is imported when a key is used, so that commands that need none do not wait for it.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from zlb.core.errors import ExitCode, ZlbError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE = "key.pem"
MODE = 0o600
OTHERS = 0o077
"""Permissions of anybody but the owner: none may be there."""
FILE_BYTES_MAX = 4096
"""Some 120 bytes are a key; whatever is longer than this is not read to its end."""
FINGERPRINT_BYTES = 10
"""80 bits: 16 characters to compare by eye, and nobody finds a second key for them."""
FINGERPRINT_GROUP = 4


class Key:
    """A private key, with which `sign` signs."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        """The public key, 32 bytes."""

    @property
    def fingerprint(self) -> str:
        """The public key in short, for people."""
        return fingerprint(self.public)

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`, 64 bytes."""
        return self._private.sign(data)


def own_key(state_dir: Path) -> Key:
    """This machine's key, made if there is none; raises `ZlbError` if it cannot be used.

    However many processes ask first, they get the same.
    """
    path = state_dir / FILE
    found = known_key(state_dir)
    if found is not None:
        return found
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        _make(path)
    except OSError as error:
        raise ZlbError(f"key {path}: {error.strerror}", ExitCode.USAGE) from None
    made = known_key(state_dir)
    if made is None:
        raise ZlbError(f"key {path}: gone as soon as it was made", ExitCode.USAGE)
    return made


def known_key(state_dir: Path) -> Key | None:
    """This machine's key, None if there is none yet; raises `ZlbError` if it cannot be used."""
    path = state_dir / FILE
    try:
        text = _content(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ZlbError(f"key {path}: {error.strerror}", ExitCode.USAGE) from None
    return Key(_parsed(path, text))


def is_signed(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether whoever has the private key of `public` has signed exactly `data`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(public: bytes) -> str:
    """A public key in short: 80 bits of its SHA-256 in base 32, as `abcd-efgh-ijkl-mnop`."""
    short = base64.b32encode(hashlib.sha256(public).digest()[:FINGERPRINT_BYTES]).decode().lower()
    return "-".join(short[at : at + FINGERPRINT_GROUP] for at in range(0, len(short), FINGERPRINT_GROUP))


def _content(path: Path) -> bytes:
    """What is in the file, which must be one, and its owner's alone."""
    # Neither a pipe that nobody writes to nor a terminal is waited for.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise ZlbError(f"key {path}: is no file", ExitCode.USAGE)
        if about.st_mode & OTHERS:
            mode = stat.S_IMODE(about.st_mode)
            why = f"others may use it (mode {mode:o}); if nobody has, say chmod 600, else remove it"
            raise ZlbError(f"key {path}: {why}", ExitCode.USAGE)
        return os.read(file, FILE_BYTES_MAX)
    finally:
        os.close(file)


def _parsed(path: Path, text: bytes) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        why = "damaged, or no key; if you remove it, a new one is made"
        raise ZlbError(f"key {path}: {why}", ExitCode.USAGE) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise ZlbError(f"key {path}: not of Ed25519", ExitCode.USAGE)
    return private


def _make(path: Path) -> None:
    """Make a key at `path`, whole and durable, unless somebody else does so first."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():  # somebody was first
            return
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        try:
            with open(file, "wb") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(file)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        os.fsync(folder)
    finally:
        os.close(folder)  # and the lock is gone
