"""Names of machines: one with several addresses is several machines."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from zlb.core import endpoints
from zlb.core.ids import Endpoint


def resolved(given: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints, in place of each whose host name has several addresses one for each of them.

    Names with one address stay, so that a machine that moves is found again; names without any may get one later.
    """
    found: dict[Endpoint, None] = {}
    for endpoint in given:
        for address in _addresses(endpoint) or [endpoint]:
            found[address] = None
    return tuple(found)


def _addresses(endpoint: Endpoint) -> list[Endpoint]:
    parts = endpoints.parse(endpoint)
    if parts.transport != "tcp" or parts.host == "localhost" or parts.host.startswith("["):
        return []
    try:
        known = socket.getaddrinfo(parts.host, int(parts.port), type=socket.SOCK_STREAM)
    except OSError:
        return []
    hosts = {f"[{host}]" if ":" in str(host) else host: None for *_, (host, *_) in known}
    return [Endpoint(f"tcp://{host}:{parts.port}") for host in hosts] if len(hosts) > 1 else []
