"""Explanations: what became of each candidate, down to the prompt, and how a person reads it."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from udr.retrieval import Decision


def down_to_the_prompt(decisions: Sequence[Decision], shown: Collection[tuple[str, str]]) -> tuple[Decision, ...]:
    """Return the decisions with that of the budget: what was chosen, but is not shown, did not fit.

    Args:
        decisions: those of a retrieval.
        shown: task and id of each demonstration that the prompt shows.
    """
    return tuple(
        replace(one, stage="budget", kept=False, reason="chosen, but it does not fit the budget beside those before it")
        if one.kept and (one.task, one.id) not in shown
        else one
        for one in decisions
    )
