"""Where a job of `zlb-submit` is to run, what goes with that, and how its results can be checked there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from zlb.cli.asked import Asked
from zlb.cli.types import Verification
from zlb.core.config import Method, Scheme
from zlb.core.ids import Endpoint
from zlb.core.limits import TEXT_BYTES_MAX

_WITH_PEERS = {"scheme": "jobs at trackers go by factoring"}
_WITH_TRACKERS = ("detach", "priority", "deadline")


@dataclass(frozen=True, slots=True)
class Where:
    """Where the job is to run: at `trackers`, on `peers`, or else here on `slots` threads (None: one per core)."""

    trackers: tuple[Endpoint, ...]
    peers: tuple[Endpoint, ...]
    slots: int | None
    state_dir: Path | None


def placed(ctx: click.Context, given: dict[str, Any]) -> Where:
    """What the command line says wins over the environment, and there trackers over peers."""
    peers, there = tuple(dict.fromkeys(given["peer"])), tuple(dict.fromkeys(given["tracker"]))
    said = {
        "--local": given["local"] is not None,
        "--peer": ctx.get_parameter_source("peer") is ParameterSource.COMMANDLINE,
        "--tracker": ctx.get_parameter_source("tracker") is ParameterSource.COMMANDLINE,
    }
    if said["--local"] and said["--peer"]:
        raise click.UsageError("--local means no peers: it cannot go with --peer")
    if said["--tracker"] and (said["--local"] or said["--peer"]):
        other = "--local" if said["--local"] else "--peer"
        raise click.UsageError(f"--tracker has its own peers: it cannot go with {other}")
    if said["--local"]:
        return Where((), (), given["local"] or None, given["state_dir"])
    if there and not said["--peer"]:
        return Where(there, (), None, given["state_dir"])
    return Where((), peers, None, given["state_dir"])


def settled(ctx: click.Context, place: Where, given: dict[str, Any]) -> list[str]:
    """Take out of `given` what the environment says and cannot be had there; returns a warning for each.

    Raises `click.UsageError` if the command line says it, for what contradicts itself, or for a name that trackers
    would not take.
    """
    if place.trackers:
        gone = {name: f"--{name} goes with --peer and --local: {why}" for name, why in _WITH_PEERS.items()}
    else:
        gone = {name: f"--{name} goes with --tracker only" for name in _WITH_TRACKERS}
    defaults: dict[str, Any] = {"scheme": (Scheme.FACTORING, 1.0), "detach": False}
    warnings = []
    for name, why in gone.items():
        source, default = ctx.get_parameter_source(name), defaults.get(name)
        if source is ParameterSource.COMMANDLINE:
            raise click.UsageError(why)
        if given[name] != default:
            warnings.append(f"ZLB_{name.upper()} does not count: {why}")
            given[name] = default
    if given["detach"] and given["timeout"] is not None:
        raise click.UsageError(
            "--timeout cannot go with --detach: nobody is here to cancel it. See --deadline"
        )
    if given["scheme"][0] is Scheme.SEED and given["chunk"] is not None:
        raise click.UsageError("--scheme seed sizes subjobs by itself: it cannot go with --chunk")
    if place.trackers and given["name"] is not None:
        if len(given["name"]) > TEXT_BYTES_MAX:
            raise click.UsageError(f"--name has at most {TEXT_BYTES_MAX} characters")
        if not given["name"].isprintable():
            raise click.UsageError(f"--name {given['name']!a} is to be printable")
    return warnings


def checked(
    ctx: click.Context, place: Where, asked: Asked, verification: Verification
) -> tuple[Verification, str]:
    """How results will be checked, and a note if that is less than usual; raises `click.UsageError` if it is less than
    was asked for."""
    method, name = verification.method, asked.puzzle.kernel_name
    if method is Method.QUORUM and not (place.peers or place.trackers):
        raise click.UsageError(
            f"--verify {verification.text} goes with --peer or --tracker: this process is one peer only"
        )
    if method not in (Method.SHARES, Method.SPOT) or hasattr(asked.puzzle.kernel, "sampler"):
        return verification, ""
    why = f"kernel {name} tells no samples, so only its hits can be checked"
    if ctx.get_parameter_source("verify") is not ParameterSource.DEFAULT:
        raise click.UsageError(
            f"--verify {method}: {why}; --verify quorum:2 has everything searched by two peers"
        )
    return Verification(Method.NONE, 1), f"note: {why}; see --verify quorum:2"
