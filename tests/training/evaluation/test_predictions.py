"""An evaluation that was killed goes on, and never takes answers that were made from something else."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.training.copy_lm import CopyLM
from udr.data import open_collection
from udr.errors import ArtifactError, ConfigError
from udr_training.evaluation import Answer, AnswerStore, Cell, Evaluation, EvaluationConfig, evaluate

CONFIG = EvaluationConfig(retrievers=("random", "bm25"), shots=(1, 2))
PROMPTS = 3 * 2 * 2 * 4
"""Tasks, retrievers, numbers of demonstrations, test rows."""


def run(tasks: Path, output: Path, lm: CopyLM, config: EvaluationConfig = CONFIG) -> Evaluation:
    return evaluate(open_collection(tasks), lm, config, output=output)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["udr_training.evaluation.evaluate"]
    monkeypatch.setattr(module, "_BLOCK", dict.fromkeys(module._BLOCK, 2))


def files(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*.jsonl")}


def test_one_that_was_killed_again_and_again_ends_like_one_that_was_not(tasks: Path, tmp_path: Path) -> None:
    whole = run(tasks, tmp_path / "whole", CopyLM())
    asked = 0
    for _ in range(PROMPTS // 6):
        lm = CopyLM(fail_after=6)
        with pytest.raises(KeyboardInterrupt):
            run(tasks, tmp_path / "killed", lm)
        # Three blocks of two are kept of each attempt.
        assert lm.asked == 6
        asked += lm.asked
        if asked == PROMPTS - 6:
            break
    lm = CopyLM()
    last = run(tasks, tmp_path / "killed", lm)
    assert asked + lm.asked == PROMPTS
    assert last.to_json() == whole.to_json()
    assert files(tmp_path / "killed") == files(tmp_path / "whole") and len(files(tmp_path / "whole")) == 12


def test_the_answers_say_what_was_shown(tasks: Path, tmp_path: Path) -> None:
    run(tasks, tmp_path / "out", CopyLM())
    header, *lines = map(json.loads, (tmp_path / "out/predictions/reviews/bm25.2-shot.jsonl").read_text().splitlines())
    assert (header["task"], header["retriever"], header["shots"]) == ("reviews", "bm25", 2)
    targets = {row.id: row.target for row in open_collection(tasks).tasks["reviews"].pool().rows}
    for line in lines:
        # The model copies the last target.
        assert len(line["demonstrations"]) == 2 and line["text"] == targets[line["demonstrations"][-1]]


def test_nothing_is_asked_again_and_what_is_new_is_asked_alone(tasks: Path, tmp_path: Path) -> None:
    run(tasks, tmp_path / "out", CopyLM())
    again = CopyLM()
    run(tasks, tmp_path / "out", again)
    assert again.asked == 0
    wider = CopyLM()
    config = EvaluationConfig(retrievers=("random", "bm25", "oracle"), shots=(1, 2, 3), oracle_candidates=4)
    run(tasks, tmp_path / "out", wider, config)
    assert wider.asked == 3 * 4 * (2 * 1 + 1 * 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1}, r"seed = 0 here, 1 requested"),
        ({"limit": 3}, r"limit = null here, 3 requested"),
        ({"pool": 20}, r"pool = null here, 20 requested"),
    ],
)
def test_another_evaluation_is_refused_the_folder(
    tasks: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    run(tasks, tmp_path / "out", CopyLM())
    lm = CopyLM()
    with pytest.raises(ConfigError, match=f"contains another evaluation .*{message}.*give another --output"):
        run(tasks, tmp_path / "out", lm, EvaluationConfig(retrievers=("random",), **settings))
    assert lm.asked == 0


def test_another_language_model_is_refused_the_folder(tasks: Path, tmp_path: Path) -> None:
    run(tasks, tmp_path / "out", CopyLM())
    other = CopyLM()
    other.dtype = "bfloat16"
    with pytest.raises(ConfigError, match='lm_dtype = "float32" here, "bfloat16" requested'):
        run(tasks, tmp_path / "out", other)


def test_a_folder_that_holds_something_else_is_refused(tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    with pytest.raises(ConfigError, match="contains something other than an evaluation"):
        run(tasks, tmp_path / "photos", CopyLM())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("[]", "utf-8")
    with pytest.raises(ConfigError, match="contains another evaluation"):
        run(tasks, tmp_path / "model", CopyLM())
    (tmp_path / "model" / "config.json").write_text("nonsense", "utf-8")
    with pytest.raises(ConfigError, match="is not from an evaluation"):
        run(tasks, tmp_path / "model", CopyLM())


def test_a_folder_whose_claim_was_cut_short_is_free(tasks: Path, tmp_path: Path) -> None:
    (tmp_path / ".config.json.tmp").write_bytes(b'{"for')
    run(tasks, tmp_path, CopyLM())
    assert len(files(tmp_path)) == 12 and not (tmp_path / ".config.json.tmp").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_answers_to_rows_that_have_changed_are_asked_again(
    tasks: Path, tmp_path: Path, split: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(tasks, tmp_path / "tasks")
    run(tmp_path / "tasks", tmp_path / "out", CopyLM())
    file = tmp_path / "tasks" / "opinion" / "reviews" / f"{split}.jsonl"
    file.write_text(file.read_text("utf-8").replace("grass", "glass"), "utf-8")
    lm = CopyLM()
    run(tmp_path / "tasks", tmp_path / "out", lm)
    assert lm.asked == 2 * 2 * 4
    assert f"made from other {'pool' if split == 'train' else 'test'}_rows; answering again" in caplog.text


def test_a_retriever_that_is_made_of_something_else_is_asked_again(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    cell = Cell("reviews", "./run", 2, {"seed": 0, "retriever": {"model": "old"}})
    answers = (Answer("q", ("b", "a"), "good\n"), Answer("r", (), "schön\u2028\x85\r."))
    store.write(cell, answers)
    assert store.read(cell) == answers
    assert store.read(Cell("reviews", "./run", 2, {"seed": 0, "retriever": {"model": "new"}})) == ()


def test_retrievers_never_share_a_file_and_its_name_can_be_read() -> None:
    cells = [Cell("reviews", name, 4, {}) for name in ("bm25", "a/b", "a-b", "../../x", "run" * 100)]
    names = [cell.file for cell in cells]
    assert names[0] == "bm25.4-shot.jsonl" and names[1].startswith("a-b-") and names[3].startswith("x-")
    assert len(set(names)) == len(names) and all("/" not in name and len(name) < 100 for name in names)


@pytest.mark.parametrize("content", ["", "nonsense\n", '{"made_from": {}}\n{"query": "q"}\n', "[]\n"])
def test_a_file_that_is_none_of_an_evaluation_is_an_error(tmp_path: Path, content: str) -> None:
    cell = Cell("reviews", "bm25", 4, {})
    path = tmp_path / "predictions" / "reviews" / cell.file
    path.parent.mkdir(parents=True)
    path.write_text(content, "utf-8")
    with pytest.raises(ArtifactError, match="contains no answers of an evaluation; remove it"):
        AnswerStore(tmp_path).read(cell)
