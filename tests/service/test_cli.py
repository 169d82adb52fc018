"""``udr retrieve`` and ``udr prompt`` over a service say what they say over its index."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.service.conftest import Words
from tests.service.running import running
from udr.cli import main
from udr.retrieval import Retriever
from udr_service import Settings, create_app

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(retriever: Retriever) -> Iterator[str]:
    with running(create_app(retriever, Settings(), Words())) as address:
        yield address


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_retrieve_asks_the_service(run: Run, url: str, retriever: Retriever) -> None:
    choice = ("--balance", "--diversity", "0.2", "--k", "4", "--json")

    status, out, _ = run("retrieve", "--url", url, "a dull day", "--task", "notes", *choice)

    expected = retriever.retrieve("notes", "a dull day", 4, balance=True, diversity=0.2)
    assert (status, json.loads(out)) == (0, json.loads(json.dumps(expected.to_json())))


def test_prompt_is_counted_by_the_service(run: Run, url: str) -> None:
    asked = ("--task", "reviews", "--input", "thing=lamp", "--input", "text=it glows", "--budget", "60", "--json")

    status, out, _ = run("prompt", "--url", url, *asked, "--order", "nearest_first", "--format", "records")

    answer = json.loads(out)
    assert status == 0 and answer["records"] and answer["tokens"] <= 60
    similarities = [one["similarity"] for one in answer["demonstrations"]]
    assert similarities == sorted(similarities, reverse=True)


def test_explain_is_a_table_beside_the_prompt(run: Run, url: str) -> None:
    asked = ("--url", url, "a dull day", "--task", "notes", "--k", "3", "--explain")

    _, out, err = run("prompt", *asked, "--budget", "30")
    lines = [line for line in err.splitlines() if line[:3] in ("+  ", "-  ")]
    assert out.endswith("Note: a dull day\nMood:\n") and len(lines) == 20
    assert any("does not fit the budget" in line for line in lines)
    _, out, _ = run("retrieve", *asked)
    assert sum(line.startswith("+  ") for line in out.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("DIR", "a day"), "with --url there is no index directory; found 'DIR'"),
        ((), "give the query either as TEXT or as --input"),
    ],
)
def test_an_index_beside_a_service_is_refused(run: Run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run("retrieve", "--url", "http://127.0.0.1:9", *arguments, "--task", "notes")

    assert (status, out) == (2, "") and message in err


def test_nothing_to_ask_is_refused(run: Run) -> None:
    status, _, err = run("retrieve", "--task", "notes", "--input", "text=x")

    assert status == 2 and "an index directory, DIR, or a service, --url; found neither" in err
