"""Kernels are found by entry point, and every way of not finding one is told apart."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

import zlb.kernels
from zlb.kernels import KernelError, UnknownKernel, kernel_names, load_kernel
from zlb.kernels.hashes import SHA256, SHA256D


def install(monkeypatch: pytest.MonkeyPatch, **kernels: str) -> None:
    entries = [
        EntryPoint(name, value, zlb.kernels.GROUP)
        for name, values in kernels.items()
        for value in values.split()
    ]
    monkeypatch.setattr(zlb.kernels, "_installed", lambda: EntryPoints(entries))


def test_the_project_installs_its_own() -> None:
    assert {"sha256", "sha256d"} <= set(kernel_names())
    assert load_kernel("sha256") is SHA256
    assert load_kernel("sha256d") is SHA256D


def test_a_kernel_is_called_as_its_entry_point() -> None:
    for name in ("sha256", "sha256d"):
        assert load_kernel(name).name == name


def test_unknown_names_are_told_with_the_known(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, b="some.module:B", a="some.module:A")
    with pytest.raises(UnknownKernel, match=r"'sha1'; installed kernels: a, b") as refusal:
        load_kernel("sha1")
    assert (refusal.value.name, refusal.value.known_names) == ("sha1", ("a", "b"))


def test_hostile_names_stay_one_short_line() -> None:
    with pytest.raises(UnknownKernel) as refusal:
        load_kernel("\n\x1b" * 1000)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize("value", ["zlb.kernels.no_such_module:K", "zlb.kernels.hashes:NoSuchKernel"])
def test_broken_packages_are_told(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    install(monkeypatch, k=value)
    with pytest.raises(KernelError, match="cannot be loaded"):
        load_kernel("k")


def test_two_packages_cannot_share_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, k="zlb.kernels.hashes:SHA256 zlb.kernels.hashes:SHA256D")
    with pytest.raises(KernelError, match="more than once"):
        load_kernel("k")


def test_a_package_seen_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, k="zlb.kernels.hashes:SHA256 zlb.kernels.hashes:SHA256")
    assert load_kernel("k") is SHA256
