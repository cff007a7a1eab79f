"""Names of things on the bus, as distinct types, so that a node is never mistaken for an endpoint."""

from typing import NewType

NodeId = NewType("NodeId", str)
"""Who a node is: printable ASCII, at most `limits.NODE_ID_BYTES_MAX` long; also its ZeroMQ routing id."""

Endpoint = NewType("Endpoint", str)
"""Where a node listens: `tcp://host:port`, `ipc://path` or `inproc://name`."""

Address = NodeId | Endpoint
"""Where a `Send` goes: to a node over an existing link, or to an endpoint, which is dialled if no link exists."""

JobId = NewType("JobId", str)
LeaseId = NewType("LeaseId", int)
NO_LEASE = LeaseId(0)
"""Integers were searched under no lease of whoever hears of it: for somebody who is gone, or for an earlier epoch."""
RunId = NewType("RunId", int)

Span = tuple[int, int]
"""A half-open range of integers `[start, stop)`, `0 <= start < stop <= 2**64`."""


def is_endpoint(address: str) -> bool:
    """Tell an endpoint from a node id: only endpoints name their transport."""
    return "://" in address
