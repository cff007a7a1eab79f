"""Where nodes listen, taken apart: `tcp://host:port`, `ipc://path`, `inproc://name`."""

import re
from typing import NamedTuple

from zlb.core.ids import Endpoint
from zlb.core.limits import ENDPOINT_BYTES_MAX

_TCP = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+|\*):(?P<port>\d{1,5}|\*)\Z")


class Parts(NamedTuple):
    """An endpoint's transport and address; for tcp also host and port (`*`: any that is free)."""

    transport: str
    address: str
    host: str = ""
    port: str = ""


def parse(endpoint: str) -> Parts:
    """Take an endpoint apart; raises `ValueError` with one line that says what is wrong."""
    transport, mark, address = endpoint.partition("://")
    if not mark or transport not in ("tcp", "ipc", "inproc"):
        raise ValueError(f"{endpoint!r} is no endpoint: tcp://HOST:PORT, ipc://PATH or inproc://NAME")
    if len(endpoint.encode()) > ENDPOINT_BYTES_MAX:
        raise ValueError(f"endpoint is longer than {ENDPOINT_BYTES_MAX} bytes")
    if not address:
        raise ValueError(f"{endpoint!r} names no {'host' if transport == 'tcp' else 'place'}")
    if transport != "tcp":
        return Parts(transport, address)
    found = _TCP.match(address)
    if found is None:
        raise ValueError(f"{endpoint!r} is not tcp://HOST:PORT")
    port = found["port"]
    if port != "*" and not 1 <= int(port) <= 65535:
        raise ValueError(f"port {port} of {endpoint!r} is not in 1..65535")
    return Parts(transport, address, found["host"], port)


def is_local(endpoint: str) -> bool:
    """Whether only this machine can reach it: loopback, `ipc` and `inproc`."""
    parts = parse(endpoint)
    if parts.transport != "tcp":
        return True
    return parts.host in ("localhost", "[::1]") or re.fullmatch(r"127(\.\d{1,3}){3}", parts.host) is not None


def publish_beside(listen: Endpoint) -> Endpoint:
    """Where a node that listens there publishes, unless told: a free port of the same host, or a name beside it."""
    parts = parse(listen)
    if parts.transport == "tcp":
        return Endpoint(f"tcp://{parts.host}:*")
    return Endpoint(f"{listen}.pub")
