"""``udr feedback import`` and ``udr train --kind outcomes``: an encoder learns from the outcomes of real prompts."""

import json
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from tests.training.conftest import Udr, assert_refused
from udr.data import Pool, formatting
from udr.types import Row

GOOD, BAD = "reviews-train-04", "reviews-train-07"
OTHERS = [f"reviews-train-{number:02}" for number in range(12, 24)]
MINED = ("--set", "train.epochs=1", "--set", "train.iterations=2")
SETTINGS = ("iterations=1", "batch_size=4", "list_length=4", "validation=0.25", "epochs=8", "learning_rate=0.001")


def _outcomes(path: Path, *, good: float) -> Path:
    """Sixteen prompts, each with another query; those with ``GOOD`` have one outcome, those with ``BAD`` another."""
    lines = [
        {
            "prompt_id": f"p{number}",
            "task": "reviews",
            "seconds": 1.0,
            "input": {"text": f"{number} words that no row of the pool has"},
            "demonstrations": [(GOOD, BAD)[number % 2], OTHERS[number % 12]],
            "score": (good, 1 - good)[number % 2],
        }
        for number in range(16)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def _trained(udr: Udr, tasks: Path, encoder: Path, folder: Path, *more: object) -> tuple[int, str, str]:
    settings = [part for setting in SETTINGS for part in ("--set", f"train.{setting}")]
    # No language model is asked, so none has to be there.
    named = ("--tasks", "reviews", "--kind", "outcomes", "--model", encoder, "--lm", "./nowhere")
    files = ("--out", folder / "run", "--feedback", folder / "asked.jsonl")
    return udr("train", tasks, *named, *files, "--candidates", 6, *settings, "--test-rows", 0, *more)


def _lead(model: Path, pool: Pool) -> float:
    """How much nearer the good demonstration is to a new query than the bad one, by an encoder."""
    rows = {row.id: row for row in pool.rows}
    query = Row(id="new", input={"text": "other words that no row has"}, target="")
    texts = [formatting.encoder_demonstration(pool.task, rows[id]) for id in (GOOD, BAD)]
    encoder = SentenceTransformer(str(model), device="cpu")
    queries = encoder.encode_query([formatting.row_query(pool.task, query)])
    good, bad = encoder.similarity(queries, encoder.encode_document(texts))[0].tolist()
    return float(good - bad)


def test_demonstrations_with_good_outcomes_come_before_those_with_bad_ones(
    udr: Udr, tasks: Path, reviews: Pool, encoder_folder: Path, tmp_path: Path
) -> None:
    leads = []
    for good in (0.0, 1.0):
        folder = tmp_path / str(good)
        folder.mkdir()
        outcomes = _outcomes(folder / "outcomes.jsonl", good=good)
        status, out, _ = udr("feedback", "import", outcomes, tasks, "--out", folder / "asked.jsonl")
        assert (status, out) == (0, "reviews: outcomes: 16, queries: 16, mean score: 0.50\n")
        status, _, err = _trained(udr, tasks, encoder_folder, folder)
        assert status == 0, err
        leads.append(_lead(folder / "run" / "model", reviews))
    before = _lead(encoder_folder, reviews)
    assert leads[0] < before < leads[1] and leads[0] < 0 < leads[1]

    run = tmp_path / "1.0" / "run"
    candidates = json.loads((run / "iteration-0" / "candidates.json").read_text("utf-8"))["reviews"]
    # What was shown, then what is proposed as usual.
    assert candidates["asked:p3"][:2] == [BAD, OTHERS[3]] and len(candidates["asked:p3"]) >= 6
    assert "the outcomes of real prompts" in (run / "model" / "README.md").read_text("utf-8")
    validated = [json.loads(line) for line in (run / "iteration-0" / "metrics.jsonl").read_text().splitlines()]
    assert any("ndcg" in line for line in validated)
    # A run that is complete is not repeated; one of other outcomes is another run.
    assert _trained(udr, tasks, encoder_folder, run.parent)[:2] == (0, f"{run / 'model'}\n")
    (run.parent / "asked.jsonl").write_text((tmp_path / "0.0" / "asked.jsonl").read_text())
    assert_refused(
        _trained(udr, tasks, encoder_folder, run.parent), 2, "started from different outcomes; give another --out"
    )
    for command in ("export", "stats"):
        assert_refused(
            udr("feedback", command, run), 1, "no language model scored its pairs; their scores are lines of"
        )


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        (("--dry-run",), 2, "--dry-run measures a language model"),
        (("--extrapolate", "labels"), 2, "scores for the queries of its file alone"),
        (("--set", "train.iterations=2", "--later", "new"), 2, "scores for the queries of its file alone"),
        (("--context", "2"), 2, "--context (feedback.context) has no effect with --kind (feedback.kind) 'outcomes'"),
        (("--lm", "http://host/v1", "--max-requests", "9"), 2, "asks no server; omit the budget and its prices"),
        (("--feedback", "nowhere.jsonl"), 2, "nowhere.jsonl: no such file; "),
        (("--tasks", "colours"), 2, "asked.jsonl has no query of colours"),
        (("--test-rows", "2"), 1, "model './nowhere': no such file"),
    ],
)
def test_what_outcomes_cannot_train_is_refused(
    udr: Udr, tasks: Path, encoder_folder: Path, tmp_path: Path, more: tuple[str, ...], status: int, message: str
) -> None:
    outcomes = _outcomes(tmp_path / "outcomes.jsonl", good=1.0)
    udr("feedback", "import", outcomes, tasks, "--out", tmp_path / "asked.jsonl")
    assert_refused(_trained(udr, tasks, encoder_folder, tmp_path, *more), status, message)
    assert not (tmp_path / "run").exists()


def test_scores_of_rows_that_a_sampled_pool_lacks_are_counted(
    udr: Udr, tasks: Path, encoder_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = _outcomes(tmp_path / "outcomes.jsonl", good=1.0)
    udr("feedback", "import", outcomes, tasks, "--out", tmp_path / "asked.jsonl")
    status, _, err = _trained(udr, tasks, encoder_folder, tmp_path, "--pool", 12, *MINED)
    assert status == 0, err
    assert (
        caplog.text.count("16 of 32 scores are of no row of the pool") == 1 and "which leaves 10 of 16" in caplog.text
    )
    first, second = (
        json.loads((tmp_path / "run" / f"iteration-{number}" / "candidates.json").read_text())["reviews"]
        for number in (0, 1)
    )
    # Later candidates are those of the encoder, beside what was shown.
    assert first != second and first.keys() == second.keys() and len(first) == 10
