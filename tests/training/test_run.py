"""Whole runs of tiny models: deterministic, resumable, and readable as plain Sentence-Transformers models."""

import json
import logging
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from tests.training.conftest import changed_copy
from udr.data import open_collection
from udr.errors import ArtifactError, ConfigError, ModelError
from udr.files import locked
from udr.models import SentenceEncoder, hub
from udr_training import Run
from udr_training.config import CandidateConfig, RewardConfig, RunConfig
from udr_training.feedback import Progress
from udr_training.losses import CandidateLoss


def resume(
    folder: Path, tasks: Path, config: RunConfig, feedback: Path | None = None
) -> tuple[SentenceTransformer, list[Progress]]:
    """Finish a run; return its model and the progress of its scoring."""
    seen: list[Progress] = []
    collection = open_collection(tasks, config.tasks)
    run = Run(folder, collection, config, feedback=feedback, on_progress=lambda _, progress: seen.append(progress))
    model = SentenceTransformer(str(run.finish()), device="cpu")
    # The trainings report their steps, too.
    return model, [progress for progress in seen if progress.unit == "pairs"]


def one_iteration(config: RunConfig, **changes: object) -> RunConfig:
    return replace(config, train=replace(config.train, iterations=1, **changes))  # type: ignore[arg-type]


def largest_difference(one: SentenceTransformer, other: SentenceTransformer) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((one - other).abs().max().item() for one, other in pairs)


def mean_difference(one: SentenceTransformer, other: SentenceTransformer) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return torch.cat([(one - other).abs().flatten() for one, other in pairs]).mean().item()


def test_trained_model_differs_from_the_start_and_the_manifest_names_it(
    trained_run: Path, encoder_folder: Path
) -> None:
    trained, start = (SentenceTransformer(str(path), device="cpu") for path in (trained_run / "model", encoder_folder))
    assert largest_difference(trained, start) > 1e-4
    manifest = json.loads((trained_run / "manifest.json").read_text("utf-8"))
    assert manifest["model_fingerprint"] == hub.fingerprint(trained_run / "model")
    assert manifest["queries"] == {"colours": 10, "reverse": 10, "reviews": 10}
    assert all(set(seconds) == {"candidates", "feedback", "training"} for seconds in manifest["seconds"])


def test_later_iterations_mine_with_the_trained_encoder_and_reuse_random_candidates(trained_run: Path) -> None:
    paths = [trained_run / f"iteration-{number}" / "candidates.json" for number in (0, 1)]
    first, second = (json.loads(path.read_text("utf-8")) for path in paths)
    assert first.keys() == second.keys() and first != second
    for task, queries in second.items():
        for query, candidates in queries.items():
            assert query not in candidates and len(candidates) == 6
            assert set(first[task][query]) & set(candidates)


def test_one_process_at_a_time_works_on_a_run(trained_run: Path, tasks: Path, run_config: RunConfig) -> None:
    with locked(trained_run), pytest.raises(ArtifactError, match=r"is in use by process .*; wait until it ends"):
        Run(trained_run, open_collection(tasks), run_config).finish()


def test_complete_run_is_not_repeated(trained_run: Path, tasks: Path, run_config: RunConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in (trained_run / "model").rglob("*")}
    assert resume(trained_run, tasks, run_config)[1] == []
    assert before == {path: path.stat().st_mtime_ns for path in (trained_run / "model").rglob("*")}


def test_run_interrupted_after_scoring_resumes_with_its_own_order_of_tasks(
    trained_run: Path, tasks: Path, run_config: RunConfig, tmp_path: Path
) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    for part in ("model", "iteration-1/model"):
        shutil.rmtree(tmp_path / "run" / part)
    (tmp_path / "run" / "manifest.json").unlink()
    _, seen = resume(tmp_path / "run", tasks, replace(run_config, tasks=run_config.tasks[::-1]))
    assert seen == []
    assert hub.fingerprint(tmp_path / "run" / "model") == hub.fingerprint(trained_run / "model")


def test_run_interrupted_in_training_resumes_at_its_checkpoint_with_the_same_result(
    trained_run: Path, tasks: Path, run_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, forward = list[int](), CandidateLoss.forward

    def interrupted(self: CandidateLoss, *columns: object) -> object:
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return forward(self, *columns)  # type: ignore[arg-type]

    monkeypatch.setattr(CandidateLoss, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "run", tasks, run_config)
    assert not (tmp_path / "run" / "iteration-0" / "model").exists()
    resume(tmp_path / "run", tasks, run_config)
    # Two iterations of six steps; the last checkpoint is after the fourth, so that only the fifth is repeated.
    assert len(steps) == 13
    assert hub.fingerprint(tmp_path / "run" / "model") == hub.fingerprint(trained_run / "model")


def test_bfloat16_trains_float32_weights_from_shared_scores(
    trained_run: Path, encoder_folder: Path, tasks: Path, run_config: RunConfig, tmp_path: Path
) -> None:
    shared = Path(shutil.copy(trained_run / "feedback.sqlite", tmp_path / "shared.sqlite"))
    model, seen = resume(tmp_path / "run", tasks, one_iteration(run_config, dtype="bfloat16"), shared)
    assert seen == [] and not (tmp_path / "run" / "feedback.sqlite").exists()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    folders = (trained_run / "iteration-0" / "model", encoder_folder)
    float32, start = (SentenceTransformer(str(folder), device="cpu") for folder in folders)
    # Rounding moves the weights far less than the training does.
    assert 0 < mean_difference(model, float32) < 0.5 * mean_difference(start, float32)


def test_two_towers_train_on_a_pool_with_copies(tasks: Path, run_config: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(tasks, tmp_path / "tasks")
    path = tmp_path / "tasks" / "opinion" / "reviews" / "train.jsonl"
    first = path.read_text("utf-8").splitlines()[0]
    path.write_text(path.read_text("utf-8") + first.replace("train-00", "copy-00") + "\n", "utf-8")
    config = replace(
        one_iteration(run_config, towers=2), tasks=("reviews",), candidates=CandidateConfig(num_candidates=6), seed=1
    )
    resume(tmp_path / "run", tmp_path / "tasks", config)
    encoder = SentenceEncoder.load(str(tmp_path / "run" / "model"), device="cpu")
    query, demonstration = encoder.encode_queries(["a b"]), encoder.encode_demonstrations(["a b"])
    assert query.shape == demonstration.shape and np.abs(query - demonstration).max() > 1e-4


@pytest.mark.parametrize(("temperature", "metric"), [(0.05, "cosine"), (0.0, "dot")])
def test_saved_model_compares_as_it_was_trained(
    tasks: Path, run_config: RunConfig, encoder_folder: Path, tmp_path: Path, temperature: float, metric: str
) -> None:
    start = SentenceTransformer(str(encoder_folder), device="cpu", similarity_fn_name="dot")
    start.save_pretrained(str(tmp_path / "dot"))
    config = one_iteration(run_config, model=str(tmp_path / "dot"), temperature=temperature, validation=0.0)
    few = replace(config, tasks=("reviews",), candidates=CandidateConfig(queries=4, num_candidates=4))
    resume(tmp_path / "run", tasks, few)
    assert SentenceEncoder.load(str(tmp_path / "run" / "model")).metric == metric


def test_model_trained_with_another_wording_is_refused(trained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run / "model", tmp_path / "model")
    # It says what it was trained on, too.
    assert json.loads((tmp_path / "model" / "udr.json").read_bytes())["tasks"] == ["colours", "reverse", "reviews"]
    (tmp_path / "model" / "udr.json").write_text('{"encoder_wording": "0000"}', "utf-8")
    with pytest.raises(ModelError, match="trained with the encoder wording 0000"):
        SentenceEncoder.load(str(tmp_path / "model"))


def test_run_with_another_configuration_or_other_rows_is_refused(
    trained_run: Path, tasks: Path, run_config: RunConfig, tmp_path: Path
) -> None:
    of_its_scores = re.escape(f"; give another --out; its scores can be used: --feedback {trained_run}/feedback.sqlite")
    with pytest.raises(ConfigError, match=rf"\(seed = 0 here, seed = 5 requested\){of_its_scores}"):
        resume(trained_run, tasks, replace(run_config, seed=5))
    with pytest.raises(ConfigError, match=r"\(train.loss = udr here, train.loss = kl requested\)"):
        resume(trained_run, tasks, replace(run_config, train=replace(run_config.train, loss="kl")))
    changed = changed_copy(tasks, tmp_path / "tasks", "train 3", "train three")
    with pytest.raises(ConfigError, match=f"started from different pools{of_its_scores}"):
        resume(trained_run, changed, run_config)
    # No score is that of another model or another prompt.
    for feedback in (replace(run_config.feedback, dtype="bfloat16"), replace(run_config.feedback, context=2)):
        with pytest.raises(ConfigError, match=r"requested\); give another --out$"):
            resume(trained_run, tasks, replace(run_config, feedback=feedback))
    copied = Path(shutil.copytree(trained_run, tmp_path / "copied"))
    sources = json.loads((copied / "sources.json").read_text("utf-8"))
    (copied / "sources.json").write_text(json.dumps({**sources, "lm": "0" * 16}), "utf-8")
    with pytest.raises(ConfigError, match=r"started from different lm; give another --out$"):
        resume(copied, tasks, run_config)


def test_a_run_resumes_with_settings_that_leave_its_result(
    trained_run: Path, tasks: Path, run_config: RunConfig, encoder_folder: Path, tmp_path: Path
) -> None:
    # Without dropout, whose draws depend on how a batch is divided.
    start = Path(shutil.copytree(encoder_folder, tmp_path / "start"))
    (path,) = [path for path in start.rglob("config.json") if "hidden_dropout_prob" in path.read_text("utf-8")]
    path.write_text(re.sub(r'(dropout_prob": )[\d.]+', r"\g<1>0.0", path.read_text("utf-8")), "utf-8")
    config = replace(one_iteration(run_config, model=str(start)), tasks=("reviews",))
    expected, _ = resume(tmp_path / "run", tasks, config, trained_run / "feedback.sqlite")
    for part in ("model", "iteration-0/model"):
        shutil.rmtree(tmp_path / "run" / part)
    train = replace(config.train, gradient_checkpointing=True, mini_batch=3, tensorboard=True)
    model, _ = resume(tmp_path / "run", tasks, replace(config, train=train))
    texts = ["train 3", "the grass is good indeed"]
    before = SentenceTransformer(str(start), device="cpu").encode(texts)
    trained, again = expected.encode(texts), model.encode(texts)
    assert np.abs(trained - again).max() < 1e-5 < 1e-3 < np.abs(trained - before).max()
    assert any((tmp_path / "run" / "iteration-0" / "tensorboard").iterdir())


def test_pool_too_small_for_a_list_is_refused_before_anything_is_written(
    tasks: Path, run_config: RunConfig, tmp_path: Path
) -> None:
    few = replace(run_config, candidates=replace(run_config.candidates, pool=4))
    with pytest.raises(ConfigError, match="has 4 rows, 3 without a query and its copies; a step needs 4 candidates"):
        resume(tmp_path / "run", tasks, few)
    assert not (tmp_path / "run").exists()


def test_rows_without_scores_become_queries_where_labels_explain_the_order(
    tasks: Path,
    run_config: RunConfig,
    trained_run: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("udr_training.trainer.extrapolation.labels.LEAST_AGREEMENT", 0.5)
    config = one_iteration(run_config, extrapolate="labels", label_aware=True, validation=0.5, epochs=4)
    resume(tmp_path / "run", tasks, config, trained_run / "feedback.sqlite")
    (told,) = [record.getMessage() for record in caplog.records if "labels get" in record.getMessage()]
    assert told.startswith("task reviews: ") and told.endswith("; 10 more rows become queries")
    seconds = json.loads((tmp_path / "run" / "iteration-0" / "seconds.json").read_text("utf-8"))
    assert "extrapolation" in seconds
    resume(
        tmp_path / "plain", tasks, one_iteration(run_config, validation=0.5, epochs=4), trained_run / "feedback.sqlite"
    )
    logs = [(tmp_path / run / "iteration-0" / "metrics.jsonl").read_text("utf-8") for run in ("run", "plain")]
    assert logs[0] != logs[1], "the training had other batches"


def test_what_needs_labels_says_where_there_are_none(
    tasks: Path, run_config: RunConfig, trained_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(one_iteration(run_config, extrapolate="labels", label_aware=True), tasks=("colours",))
    resume(tmp_path / "run", tasks, config, trained_run / "feedback.sqlite")
    assert caplog.text.count("train.label_aware has no effect: no task has labels") == 1
    assert caplog.text.count("task colours: it has no labels; no row is added") == 1


def test_a_reward_model_scores_the_pools_of_all_kinds_in_the_last_iteration(
    tasks: Path,
    run_config: RunConfig,
    trained_run: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("udr_training.trainer.extrapolation.reward.LEAST", 0.0)
    monkeypatch.setattr("udr_training.trainer.extrapolation.reward.LEAD", -1.0)
    train = replace(run_config.train, extrapolate="reward", loss="kl", validation=0.5)
    config = replace(run_config, train=train, reward=RewardConfig(candidates=5, epochs=1))
    shared = Path(shutil.copy(trained_run / "feedback.sqlite", tmp_path / "shared.sqlite"))
    resume(tmp_path / "run", tasks, config, shared)
    assert not (tmp_path / "run" / "iteration-0" / "reward").exists()
    told = [record.getMessage() for record in caplog.records if "the reward model's scores get" in record.getMessage()]
    assert [line.split(":")[0] for line in told] == ["task colours", "task reverse", "task reviews"]
    assert all(line.endswith(" pairs); 3 more rows become queries") for line in told)
    folder = tmp_path / "run" / "iteration-1"
    for name in config.tasks:
        scores = json.loads((folder / "extrapolated" / f"{name}.json").read_text("utf-8"))["scores"]
        assert len(scores) == 3 and all(len(own) == 5 and query not in own for query, own in scores.items())
    seconds = json.loads((folder / "seconds.json").read_text("utf-8"))
    assert {"reward", "extrapolation", "training"} <= seconds.keys()
    # Training alone is repeated, with the same scores.
    before = hub.fingerprint(folder / "model")
    for path in (folder / "model", tmp_path / "run" / "model"):
        shutil.rmtree(path)
    reward = (folder / "reward" / "model.safetensors").stat().st_mtime_ns
    resume(tmp_path / "run", tasks, config, shared)
    assert hub.fingerprint(folder / "model") == before
    assert (folder / "reward" / "model.safetensors").stat().st_mtime_ns == reward


@pytest.mark.parametrize("later", ["new", "allocated"])
def test_later_iterations_ask_new_queries_within_the_same_number_of_pairs(
    later: str, tasks: Path, run_config: RunConfig, trained_run: Path, tmp_path: Path
) -> None:
    config = replace(run_config, candidates=replace(run_config.candidates, later=later))
    shared = Path(shutil.copy(trained_run / "feedback.sqlite", tmp_path / "shared.sqlite"))
    _, seen = resume(tmp_path / "run", tasks, config, shared)
    paths = [tmp_path / "run" / f"iteration-{number}" / "candidates.json" for number in (0, 1)]
    first, second = (json.loads(path.read_text("utf-8")) for path in paths)
    assert all(not first[name].keys() & second[name].keys() for name in first)
    # Ten queries with three new candidates each pay for five with six.
    counts = {name: len(second[name]) for name in second}
    assert sum(counts.values()) == 15 and sum(progress.done == progress.total for progress in seen) > 0
    if later == "new":
        assert set(counts.values()) == {5}
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))
    assert manifest["queries"] == {name: 10 + count for name, count in counts.items()}
    # The same steps, and the same queries for validation.
    logs = [
        [json.loads(line) for line in (run / "iteration-1" / "metrics.jsonl").read_text("utf-8").splitlines()]
        for run in (tmp_path / "run", trained_run)
    ]
    assert logs[0][-1]["step"] == logs[1][-1]["step"]
    assert logs[0][0]["ndcg"].keys() == logs[1][0]["ndcg"].keys()
    # A run that is repeated asks the same ones.
    before = {path: path.read_bytes() for path in paths}
    shutil.rmtree(tmp_path / "run" / "model")
    shutil.rmtree(tmp_path / "run" / "iteration-1" / "model")
    assert resume(tmp_path / "run", tasks, config, shared)[1] == []
    assert {path: path.read_bytes() for path in paths} == before


def test_a_pool_without_enough_rows_is_told(
    tasks: Path, run_config: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    candidates = replace(run_config.candidates, later="allocated", queries=22)
    # No query is held out.
    train = replace(run_config.train, validation=0.02)
    resume(tmp_path / "run", tasks, replace(run_config, tasks=("reviews",), candidates=candidates, train=train))
    assert "task reviews: nothing tells what its labels explain; 2 new queries" in caplog.text
    assert "iteration-1: 9 new queries fewer than planned; the pools have no more rows" in caplog.text


def test_shared_demonstrations_are_scored_for_many_queries_and_their_means_change_the_training(
    tasks: Path, run_config: RunConfig, tmp_path: Path
) -> None:
    candidates = replace(run_config.candidates, shared=5)
    config = replace(one_iteration(run_config), tasks=("reviews",), candidates=candidates)
    feedback = tmp_path / "feedback.sqlite"
    resume(tmp_path / "plain", tasks, config, feedback)
    proposed = json.loads((tmp_path / "plain" / "iteration-0" / "candidates.json").read_text("utf-8"))["reviews"]
    # Three of six candidates of each of ten queries.
    counts = Counter(id for ids in proposed.values() for id in ids[3:])
    assert len(counts) <= 6 and sum(counts.values()) == 30
    centred = replace(config, train=replace(config.train, centre_scores=True))
    assert resume(tmp_path / "centred", tasks, centred, feedback)[1] == []
    logs = [
        [
            json.loads(line)
            for line in (tmp_path / run / "iteration-0" / "metrics.jsonl").read_text("utf-8").splitlines()
        ]
        for run in ("plain", "centred")
    ]
    # The untrained encoder is judged by the same scores, and trained by others.
    assert logs[0][0]["ndcg"] == logs[1][0]["ndcg"]
    assert [line["loss"] for line in logs[0] if "loss" in line] != [line["loss"] for line in logs[1] if "loss" in line]
