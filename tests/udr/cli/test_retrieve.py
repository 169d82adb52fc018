"""Explanations for people, down to the prompt."""

from udr.cli import table
from udr.prompts import with_budget_stage
from udr.retrieval import Decision


def decision(id: str, kept: bool) -> Decision:
    return Decision(id=id, task="t", similarity=0.5, stage="choice", kept=kept, reason="why")


def test_a_chosen_demonstration_that_the_prompt_lacks_did_not_fit() -> None:
    decisions = [decision("a", True), decision("b", True), decision("c", False)]
    a, b, c = with_budget_stage(decisions, {("t", "a")})
    assert (a, c) == (decisions[0], decisions[2])
    assert (b.id, b.stage, b.kept) == ("b", "budget", False)
    assert "fit the budget" in b.reason


def test_a_table_has_a_line_per_candidate() -> None:
    assert table([decision("a", True), decision("bb", False)]).splitlines() == [
        "+    0.50000  t/a   choice          why",
        "-    0.50000  t/bb  choice          why",
    ]
    assert table([]) == ""
