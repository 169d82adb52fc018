"""Explanations reach down to the prompt, and a person can read them."""

from udr.cli import table
from udr.prompts import down_to_the_prompt
from udr.retrieval import Decision


def decision(id: str, kept: bool) -> Decision:
    return Decision(id=id, task="t", similarity=0.5, stage="choice", kept=kept, reason="why")


def test_what_was_chosen_and_is_not_shown_did_not_fit() -> None:
    told = down_to_the_prompt([decision("a", True), decision("b", True), decision("c", False)], {("t", "a")})

    assert [(one.id, one.stage, one.kept) for one in told] == [
        ("a", "choice", True),
        ("b", "budget", False),
        ("c", "choice", False),
    ]
    assert told[1].reason == "chosen, but it does not fit the budget beside those before it"


def test_a_table_has_a_line_a_candidate() -> None:
    assert table([decision("a", True), decision("bb", False)]).splitlines() == [
        "+    0.50000  t/a   choice          why",
        "-    0.50000  t/bb  choice          why",
    ]
    assert table([]) == ""
