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


def table(decisions: Sequence[Decision]) -> str:
    """Return decisions as lines of text, a candidate a line, the nearest first."""
    width = max((len(f"{one.task}/{one.id}") for one in decisions), default=0)
    return "\n".join(
        f"{'+' if one.kept else '-'}  {one.similarity:>9.5f}  {f'{one.task}/{one.id}':<{width}}  "
        f"{one.stage:<14}  {one.reason}"
        for one in decisions
    )
