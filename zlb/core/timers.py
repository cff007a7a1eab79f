"""Named deadlines in a table: time is pulled by whoever drives the core, so a timer can be neither stale nor leaked."""

NEVER = 1 << 62
"""ns; later than any deadline."""


class Timers:
    """Deadlines by name, in ns of the driver's clock."""

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at: dict[str, int] = {}

    def set(self, name: str, at: int) -> None:
        """Set or move the deadline called `name`."""
        self._at[name] = at

    def cancel(self, name: str) -> None:
        """Forget the deadline called `name`, if there is one."""
        self._at.pop(name, None)

    def next(self) -> int:
        """The earliest deadline, or `NEVER`."""
        return min(self._at.values(), default=NEVER)

    def __contains__(self, name: str) -> bool:
        return name in self._at

    def due(self, now: int) -> list[str]:
        """Take out the names whose time has come, earliest first."""
        names = sorted((name for name, at in self._at.items() if at <= now), key=self._at.__getitem__)
        for name in names:
            del self._at[name]
        return names
