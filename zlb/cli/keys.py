"""`zlb keys show`: the key this machine signs certificates with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from zlb.cli import command as shared
from zlb.cli.command import option


@click.group("keys", context_settings=shared.CONTEXT_SETTINGS)
@shared.version_option("zlb keys")
def keys() -> None:
    """The key this machine signs certificates with."""


@keys.command("show", cls=shared.Command, context_settings=shared.CONTEXT_SETTINGS)
@shared.state_dir_option("Key", "Where the key is kept.")
@option("--json", heading="Output", is_flag=True, help="One JSON object.")
@shared.version_option("zlb keys show")
def show(**given: Any) -> None:
    """Print the public key, for zlb verify --key, and its fingerprint; make the key if there is none."""
    from zlb.drivers.keys import FILE, own_key
    from zlb.drivers.state import default_state_dir

    state_dir: Path = given["state_dir"] or default_state_dir()
    key = own_key(state_dir)
    public, file = key.public.hex(), str(state_dir / FILE)
    if given["json"]:
        fields = {"event": "key", "public": public, "fingerprint": key.fingerprint, "file": file}
        click.echo(json.dumps(fields, separators=(",", ":")))
        return
    for label, text in (("public key", public), ("fingerprint", key.fingerprint), ("file", file)):
        click.echo(f"{label:11} {text}")
