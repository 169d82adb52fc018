"""The weight of hybrid searches: by the NDCG of held-out queries, kept in the index, told on the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import Machine, Udr, assert_refused
from udr.data import open_collection, query_fields, sample
from udr.errors import ArtifactError
from udr.models import SentenceEncoder
from udr.retrieval import Retriever
from udr.store import open_version, read_current, read_weights, verify
from udr_index.build import BuildConfig, build
from udr_index.versions.live import compact
from udr_training.candidates import ndcg, rank_all, ranks
from udr_training.config import RunConfig, from_toml
from udr_training.evaluation import predict
from udr_training.evaluation.retrievers import Shown
from udr_training.feedback import (
    ASKED_WEIGHTS,
    WEIGHTS,
    Pair,
    SetQuestion,
    best_weight,
    exported,
    load_lm,
    load_local,
    pair_prompt,
    pair_score,
    watched,
    weigh,
)
from udr_training.run_folder import upload_copy, working_copy


@pytest.fixture
def index(tasks: Path, trained_run: Path, tmp_path: Path) -> Path:
    model = str(trained_run / "model")
    build(BuildConfig(tasks=tasks, out=tmp_path / "index", model=model, export=False), SentenceEncoder.load(model))
    return tmp_path / "index"


def test_the_weight_nearest_to_even_that_is_as_good_as_the_best_is_chosen() -> None:
    values = np.zeros((40, len(WEIGHTS)))
    assert best_weight(values, WEIGHTS) == 0.5
    # Every query gains with less of the encoder, and most at 0.1; within its error, 0.3 is as good.
    noise = np.linspace(-0.2, 0.2, 40)
    values[:, 1] = 0.5
    values[:, 3] = 0.49 + noise
    values[:, 4] = 0.3
    assert best_weight(values, WEIGHTS) == 0.3
    values[:, 3] = 0.4 + noise / 10
    assert best_weight(values, WEIGHTS) == 0.1
    values[:, 3] = values[:, 7] = 0.5 + noise / 10
    values[:, 1] = 0
    assert best_weight(values, WEIGHTS) == 0.3  # ties go to BM25's side
    # One query says nothing, and the differences of a few may happen to be equal.
    assert best_weight(values[:1], WEIGHTS) == 0.5
    alike = np.tile(np.linspace(0.5, 0.6, len(WEIGHTS)), (5, 1))
    assert [best_weight(alike[:count], WEIGHTS) for count in range(1, 6)] == [0.5, 0.5, 0.5, 0.5, 1.0]


def test_few_queries_say_that_they_tell_no_weight(
    trained_run: Path, index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert {told.weight for told in weigh(trained_run, index)} == {0.5}
    assert "task reviews: it takes 5 queries to tell a weight, found 2; the encoder and BM25 count alike" in caplog.text


def test_an_encoder_that_may_have_learned_from_the_queries_is_told(
    trained_run: Path,
    index: Path,
    tasks: Path,
    encoder_folder: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that only scored holds nothing out, so the encoder of the index has learned from most of its queries."""
    before = BuildConfig(tasks=tasks, out=tmp_path / "before", model=str(encoder_folder), export=False)
    build(before, SentenceEncoder.load(str(encoder_folder)))
    for own in (index, before.out):
        weigh(trained_run, own)
    assert "learned" not in caplog.text
    scores, trained = tmp_path / "scores", shutil.ignore_patterns("model", "manifest.json")
    shutil.copytree(trained_run, scores, ignore=trained)
    sources = json.loads((scores / "sources.json").read_text())
    (scores / "sources.json").write_text(json.dumps({name: sources[name] for name in sources if "encoder" not in name}))
    assert len(watched(scores)["reviews"]) > len(watched(trained_run)["reviews"])
    weigh(scores, index)
    assert f"encoder, {str(trained_run / 'model')!r}, has not learned from the queries of {scores}" in caplog.text
    assert "if it was trained on these tasks, name the run that trained it, or" in caplog.text
    caplog.clear()
    monkeypatch.setitem(weigh.__globals__, "DEFAULT_ENCODER", str(trained_run / "model"))
    weigh(scores, index)
    assert "learned" not in caplog.text


def test_weights_follow_the_held_out_scores_and_are_kept(udr: Udr, tasks: Path, trained_run: Path, index: Path) -> None:
    status, out, _ = udr("feedback", "weigh", trained_run, index, "--json")
    result = json.loads(out)
    assert status == 0
    version = open_version(index)
    kept = read_weights(version.path, version.manifest)
    assert kept == {task["task"]: task["weight"] for task in result["tasks"]} and set(kept) == set(
        version.manifest.partitions
    )
    assert verify(index) == []

    scores: dict[tuple[str, str], float] = {
        (str(pair["query_id"]), str(pair["demonstration_id"])): float(str(pair["score"]))
        for pair in exported(trained_run)
        if pair["task"] == "reviews"
    }
    held_out = rank_all(scores)[8:]  # of 10 queries, 0.2 are held out
    assert list(watched(trained_run)["reviews"]) == list(held_out)
    rows = {row.id: row for row in open_collection(tasks).tasks["reviews"].pool().rows}
    (told,) = [task for task in result["tasks"] if task["task"] == "reviews"]
    assert (told["queries"], told["measure"]) == (len(held_out), "ndcg") == (2, "ndcg")
    with Retriever.open(index) as retriever:
        for weight in WEIGHTS:
            values = []
            for example in held_out:
                by_id = dict(zip(example.candidates, ranks(example.scores), strict=True))
                query = query_fields(retriever.tasks["reviews"], rows[example.query_id])
                found = retriever.retrieve("reviews", query, 24, mode="hybrid", weight=weight)
                order = [by_id[item.id] for item in found if item.id in by_id]
                values.append(ndcg(order + sorted(by_id[id] for id in by_id.keys() - {item.id for item in found})))
            assert told["values"][str(weight)] == pytest.approx(np.mean(values))

    _, out, _ = udr("index", "info", index)
    assert all(f"bm25 (weight of the encoder in hybrid: {weight:g})" in out for weight in kept.values())
    _, out, _ = udr("feedback", "weigh", trained_run, index)
    assert [line.partition(":")[0] for line in out.splitlines()] == list(kept) and "both alike" in out


def test_sets_are_weighed_by_targets_after_what_each_weight_shows(
    udr: Udr, tasks: Path, trained_run: Path, index: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    asking = ("feedback", "weigh", run, index, "--tasks", "reviews", "--queries", 3, "--shots", 2)
    config = from_toml((run / "config.toml").read_text("utf-8"), RunConfig)
    pool = open_collection(tasks).tasks["reviews"].pool(config.candidates.pool or None, config.seed)
    candidates = json.loads((run / "iteration-0" / "candidates.json").read_text())["reviews"]
    further = [row.id for row in pool.rows if row.id not in candidates][:4]
    (run / "iteration-0" / "extrapolated").mkdir()
    (run / "iteration-0" / "extrapolated" / "reviews.json").write_text(
        json.dumps({"scores": {id: {} for id in further}})
    )
    learned = {*candidates, *further} - {example.query_id for example in watched(run)["reviews"]}
    rows = sample([row for row in pool.rows if row.id not in learned], 3, config.seed)

    status, out, _ = udr(*asking, "--json")
    result = json.loads(out)
    (told,) = result["tasks"]
    assert (status, told["task"], told["queries"], told["measure"]) == (0, "reviews", 3, "score")
    version = open_version(index)
    assert read_weights(version.path, version.manifest) == {"reviews": told["weight"]}
    lm = load_lm(config.feedback)
    with Retriever.open(index) as retriever:
        for weight in ASKED_WEIGHTS:
            scores = []
            for row in rows:
                found = retriever.retrieve("reviews", query_fields(pool.task, row), 2, mode="hybrid", weight=weight)
                second, first = (retriever.demonstration("reviews", item.id) for item in found[::-1])
                pair = Pair(pool.task, row, first, (second,))
                (likelihoods,) = lm.score([pair_prompt(lm, pair)])
                scores.append(pair_score(pair, likelihoods))
            assert told["values"][str(weight)] == pytest.approx(np.mean(scores), abs=1e-5)

    before = (run / "feedback.sqlite").stat().st_mtime_ns
    assert json.loads(udr(*asking, "--json")[1]) == result
    assert (run / "feedback.sqlite").stat().st_mtime_ns == before  # nothing was asked again
    assert_refused(udr("feedback", "weigh", run, index, "--shots", 2), 2, "--shots has no effect without --queries")
    assert_refused(udr("feedback", "weigh", run, index, "--queries", -1), 2, "--queries must be at least 1, found -1")
    message = f"no task 'reviewz' is in both {run} and {index}; they share "
    assert_refused(udr("feedback", "weigh", run, index, "--tasks", "reviewz"), 1, message)
    settings = run / "config.toml"
    settings.write_text(
        settings.read_text().replace(f'lm = "{config.feedback.lm}"', 'lm = "http://127.0.0.1:9/v1?model=m"')
    )
    # Before anything is read.
    (run / "feedback.sqlite").unlink()
    assert_refused(udr(*asking), 2, "its scores are those of a server, whose answers may cost money; omit --queries")


def test_tasks_that_are_written_are_weighed_by_the_metric_of_answers(
    udr: Udr, tasks: Path, trained_run: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal to an evaluation that shows the same demonstrations to the same rows."""
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    asking = ("feedback", "weigh", run, index, "--tasks", "reverse", "--queries", 5, "--shots", 2, "--json")
    config = from_toml((run / "config.toml").read_text("utf-8"), RunConfig)
    pool = open_collection(tasks).tasks["reverse"].pool(config.candidates.pool or None, config.seed)
    # The tiny model copies no word, so each answer counts by how much of it the target has.
    monkeypatch.setattr(
        "udr_training.feedback.scoring.values.answer_value",
        lambda _, text, golds, __: len(set(text) & set(golds[0])) / len(set(golds[0])),
    )
    status, out, _ = udr(*asking)
    (told,) = json.loads(out)["tasks"]
    assert (status, told["queries"], told["measure"]) == (0, 5, "exact_match")

    asked = {id for name in run.glob("iteration-*/candidates.json") for id in json.loads(name.read_text())["reverse"]}
    learned = asked - {example.query_id for example in watched(run)["reverse"]}
    rows = sample([row for row in pool.rows if row.id not in learned], 5, config.seed)
    lm, values = load_local(config.feedback), {}
    with Retriever.open(index) as retriever:
        for weight in ASKED_WEIGHTS:
            found = [
                retriever.retrieve("reverse", query_fields(pool.task, row), 2, mode="hybrid", weight=weight)
                for row in rows
            ]
            shown = [Shown(tuple(retriever.demonstration("reverse", item.id) for item in own)) for own in found]
            answers = [answer.text for answer in predict(lm, pool, rows, shown, 2)]
            shares = [
                len(set(text) & set(row.target)) / len(set(row.target)) for text, row in zip(answers, rows, strict=True)
            ]
            values[str(weight)] = np.mean(shares)
    assert told["values"] == pytest.approx(values) and len(set(values.values())) > 1

    monkeypatch.setattr("udr_training.feedback.local.CausalLM.generate", lambda *_, **__: pytest.fail("asked again"))
    assert json.loads(udr(*asking)[1])["tasks"] == [told]


def test_all_demonstrations_of_a_small_pool_are_shown(tasks: Path, trained_run: Path, tmp_path: Path) -> None:
    run, model = Path(shutil.copytree(trained_run, tmp_path / "run")), str(trained_run / "model")
    config = BuildConfig(tasks=tasks, out=tmp_path / "index", model=model, export=False, pool=2)
    build(config, SentenceEncoder.load(model))
    (told,) = weigh(run, config.out, SetQuestion(1), ["reverse"])
    # Whatever the weight, both are shown, in one order or the other.
    assert len(set(told.values.values())) <= 2


def test_a_task_of_which_training_held_out_nothing_is_named(
    udr: Udr, trained_run: Path, index: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    for path in run.glob("iteration-*/candidates.json"):
        candidates = json.loads(path.read_text())
        path.write_text(json.dumps({**candidates, "reviews": dict(list(candidates["reviews"].items())[:1])}))
    message = "training held out no scored query of the task 'reviews'; it did of colours, reverse"
    assert_refused(udr("feedback", "weigh", run, index, "--tasks", "reviews"), 2, message)


def test_no_prompt_is_made_to_read_scores(
    udr: Udr, trained_run: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That took seconds to minutes of a run with many pairs, and the language model's tokenizer."""
    expected = {name: list(own) for name, own in watched(trained_run).items()}
    monkeypatch.setattr("udr_training.feedback.prompts.PromptText.tokenize", lambda *_, **__: pytest.fail("tokenised"))
    assert {name: list(own) for name, own in watched(trained_run).items()} == expected
    assert udr("feedback", "weigh", trained_run, index)[0] == 0


def test_what_a_run_at_a_url_was_asked_is_uploaded(
    udr: Udr, trained_run: Path, index: Path, machine: Machine, tmp_path: Path
) -> None:
    url = f"memory://{tmp_path.name}/run"
    shutil.copytree(trained_run, working_copy(Path(url)), dirs_exist_ok=True)
    upload_copy(working_copy(Path(url)))
    before = json.loads(udr("feedback", "stats", url, "--json")[1])["pairs"]
    status, _, err = udr("feedback", "weigh", url, index, "--tasks", "reviews", "--queries", 1)
    assert status == 0, err
    machine("second")
    assert json.loads(udr("feedback", "stats", url, "--json")[1])["pairs"] > before


def test_weights_are_kept_by_the_version_that_is_current_by_then(
    tasks: Path, trained_run: Path, index: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    """Asking takes long: a service may have compacted the index, or a build have replaced it."""
    run, first = Path(shutil.copytree(trained_run, tmp_path / "run")), open_version(index)

    def compacted(*_: object) -> None:
        if read_current(index) == first.manifest.version:
            with Retriever.open(index) as retriever:
                retriever.delete("colours", retriever.demonstrations("colours").rows[0].id)
            compact(index)

    (told,) = weigh(run, index, SetQuestion(1, on_progress=compacted), ["reviews"])

    current = open_version(index)
    assert current.manifest.version != first.manifest.version
    assert read_weights(current.path, current.manifest) == {"reviews": told.weight}
    assert read_weights(first.path, first.manifest) == {}

    def rebuilt(*_: object) -> None:
        model = str(encoder_folder)
        build(BuildConfig(tasks=tasks, out=index, model=model, export=False), SentenceEncoder.load(model))

    with pytest.raises(ArtifactError, match=r"its encoder is not that which was measured, so nothing was stored; run"):
        weigh(run, index, SetQuestion(2, on_progress=rebuilt), ["reviews"])
    current = open_version(index)
    assert read_weights(current.path, current.manifest) == {}


def test_tasks_with_a_label_head_keep_their_weight(
    udr: Udr, tasks: Path, trained_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has seen the labels of the run's queries, and without it the searches would be others."""
    model = str(trained_run / "model")
    every, one = (tmp_path / name for name in ("every", "one"))
    for out, names in ((every, None), (one, ("reviews",))):
        config = BuildConfig(tasks=tasks, out=out, model=model, export=False, label_head=True, names=names)
        build(config, SentenceEncoder.load(model))
    assert udr("feedback", "weigh", trained_run, every)[0] == 0
    assert "label heads rank reviews" in caplog.text and "weights of these tasks stay as they are" in caplog.text
    version = open_version(every)
    parts = version.manifest.partitions
    kept = read_weights(version.path, version.manifest)
    assert kept and set(kept) == {name for name, part in parts.items() if part.label_head is None}
    message = "no weight can be told; build without: udr index build --no-label-head"
    assert_refused(udr("feedback", "weigh", trained_run, one), 2, message)


def test_an_index_without_bm25_or_without_the_tasks_is_refused(
    udr: Udr, tasks: Path, trained_run: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    encoder = SentenceEncoder.load(str(encoder_folder))
    config = BuildConfig(tasks=tasks, out=tmp_path / "i", model=str(encoder_folder), bm25=False, export=False)
    build(config, encoder)
    assert_refused(udr("feedback", "weigh", trained_run, tmp_path / "i"), 2, "build it again: udr index build")
    other = tmp_path / "tasks" / "opinion" / "others"
    shutil.copytree(tasks / "opinion" / "reviews", other)
    (other / "task.toml").write_text((other / "task.toml").read_text().replace('"reviews"', '"others"'))
    config = BuildConfig(
        tasks=tmp_path / "tasks", out=tmp_path / "o", model=str(encoder_folder), bm25=True, export=False
    )
    build(config, encoder)
    message = "training held out no scored query of a task of"
    assert_refused(udr("feedback", "weigh", trained_run, tmp_path / "o"), 2, message)
