"""Counting majorities, and which changes of a configuration keep any two of them overlapping (§4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zlb.core.ids import NodeId
from zlb.core.replica import Configuration, Index


def majority(voters: Iterable[NodeId], agreed: Iterable[NodeId]) -> bool:
    """Whether more than half of the voters have agreed."""
    voters = set(voters)
    return 2 * len(voters & set(agreed)) > len(voters)


def majority_match(voters: Iterable[NodeId], match: Mapping[NodeId, Index]) -> Index:
    """The highest index that a majority of the voters holds."""
    held = sorted((match.get(voter, 0) for voter in voters), reverse=True)
    return held[len(held) // 2] if held else 0


def members(configuration: Configuration) -> tuple[NodeId, ...]:
    """Everyone who receives the log."""
    return (*configuration.voters, *configuration.learners)


def with_learner(configuration: Configuration, node: NodeId) -> Configuration:
    """`node` receives the log from now on."""
    return Configuration(configuration.voters, tuple(sorted({*configuration.learners, node})))


def with_voter(configuration: Configuration, node: NodeId) -> Configuration:
    """`node`, a learner, votes from now on."""
    learners = tuple(learner for learner in configuration.learners if learner != node)
    return Configuration(tuple(sorted({*configuration.voters, node})), learners)


def without(configuration: Configuration, node: NodeId) -> Configuration:
    """`node` is neither voter nor learner from now on."""
    return Configuration(
        tuple(voter for voter in configuration.voters if voter != node),
        tuple(learner for learner in configuration.learners if learner != node),
    )
