"""Explanations for people, down to the prompt."""

import inspect
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from udr import AsyncClient, Client, PromptBuilder
from udr.cli import Query, application, main, table
from udr.errors import ConfigError
from udr.prompts import with_budget_stage
from udr.retrieval import Decision
from udr_service.schemas import PromptBody


def test_an_empty_text_is_a_query_of_a_service_too() -> None:
    assert Query(index="", url="http://x").value() == Query(index="index", text="").value() == ""
    with pytest.raises(ConfigError, match="give the query either as TEXT or as --input FIELD=VALUE; found neither"):
        Query(url="http://x").value()
    with pytest.raises(ConfigError, match="omit the index directory with --url; found ''"):
        Query(index="", text="a", url="http://x")
    with pytest.raises(ConfigError, match="name an index directory, DIR, or a service, --url; found neither"):
        Query()


def test_the_choices_of_a_query_are_given_one_by_one() -> None:
    def fields(*given: str) -> object:
        return Query(index="index", input=list(given)).value()

    question, red, green = "question=which = colour", "choices=red, or so", "choices=green"
    assert fields(question, red, green) == {"question": "which = colour", "choices": ["red, or so", "green"]}
    assert fields(red, question) == {"question": "which = colour", "choices": "red, or so"}
    with pytest.raises(ConfigError, match="--input gives the field 'question' twice"):
        fields(question, question)


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
    assert table([]) == table([], titles=True) == ""


def test_on_a_terminal_columns_stand_below_their_titles(
    real_index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["retrieve", str(real_index), "--task", "notes", "--k", "2", "--explain", "a day"]
    assert main(command) == 0
    piped, decisions = capsys.readouterr().out.split("\n\n")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(command) == 0
    shown, explained = capsys.readouterr().out.split("\n\n")

    head, first, *_ = shown.splitlines()
    assert head.split() == ["rank", "similarity", "task", "id"] and "rank" not in piped
    assert [head.index(title) for title in ("task", "id")] == [first.index(value) for value in first.split()[2:]]
    # What scripts read is the same.
    assert [line.split() for line in shown.splitlines()[1:]] == [line.split() for line in piped.splitlines()]
    assert explained.splitlines()[0].split() == ["kept", "similarity", "task/id", "stage", "reason"]
    assert len(explained.splitlines()) == len(decisions.splitlines()) + 1


def test_the_prompt_command_has_the_defaults_of_the_builder_client_and_service() -> None:
    options = {str(item.name): item for item in typer.main.get_command(application("prompt")).commands["prompt"].params}  # type: ignore[attr-defined]
    body, client = PromptBody.model_fields, inspect.signature(Client.prompt).parameters
    for each in fields(PromptBuilder):
        if each.name in ("tokenizer", "budget"):
            continue
        assert body[each.name].default == each.default
        if each.name in options:
            # The command passes on what is given, and nothing else.
            assert options[each.name].default in (None, False)
    assert client["reserve"].default == body["reserve"].default == 0
    assert inspect.signature(AsyncClient.prompt).parameters["reserve"].default == 0
