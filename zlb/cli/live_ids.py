"""Jobs and trackers as arguments: a shell completes those that there are now."""

from __future__ import annotations

import re
from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from zlb.cli import types
from zlb.core.ids import Endpoint, JobId
from zlb.core.limits import MS

COMPLETION_NS = 500 * MS
"""So long a shell waits for trackers; without an answer it offers nothing."""


class JobType(click.ParamType[JobId]):
    """The id of a job at the trackers."""

    name = "job"

    def __init__(self, open_only: bool) -> None:
        self.open_only = open_only

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> JobId:
        """The id, if it can be one."""
        text = str(value)
        if not re.fullmatch(r"[!-~]{1,64}", text) or "://" in text:
            self.fail(f"{text!a} is no job's id, which looks like j-7Q2MXK", param, ctx)
        return JobId(text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The jobs there are; only open ones for a command that can do nothing with others."""

        def ask(endpoints: tuple[Endpoint, ...]) -> list[CompletionItem]:
            from zlb.cli import human, trackers
            from zlb.protocols import commands, queries

            with trackers.Trackers(endpoints, COMPLETION_NS) as asking:
                lines = asking.ask(queries.ListJobs(), list[queries.JobLine])
            if isinstance(lines, commands.Denied):
                return []
            wanted = [line for line in lines if not self.open_only or line.status in commands.OPEN]
            return [
                CompletionItem(line.job, help=human.text(f"{line.status.value} {line.name}".rstrip()))
                for line in reversed(wanted)
            ]

        return _offered(ctx, incomplete, ask)


class MemberType(types.NodeNameType):
    """The id of a tracker."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The members of the cluster."""

        def ask(endpoints: tuple[Endpoint, ...]) -> list[CompletionItem]:
            from zlb.cli import trackers

            with trackers.Trackers(endpoints, COMPLETION_NS) as asking:
                return [CompletionItem(one.node, help=one.endpoint) for one in asking.state().members]

        return _offered(ctx, incomplete, ask)


def _offered(
    ctx: click.Context, incomplete: str, ask: Callable[[tuple[Endpoint, ...]], list[CompletionItem]]
) -> list[CompletionItem]:
    """What the trackers of the command line so far say; a shell is no place for what went wrong."""
    from zlb.core.errors import ZlbError

    endpoints = tuple(ctx.params.get("tracker") or (Endpoint(types.DEFAULT_TRACKER),))
    try:
        return [item for item in ask(endpoints) if item.value.startswith(incomplete)]
    except ZlbError:
        return []
