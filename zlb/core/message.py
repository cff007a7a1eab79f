"""What every message is: one frozen array-like struct. The messages themselves are in `wire.messages`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from zlb.core.limits import NODE_ID_BYTES_MAX

Count = Annotated[int, Meta(ge=0)]
"""0 .. 2**64 - 1: MessagePack holds no larger integer."""

Name = Annotated[str, Meta(min_length=1, max_length=NODE_ID_BYTES_MAX, pattern=r"^(?!.*://)[!-~]+\Z")]
"""A node, job or kernel name: printable ASCII without blanks, and no endpoint."""

Key = Annotated[str, Meta(min_length=1, max_length=NODE_ID_BYTES_MAX)]
"""A name that only matches if it was taken in as a `Name` before; a pattern costs a microsecond a message."""


class Message(Struct, array_like=True, frozen=True, gc=False):
    """Base of all messages: travels as one MessagePack array, its fields in order."""


class Advert(Message, frozen=True):
    """Base of what is published: the newest (incarnation, sequence) of a node wins, older ones are ignored."""

    node: Key
    incarnation: Count
    sequence: Count
