"""The README: its commands and its Python run, its links resolve, and its figures are those of the results."""

import re
from pathlib import Path

import pytest

from tests.documentation.pages import ROOT, Place, blocks, commands, language_model
from udr.cli import main

README = (ROOT / "README.md").read_text("utf-8")


def test_it_runs_from_a_table_to_a_trained_index(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[dict[str, str]]] = []

    def answer(messages: list[dict[str, str]]) -> str:
        asked.append(messages)
        return "billing, says the model"

    with language_model(answer) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        place.run(README)

    assert place.ran == [
        "init tickets.csv",
        "index build",
        "serve my-index",
        "train tasks",
        "train tasks",
        "index build",
    ]
    out, err = capsys.readouterr()
    assert "billing, says the model\n" in out and out.rstrip().endswith("Category:")
    assert "Training " in err or "Too few test rows to tell whether training pays" in err
    (messages,) = asked
    assert "billing, returns, shipping" in messages[0]["content"].replace("\n", ", ").replace("- ", "")
    assert [message["role"] for message in messages[1:3]] == ["user", "assistant"] and len(messages) == 2 + 2 * 8
    assert "My card shows two charges" in messages[-1]["content"]


def test_the_openai_example_has_eight_lines() -> None:
    code = next(code for _, code in blocks(README, "python"))
    assert "openai" in code and len(code.splitlines()) == 8


def test_every_make_target_has_a_block_of_its_own() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    made = [code for _, code in blocks(README, "console") if "$ make " in code]
    assert made == ["$ make demo\n", "$ make test\n"]
    for command in commands(README):
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}: \$\(VENV\)/.{command.split()[1]}", makefile, re.MULTILINE)


def test_it_names_no_path_that_is_not_there_and_every_extra() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links and [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []
    assert "path/to" not in README
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = re.findall(r"^([\w-]+) = \[", project.partition("[project.optional-dependencies]")[2], re.MULTILINE)
    extras = extras[: extras.index("docs")]
    assert {"excel", "tensorboard"} < set(extras)
    assert [extra for extra in extras if f"`{extra}`" not in README] == []
    assert main(["doctor", "--help"]) == 0


def numbers(row: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\d+\.\d", row))


def test_the_figures_are_those_of_the_results() -> None:
    results = (ROOT / "docs" / "results" / "udr.md").read_text("utf-8")
    rows = [[cell.strip(" *") for cell in row.split("|")[1:-1]] for row in results.splitlines() if row.startswith("| ")]
    arms = next(row for row in rows if row[:2] == ["arm", "trec"])
    retrievers = ("BM25", "MiniLM-L6", "MiniLM-L6, heads", "`full`, heads and weights")
    values = [next(row for row in rows if row[0] == name and len(row) == len(arms)) for name in retrievers]
    measured = dict(zip(arms, zip(*values, strict=True), strict=True))
    names = {
        "TREC": "trec",
        "CR": "cr",
        "Subj": "subj",
        "CoLA": "cola",
        "SST-5": "sst5",
        "SNLI": "snli",
        "ComV": "comv",
    }
    names |= {
        "E2E (BLEU)": "e2e_nlg",
        "MTOP (exact match)": "mtop",
        "CommonGen (BLEU)": "commongen",
        "mean": "mean of ten",
    }
    shown = {row.split("|")[1].strip(): numbers(row) for row in README.splitlines() if numbers(row) and row[0] == "|"}
    assert shown.keys() == names.keys()
    for name, row in shown.items():
        assert row == measured[names[name]], name
    gain, interval = re.findall(r"gains (\d+\.\d) points \(95 % interval: (.*)\)", README)[0]
    assert "| the best untrained one without a head |" in results and f"| +{gain} ({interval}) |" in results


def test_it_is_short() -> None:
    assert len(README.split()) < 1100
    assert Path(ROOT / "docs" / "pictures" / "udr.svg").is_file()
