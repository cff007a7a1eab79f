"""Who can reach whom: partitions of every kind, one after the other."""

from __future__ import annotations

import random
from collections.abc import Callable

from zlb.core.ids import NodeId
from zlb.core.limits import MS

LASTS_NS_MAX = 4000 * MS

Pairs = frozenset[tuple[NodeId, NodeId]]
"""From whom to whom nothing gets through."""


class Partitions:
    """Cuts the network between `names` in some way for some time, then in another."""

    def __init__(self, names: list[NodeId], rng: random.Random) -> None:
        self._names, self._rng = names, rng
        self._cut: Pairs = frozenset()
        self._mute: dict[NodeId, int] = {}
        self._deaf: dict[NodeId, int] = {}
        self._until = 0
        self._kinds: list[Callable[[list[NodeId]], Pairs]] = rng.choice(
            [[_none], [_none, _split], [_none, _split, _one_way, _bridge, _ring], [_none, _one_way]]
        )

    def cut(self, src: NodeId, receiver: NodeId) -> bool:
        """Whether nothing gets from one to the other now."""
        return (src, receiver) in self._cut or src in self._mute or receiver in self._deaf

    @property
    def active(self) -> bool:
        """Whether somebody does not reach somebody."""
        return bool(self._cut)

    def mute(self, name: NodeId, until: int) -> None:
        """What `name` says is lost for a while, though it hears."""
        self._mute[name] = until

    def deafen(self, name: NodeId, until: int) -> None:
        """`name` hears nothing for a while, though it is heard."""
        self._deaf[name] = until

    def change(self, now: int) -> None:
        """Go on to the next partition when it is time, and let those be heard, or hear, again whose time is over."""
        self._mute = {name: until for name, until in self._mute.items() if until > now}
        self._deaf = {name: until for name, until in self._deaf.items() if until > now}
        if now >= self._until:
            self._begin(now, self._rng.choice(self._kinds))

    def strike(self, now: int) -> None:
        """Cut the network now, just when somebody has begun something; not in worlds whose networks stay whole."""
        kinds = [kind for kind in self._kinds if kind is not _none]
        if kinds:
            self._begin(now, self._rng.choice(kinds))

    def _begin(self, now: int, kind: Callable[[list[NodeId]], Pairs]) -> None:
        self._cut = kind(self._rng.sample(self._names, len(self._names)))
        self._until = now + self._rng.randint(0, LASTS_NS_MAX)

    def heal(self) -> None:
        """Everybody reaches everybody."""
        self._cut, self._mute, self._deaf = frozenset(), {}, {}


def _none(_names: list[NodeId]) -> Pairs:
    return frozenset()


def _split(names: list[NodeId]) -> Pairs:
    """Two halves that do not hear each other."""
    half = len(names) // 2
    return _between(names[:half], names[half:]) | _between(names[half:], names[:half])


def _one_way(names: list[NodeId]) -> Pairs:
    """The first hears nobody, but is heard."""
    return _between(names[1:], names[:1])


def _bridge(names: list[NodeId]) -> Pairs:
    """Two halves with one node in common."""
    half = (len(names) - 1) // 2
    one, other = names[1 : 1 + half], names[1 + half :]
    return _between(one, other) | _between(other, one)


def _ring(names: list[NodeId]) -> Pairs:
    """Everybody hears the neighbours on both sides only."""
    count = len(names)
    return frozenset(
        (names[i], names[j])
        for i in range(count)
        for j in range(count)
        if (i - j) % count not in (0, 1, count - 1)
    )


def _between(senders: list[NodeId], receivers: list[NodeId]) -> Pairs:
    return frozenset((sender, receiver) for sender in senders for receiver in receivers)
