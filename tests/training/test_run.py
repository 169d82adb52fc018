"""The whole loop with tiny models: deterministic, resumable, and opening as a plain Sentence-Transformers model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from udr.data import open_collection
from udr.errors import ConfigError, ModelError
from udr.models import SentenceEncoder, hub
from udr_training import Run
from udr_training.config import CandidateConfig, FeedbackConfig, RunConfig, TrainConfig
from udr_training.feedback import Progress
from udr_training.losses import CandidateLoss


@pytest.fixture(scope="module")
def config(lm_folder: Path, encoder_folder: Path) -> RunConfig:
    return RunConfig(
        tasks=("colours", "reverse", "reviews"),
        candidates=CandidateConfig(queries=10, num_candidates=6, random_share=0.5),
        feedback=FeedbackConfig(lm=str(lm_folder), context=1),
        train=TrainConfig(
            model=str(encoder_folder),
            iterations=2,
            epochs=1,
            validation=0.2,
            batch_size=4,
            list_length=4,
            learning_rate=1e-3,
        ),
    )


@pytest.fixture(scope="module")
def finished(tasks: Path, config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    Run(folder, open_collection(tasks), config).finish()
    return folder


def test_the_result_opens_as_a_plain_sentence_transformer_and_was_trained(finished: Path, encoder_folder: Path) -> None:
    texts = ["a text", "another one"]
    trained = SentenceTransformer(str(finished / "model"), device="cpu").encode(texts)
    base = SentenceTransformer(str(encoder_folder), device="cpu").encode(texts)
    assert trained.shape == base.shape and np.abs(trained - base).max() > 1e-4


def test_the_manifest_is_written_last_and_names_what_was_made(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text("utf-8"))
    assert manifest["model_fingerprint"] == hub.fingerprint(finished / "model")
    assert manifest["queries"] == {"colours": 10, "reverse": 10, "reviews": 10}
    assert all(set(seconds) == {"candidates", "feedback", "training"} for seconds in manifest["seconds"])


def test_two_runs_with_one_seed_give_the_same_model(
    finished: Path, tasks: Path, config: RunConfig, tmp_path: Path
) -> None:
    again = Run(tmp_path / "run", open_collection(tasks), config).finish()
    assert hub.fingerprint(again) == hub.fingerprint(finished / "model")


def test_another_seed_gives_another_model(finished: Path, tasks: Path, config: RunConfig, tmp_path: Path) -> None:
    other = Run(tmp_path / "run", open_collection(tasks), replace(config, seed=1)).finish()
    assert hub.fingerprint(other) != hub.fingerprint(finished / "model")


def test_later_iterations_mine_with_the_trained_encoder_and_reuse_scores(finished: Path) -> None:
    first, second = (json.loads((finished / f"iteration-{n}" / "candidates.json").read_text("utf-8")) for n in (0, 1))
    assert first.keys() == second.keys() and first != second
    for task, queries in second.items():
        for query, candidates in queries.items():
            assert query not in candidates and len(candidates) == 6
            assert set(first[task][query]) & set(candidates)


def test_a_finished_run_does_nothing_again(finished: Path, tasks: Path, config: RunConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "model").rglob("*")}
    seen: list[Progress] = []
    Run(finished, open_collection(tasks), config, report=lambda _, progress: seen.append(progress)).finish()
    assert seen == []
    assert before == {path: path.stat().st_mtime_ns for path in (finished / "model").rglob("*")}


def test_an_interrupted_run_goes_on_where_it_was(
    finished: Path, tasks: Path, config: RunConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    # As if it had been killed after the second iteration's candidates.
    for part in ("model", "iteration-1/model"):
        shutil.rmtree(folder / part)
    (folder / "manifest.json").unlink()
    seen: list[Progress] = []
    result = Run(folder, open_collection(tasks), config, report=lambda _, progress: seen.append(progress)).finish()
    # All pairs were already scored, and the same model comes out.
    assert seen == []
    assert hub.fingerprint(result) == hub.fingerprint(finished / "model")


def test_two_towers_are_trained_and_open_as_one_model(tasks: Path, config: RunConfig, tmp_path: Path) -> None:
    apart = replace(config, train=replace(config.train, towers=2, iterations=1))
    encoder = SentenceEncoder.load(str(Run(tmp_path / "run", open_collection(tasks), apart).finish()), device="cpu")
    query, demonstration = encoder.encode_queries(["a b"]), encoder.encode_demonstrations(["a b"])
    assert query.shape == demonstration.shape and np.abs(query - demonstration).max() > 1e-4


def test_a_training_in_bfloat16_keeps_weights_of_float32(
    finished: Path, tasks: Path, config: RunConfig, tmp_path: Path
) -> None:
    narrow = replace(config, train=replace(config.train, dtype="bfloat16", iterations=1))
    model = SentenceTransformer(str(Run(tmp_path / "run", open_collection(tasks), narrow).finish()), device="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    wide = SentenceTransformer(str(finished / "iteration-0" / "model"), device="cpu")
    pairs = zip(model.parameters(), wide.parameters(), strict=True)
    difference = max((one - other).abs().max().item() for one, other in pairs)
    assert 0 < difference < 0.05


def test_runs_may_share_a_file_of_scores(finished: Path, tasks: Path, config: RunConfig, tmp_path: Path) -> None:
    shared = tmp_path / "shared.sqlite"
    shutil.copy(finished / "feedback.sqlite", shared)
    shorter = replace(config, train=replace(config.train, iterations=1))
    seen: list[Progress] = []
    Run(
        tmp_path / "run",
        open_collection(tasks),
        shorter,
        feedback=shared,
        report=lambda _, progress: seen.append(progress),
    ).finish()
    assert seen == [] and not (tmp_path / "run" / "feedback.sqlite").exists()


def test_a_run_with_another_configuration_is_not_mixed_in(finished: Path, tasks: Path, config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="seed = 0 here, seed = 5 requested"):
        Run(finished, open_collection(tasks), replace(config, seed=5))


def test_a_run_goes_on_in_the_order_of_tasks_that_it_began_with(
    finished: Path, tasks: Path, config: RunConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for part in ("model", "iteration-1/model"):
        shutil.rmtree(folder / part)
    turned = tuple(reversed(config.tasks))
    result = Run(folder, open_collection(tasks, turned), replace(config, tasks=turned)).finish()
    assert hub.fingerprint(result) == hub.fingerprint(finished / "model")


def test_a_pool_too_small_for_a_list_is_refused_before_anything_is_written(
    tasks: Path, config: RunConfig, tmp_path: Path
) -> None:
    few = replace(config, candidates=replace(config.candidates, pool=4))
    with pytest.raises(ConfigError, match="has 4 rows, 3 without a query and its copies; a step needs 4 candidates"):
        Run(tmp_path / "run", open_collection(tasks), few)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_continued_with_other_rows(finished: Path, tasks: Path, config: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(tasks, tmp_path / "tasks")
    path = tmp_path / "tasks" / "opinion" / "reviews" / "train.jsonl"
    path.write_text(path.read_text("utf-8").replace("train 3", "train three"), "utf-8")
    with pytest.raises(ConfigError, match="started from other pools; give another --out"):
        Run(finished, open_collection(tmp_path / "tasks"), config)


def test_a_pool_with_copies_trains(tasks: Path, config: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(tasks, tmp_path / "tasks")
    path = tmp_path / "tasks" / "opinion" / "reviews" / "train.jsonl"
    first = path.read_text("utf-8").splitlines()[0]
    path.write_text(path.read_text("utf-8") + first.replace("train-00", "copy-00") + "\n", "utf-8")
    train = replace(config.train, iterations=1)
    short = replace(config, tasks=("reviews",), train=train, candidates=CandidateConfig(num_candidates=6))
    assert Run(tmp_path / "run", open_collection(tmp_path / "tasks", ["reviews"]), short).finish().is_dir()


def test_a_model_that_compared_by_dot_is_saved_with_what_it_was_trained_by(
    tasks: Path, config: RunConfig, encoder_folder: Path, tmp_path: Path
) -> None:
    start = SentenceTransformer(str(encoder_folder), device="cpu", similarity_fn_name="dot")
    start.save_pretrained(str(tmp_path / "dot"))
    for temperature, metric in ((0.05, "cosine"), (0.0, "dot")):
        train = replace(config.train, model=str(tmp_path / "dot"), iterations=1, temperature=temperature)
        result = Run(tmp_path / metric, open_collection(tasks), replace(config, train=train)).finish()
        assert SentenceEncoder.load(str(result)).metric == metric


def test_a_model_trained_with_another_wording_is_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "model", tmp_path / "model")
    (tmp_path / "model" / "udr.json").write_text('{"encoder_wording": "0000"}', "utf-8")
    with pytest.raises(ModelError, match="trained with the encoder wording 0000"):
        SentenceEncoder.load(str(tmp_path / "model"))


def test_a_training_cut_short_goes_on_at_its_last_checkpoint(
    finished: Path, tasks: Path, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    forward = CandidateLoss.forward

    def interrupted(self: CandidateLoss, *columns: object) -> object:
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return forward(self, *columns)  # type: ignore[arg-type]

    monkeypatch.setattr(CandidateLoss, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path / "run", open_collection(tasks), config).finish()
    assert not (tmp_path / "run" / "iteration-0" / "model").exists()
    result = Run(tmp_path / "run", open_collection(tasks), config).finish()
    # Two iterations of six steps each; the checkpoint after the fourth step, so that only the fifth came twice.
    assert len(steps) == 13
    assert hub.fingerprint(result) == hub.fingerprint(finished / "model")
