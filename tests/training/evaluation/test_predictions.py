"""An interrupted evaluation resumes, and never uses answers that were made from something else."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import changed_copy
from tests.training.copy_lm import CopyLM
from udr.data import open_collection
from udr.errors import ArtifactError, ConfigError
from udr_training.evaluation import Answer, AnswerStore, Cell, Evaluation, EvaluationConfig, evaluate

Config = partial(EvaluationConfig, retrievers=("random", "bm25"), shots=(1, 2))
PROMPTS = 2 * 2 * 2 * 4
"""Tasks, retrievers, numbers of demonstrations, test rows."""


def run(tasks: Path, output: Path, lm: CopyLM | None = None, **settings: Any) -> Evaluation:
    collection = open_collection(tasks, ["reviews", "reverse"])
    return evaluate(collection, lm or CopyLM(), Config(**settings), output=output, block=2)


def files(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*.jsonl")}


def test_repeatedly_killed_evaluation_equals_an_uninterrupted_one(tasks: Path, tmp_path: Path) -> None:
    expected = run(tasks, tmp_path / "whole")
    for _ in range(PROMPTS // 6):
        lm = CopyLM(fail_after=6)
        with pytest.raises(KeyboardInterrupt):
            run(tasks, tmp_path / "killed", lm)
        # Each attempt stores three blocks of two.
        assert lm.asked == 6
    lm = CopyLM()
    assert run(tasks, tmp_path / "killed", lm).to_json() == expected.to_json()
    assert lm.asked == PROMPTS % 6
    assert files(tmp_path / "killed") == files(tmp_path / "whole") and len(files(tmp_path / "whole")) == 8


def test_stored_answers_have_their_demonstrations_and_only_new_prompts_are_answered(
    tasks: Path, tmp_path: Path
) -> None:
    run(tasks, tmp_path)
    header, *lines = map(json.loads, (tmp_path / "predictions/reviews/bm25.2-shot.jsonl").read_text().splitlines())
    assert (header["task"], header["retriever"], header["shots"]) == ("reviews", "bm25", 2)
    targets = {row.id: row.target for row in open_collection(tasks).tasks["reviews"].pool().rows}
    for line in lines:
        # The model copies the last target.
        assert len(line["demonstrations"]) == 2 and line["text"] == targets[line["demonstrations"][-1]]
    again, wider = CopyLM(), CopyLM()
    run(tasks, tmp_path, again)
    run(tasks, tmp_path, wider, retrievers=("random", "bm25", "oracle"), shots=(1, 2, 3), oracle_candidates=4)
    assert (again.asked, wider.asked) == (0, 2 * 4 * (2 * 1 + 1 * 3))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("seed", 1, "seed = 0 here, 1 requested"),
        ("pool", 20, "pool = null here, 20 requested"),
        ("dtype", "bfloat16", 'lm_dtype = "float32" here, "bfloat16" requested'),
    ],
)
def test_the_directory_of_another_evaluation_is_rejected(
    tasks: Path, tmp_path: Path, setting: str, value: Any, message: str
) -> None:
    run(tasks, tmp_path, shots=(0,))
    lm = CopyLM()
    if setting == "dtype":
        lm.dtype = value
    with pytest.raises(ConfigError, match=f"contains another evaluation .*{message}.*give another --output"):
        run(tasks, tmp_path, lm, **({} if setting == "dtype" else {setting: value}))
    assert lm.asked == 0


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("cat.png", "", "contains something other than an evaluation"),
        ("config.json", "[]", "contains another evaluation"),
        ("config.json", "nonsense", "is not from an evaluation"),
    ],
)
def test_a_directory_with_something_else_is_rejected(
    tasks: Path, tmp_path: Path, file: str, content: str, message: str
) -> None:
    (tmp_path / file).write_text(content, "utf-8")
    with pytest.raises(ConfigError, match=message):
        run(tasks, tmp_path)


def test_a_directory_whose_claim_was_interrupted_is_free(tasks: Path, tmp_path: Path) -> None:
    (tmp_path / ".config.json.tmp").write_bytes(b'{"for')
    run(tasks, tmp_path, shots=(0,))
    assert len(files(tmp_path)) == 2 and not (tmp_path / ".config.json.tmp").exists()


def test_all_rows_are_answered_again_with_a_changed_pool(
    tasks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tasks, tmp_path / "out")
    lm = CopyLM()
    run(changed_copy(tasks, tmp_path / "tasks", "grass", "glass", "train"), tmp_path / "out", lm)
    assert lm.asked == 2 * 2 * 4
    assert "changed since: pool_rows; answering again" in caplog.text


def test_a_changed_test_row_is_answered_again_with_its_block(tasks: Path, tmp_path: Path) -> None:
    run(tasks, tmp_path / "out")
    lm, copied = CopyLM(), tmp_path / "tasks"
    again = run(changed_copy(tasks, copied, "grass", "glass", "test"), tmp_path / "out", lm)
    assert lm.asked == 2 * 2 * 2
    assert again.to_json()["means"] == run(copied, tmp_path / "new").to_json()["means"]
    assert files(tmp_path / "out") == files(tmp_path / "new")


def test_more_test_rows_go_on_and_fewer_lose_nothing(tasks: Path, tmp_path: Path) -> None:
    small, large, again = CopyLM(), CopyLM(), CopyLM()
    few = run(tasks, tmp_path / "out", small, limit=2).to_json()
    whole = run(tasks, tmp_path / "out", large).to_json()
    assert (small.asked, large.asked) == (PROMPTS // 2, PROMPTS // 2)
    run(tasks, tmp_path / "new")
    assert files(tmp_path / "out") == files(tmp_path / "new")
    assert run(tasks, tmp_path / "out", again, limit=2).to_json() == few
    # An odd number leaves a block whose other row was asked.
    run(tasks, tmp_path / "out", again, limit=3)
    assert run(tasks, tmp_path / "out", again).to_json() == whole and again.asked == 0


@pytest.mark.parametrize("folder", [True, False])
def test_answers_of_another_model_are_not_read(tmp_path: Path, folder: bool) -> None:
    store = AnswerStore(tmp_path if folder else None)
    cell, other = (Cell("reviews", "./run", 2, {"seed": 0, "retriever": {"model": name}}) for name in ("old", "new"))
    answers = (Answer("q", ("b", "a"), "good\n"), Answer("r", (), "schön\u2028\x85\r."))
    store.write(cell, answers)
    assert store.read(cell) == answers and store.read(other) == ()


def test_file_names_are_readable_and_unique() -> None:
    names = [Cell("reviews", name, 4, {}).file for name in ("bm25", "a/b", "a-b", "../../x", "run" * 100)]
    assert names[0] == "bm25.4-shot.jsonl" and names[1].startswith("a-b-") and names[3].startswith("x-")
    assert len(set(names)) == len(names) and all("/" not in name and len(name) < 100 for name in names)


@pytest.mark.parametrize("content", ["", "nonsense\n", '{"made_from": {}}\n{"query": "q"}\n', "[]\n"])
def test_a_file_of_something_else_is_an_error(tmp_path: Path, content: str) -> None:
    cell = Cell("reviews", "bm25", 4, {})
    path = tmp_path / "predictions" / "reviews" / cell.file
    path.parent.mkdir(parents=True)
    path.write_text(content, "utf-8")
    with pytest.raises(ArtifactError, match="contains no answers of an evaluation; remove it"):
        AnswerStore(tmp_path).read(cell)
