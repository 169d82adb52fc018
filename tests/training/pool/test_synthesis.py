"""Worked solutions: the tree finds more of them per token, the command keeps what was paid for."""

import importlib
import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import write_task
from tests.training.answering import chat_server as fake
from tests.training.answering.chat_server import ChatServer, Messages
from tests.training.conftest import Udr
from tests.training.feedback.remote.completions_server import watched
from udr.data import Metric, open_collection, parse_task
from udr.errors import ConfigError
from udr.types import Row
from udr_training.pool.synthesis import METHODS, ROOT, Draw, Drawn, Limits, Tree, grow, read_solution

SUMS = {
    "name": "sums",
    "family": "math",
    "kind": "generation",
    "instruction": "Add.",
    "input": "Question: {question}",
    "output": "Answer: {target}",
    "metric": "exact_match",
}
TASK = parse_task(SUMS)


def row(first: int, second: int) -> Row:
    return Row(id=f"{first}+{second}", input={"question": f"{first} + {second}"}, target=str(first + second))


def test_a_step_knows_the_solutions_through_it() -> None:
    tree = Tree()
    tree.add(ROOT, ("a", "b", "#### 1"), right=True, tokens=30)
    tree.add(ROOT, ("a", "c", "#### 2"), right=False, tokens=30)
    tree.add(ROOT, ("d", "#### 2"), right=False, tokens=20)
    first = tree.root.children["a"]
    tree.add(first, ("e", "#### 1"), right=True, tokens=20)
    tree.add(first, ("b", "#### 1"), right=True, tokens=20)
    counts = [(node.paths, node.right, node.fresh, node.fresh_right, node.drawn) for node in tree.nodes[:3]]
    # Two of the five were drawn from "a", and tell nothing of what follows the question.
    assert counts == [(5, 3, 3, 1, 3), (4, 3, 4, 3, 2), (2, 2, 2, 2, 0)]
    assert [tree.prefix(end) for end in tree.solved] == [("a", "b", "#### 1"), ("a", "e", "#### 1")]
    assert tree.best() == ("a", "b", "#### 1")
    assert tree.difficulty == pytest.approx(2 / 3) and tree.tokens == 120
    # The tree can be read from its JSON: each node names its parent, which stands before it.
    nodes: Any = tree.to_json()["nodes"]
    assert [node.get("parent") for node in nodes] == [None, 0, 1, 2, 1, 4, 0, 6, 1, 8]
    assert [node["end"] for node in nodes if "end" in node] == [True, False, False, True]


def test_solutions_are_drawn_where_steps_have_led_to_right_ones() -> None:
    tree = Tree()
    assert tree.select() == ROOT
    tree.add(ROOT, ("a", "b", "#### 2"), right=False, tokens=3)
    assert tree.select() == ROOT
    tree.add(ROOT, ("c", "d", "#### 1"), right=True, tokens=3)
    for _ in range(6):
        tree.add(ROOT, ("a", "b", "#### 2"), right=False, tokens=3)
    # One of eight is right: hard, so it goes on from the first step that has led to a right answer.
    assert tree.prefix(tree.select()) == ("c",)
    tree.add(tree.root.children["c"], ("e", "#### 2"), right=False, tokens=2)
    # The other step after it has not, so it goes on further down.
    assert tree.prefix(tree.select()) == ("c", "d")
    # If all are right, each step is as good, and the least tried is explored.
    easy = Tree()
    for step in "aaab":
        easy.add(ROOT, (step, "e", "#### 1"), right=True, tokens=3)
    assert easy.prefix(easy.select()) == ("b",)


def test_the_tree_finds_more_right_solutions_per_token_than_rejection_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "benchmarks"))
    simulated = importlib.import_module("pool_synthesis")
    ratios = list[float]()
    for size in (16, 48):
        trees, others = (
            simulated.searched(simulated.Stepwise(60, seed=1), size, METHODS[name]) for name in ("tree", "rejection")
        )
        ratios.append(simulated.ratio(simulated.solutions, trees, others))
    assert ratios[1] > ratios[0] > 1.15 and ratios[1] > 1.3
    for name in ("pool_synthesis", "measuring"):
        del sys.modules[name]


def test_what_easy_questions_leave_goes_to_hard_ones() -> None:
    numbers = itertools.count()
    drawn: list[int] = [0, 0, 0]

    def draw(draws: Any) -> list[Drawn]:
        for one in draws:
            drawn[one.question] += 1
        return [Drawn((f"step {next(numbers)}", "#### 1"), one.question > 0, 2) for one in draws]

    trees = [Tree() for _ in range(3)]
    grow(trees, draw, Limits(enough=4, tries=8, batch=4))
    # Two are done after a batch each; the first gets what is left of 3 x 8.
    assert drawn == [16, 4, 4]
    trees, drawn = [Tree() for _ in range(3)], [0, 0, 0]
    grow(trees, draw, Limits(enough=4, tries=5, batch=5))
    assert drawn == [5, 5, 5]


def test_equal_draws_have_numbers() -> None:
    asked = list[Draw]()

    def draw(draws: Any) -> list[Drawn]:
        asked.extend(draws)
        return [Drawn(("#### 2",), False, 1)] * len(draws)

    grow([Tree()], draw, Limits(tries=6, batch=2))
    assert asked == [Draw(0, (), number) for number in range(6)]


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="--tries must be at least --batch, 8; found 4"):
        Limits(tries=4, batch=8)
    with pytest.raises(ConfigError, match="--paths must be at least 1, found 0"):
        Limits(enough=0)


@pytest.mark.parametrize(
    ("prefix", "text", "steps", "right"),
    [
        ((), "2 and 3.\n\n So 5.\n#### 5\nI hope this helps.", ("2 and 3.", "So 5.", "#### 5"), True),
        ((), "#### Step 1\nAdd.\nIt is #### 5.0", ("#### Step 1", "Add.", "It is", "#### 5.0"), True),
        ((), "Add.\n####\n6", ("Add.", "#### 6"), False),
        (("Add.",), "Add.\nSo 5.\n#### 5", ("So 5.", "#### 5"), True),
        (("Add.",), "So 5.\n#### 5", ("So 5.", "#### 5"), True),
        ((), "<think>#### 9</think>\nAnswer: Add.\n#### 5", ("Add.", "#### 5"), True),
        ((), "#### 5", ("#### 5",), False),
        (("Add.",), "#### 5", ("#### 5",), True),
        ((), "It is 5", ("It is 5", ""), False),
        ((), "Add.\n####", ("Add.", ""), False),
        ((), "", ("",), False),
    ],
)
def test_solutions_are_read_as_models_write_them(
    prefix: tuple[str, ...], text: str, steps: tuple[str, ...], right: bool
) -> None:
    assert read_solution(TASK, row(2, 3), prefix, text) == (steps, right)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """Adds; where the first number is above 7, it never gets it right, and the larger it is, the less often."""
    chance = random.Random(0)

    def solve(messages: Messages) -> str:
        question, *more = messages[-1]["content"].removeprefix("Question: ").split("\n\n")
        first, second = map(int, question.split("\n")[0].split(" + "))
        step = f"Take {first} and {second}, way {chance.randint(1, 9)}."
        right = chance.random() > first / 8
        return "\n".join([*([] if more and "Take" in more[-1] else [step]), f"#### {first + second + (not right)}"])

    with watched(fake.running(solve)) as started:
        yield started


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    rows = [row(first, second).to_json() for first in (1, 4, 9) for second in (1, 2)]
    write_task(tmp_path / "tasks", SUMS, train=rows, test=rows[:1])
    return tmp_path / "tasks"


def test_the_command_writes_a_collection_of_solved_rows_and_asks_nothing_twice(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path
) -> None:
    line = ["pool", "synthesise", tasks, "--lm", f"{server.url}?api=chat", "--json", "--tries", "8", "--out"]
    # One after another, so that the model's chances fall alike.
    line[3:3] = ["--lm-set", "concurrency=1"]
    before = {path: path.read_bytes() for path in tasks.rglob("*.*")}
    status, _, err = udr(*line, tmp_path / "new", "--max-requests", "20")
    assert status == 1 and "--max-requests 20 is reached" in err and not (tmp_path / "new").exists()
    status, out, _ = udr(*line, tmp_path / "new")
    report = json.loads(out)
    assert (status, report["questions"], report["solved"], report["method"]) == (0, 6, 4, "tree")
    assert report["paths"] == 6 * 8 == len(server.bodies)
    # Whoever asks again pays nothing, and gets the same.
    (tmp_path / "new").rename(tmp_path / "first")
    status, again, _ = udr(*line, tmp_path / "new")
    assert (status, json.loads(again), len(server.bodies)) == (0, report, 6 * 8)
    for name in ("train.jsonl", "trees.jsonl", "unsolved.jsonl", "test.jsonl"):
        assert (tmp_path / "new/math/sums" / name).read_bytes() == (tmp_path / "first/math/sums" / name).read_bytes()
    assert {path: path.read_bytes() for path in tasks.rglob("*.*")} == before

    folder = open_collection(tmp_path / "new").tasks["sums"]
    solved = {one.id: one for one in folder.rows("train")}
    assert folder.task.metric is Metric.FINAL_ANSWER and "####" in folder.task.instruction
    assert solved.keys() == {"1+1", "1+2", "4+1", "4+2"}
    for one in solved.values():
        data: Any = one.metadata
        assert one.target == "\n".join(data["steps"])
        assert one.target.endswith(f"#### {sum(map(int, one.id.split('+')))}")
        assert 0 <= data["difficulty"] < 1 <= data["correct_paths"]
    unsolved = [json.loads(line) for line in (folder.path / "unsolved.jsonl").read_text().splitlines()]
    assert {one["id"] for one in unsolved} == {"9+1", "9+2"} and max(one["paths"] for one in unsolved) > 8
    # All that was asked has a prompt of its own, or is a sample; some go on from steps.
    assert any("begins with the steps below" in messages[-1]["content"] for messages in server.asked)


def test_worked_rows_stay_and_are_shown(udr: Udr, server: ChatServer, tmp_path: Path) -> None:
    rows = [row(1, 1).to_json(), {**row(1, 5).to_json(), "target": "1 and 5.\n#### 6"}]
    write_task(tmp_path / "tasks", {**SUMS, "metric": "final_answer"}, train=rows)
    status, _, _ = udr(
        "pool", "synthesise", tmp_path / "tasks", "--lm", f"{server.url}?api=chat", "--out", tmp_path / "n"
    )
    assert status == 0
    assert [message["content"] for message in server.asked[0][1:]] == [
        *("Question: 1 + 5", "Answer: 1 and 5.\n#### 6"),
        "Question: 1 + 1",
    ]
    folder = open_collection(tmp_path / "n").tasks["sums"]
    assert [one.id for one in folder.rows("train")] == ["1+5", "1+1"] and folder.task.instruction == "Add."
    status, _, err = udr("pool", "synthesise", tmp_path / "n", "--lm", server.url, "--out", tmp_path / "m")
    assert status == 1 and "every row of task 'sums' has a worked solution" in err


def test_a_completions_server_continues_a_text(udr: Udr, server: ChatServer, tasks: Path, tmp_path: Path) -> None:
    server.answer_of = lambda messages: " Take a way.\n#### 2"
    line = ["pool", "synthesise", tasks, "--lm", server.url, "--out", tmp_path / "new", "--tries", "8"]
    status, out, _ = udr(*line)
    assert status == 0 and "solved 1 of 6 questions" in out
    prompts = {body["prompt"] for body in server.bodies}
    assert any(prompt.endswith("\n\nQuestion: 1 + 1\nAnswer:") for prompt in prompts)
    assert all(body["stop"] == ["\n\n"] for body in server.bodies)


def test_an_answer_alone_is_no_solution(udr: Udr, server: ChatServer, tasks: Path, tmp_path: Path) -> None:
    server.answer_of = lambda messages: "#### 2" if len(server.bodies) % 4 else "Add.\n#### 2"
    line = ["pool", "synthesise", tasks, "--lm", f"{server.url}?api=chat", "--lm-set", "concurrency=1", "--tries", "4"]
    status, out, err = udr(*line, "--json", "--out", tmp_path / "new")
    assert status == 0 and "18 of 24 solutions are an answer without a step, and count as wrong" in err
    assert (json.loads(out)["bare"], json.loads(out)["correct_paths"]) == (18, 1)
    (one,) = open_collection(tmp_path / "new").tasks["sums"].rows("train")
    assert (one.id, one.target) == ("1+1", "Add.\n#### 2")


def test_metadata_that_a_solution_would_overwrite_is_refused(udr: Udr, server: ChatServer, tmp_path: Path) -> None:
    rows = [{**row(1, number).to_json(), "metadata": {key: "hard"}} for number, key in ((1, "book"), (2, "difficulty"))]
    write_task(tmp_path / "tasks", SUMS, train=rows)
    line = ["pool", "synthesise", tmp_path / "tasks", "--lm", f"{server.url}?api=chat", "--out", tmp_path / "new"]
    status, _, err = udr(*line)
    assert status == 1 and "row '1+2' has the metadata difficulty, which a worked solution would overwrite" in err
    assert server.bodies == []


def test_a_search_that_solves_nothing_says_so(udr: Udr, server: ChatServer, tasks: Path, tmp_path: Path) -> None:
    server.answer_of = lambda messages: "I do not know."
    status, _, err = udr("pool", "synthesise", tasks, "--lm", f"{server.url}?api=chat", "--out", tmp_path / "new")
    assert status == 1 and "none of the 6 questions of task 'sums' was solved" in err and "raise --tries" in err
    server.finish, server.answer_of = "length", lambda messages: "<think>Let me see."
    line = ["pool", "synthesise", tasks, "--lm", f"{server.url}?api=chat", "--limit", 1, "--out", tmp_path / "cut"]
    status, _, err = udr(*line)
    assert status == 1 and "16 of 16 solutions were cut at --solution-tokens 512; raise it" in err
    assert "nothing to write; raise --solution-tokens, or" in err
