"""The comparison of arms, ``benchmarks/quality.py``, with tiny models; and its intervals over rows and seeds."""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.tiny_models import save_encoder, save_lm, tiny_lm
from tests.training.conftest import changed_copy
from udr.data import open_collection, pool_digest, rows_digest, sample
from udr.types import Json
from udr_training.evaluation import Answer, AnswerStore, Cell, Estimate

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def arms(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("quality")


@pytest.fixture
def answered(tasks: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes an evaluation: a retriever's answers to three test rows of reviews."""

    def write(name: str, texts: Sequence[str], **made_from: Json) -> Path:
        folder = open_collection(tasks, ["reviews"]).tasks["reviews"]
        queries, shown = sample(folder.rows("test"), 3, 0), [row.id for row in folder.rows("train")[:4]]
        rows = {"test_rows": rows_digest(queries), "pool_rows": pool_digest(folder.pool(800, 0))}
        facts: dict[str, Json] = {"limit": 3, "seed": 0, "retriever": {"model": name}, **rows}
        answers = [Answer(row.id, tuple(shown), text) for row, text in zip(queries, texts, strict=False)]
        AnswerStore(tmp_path / "evaluation").write(Cell("reviews", name, 4, {**facts, **made_from}), answers)
        return tmp_path / "evaluation"

    return write


@pytest.mark.slow
def test_parts_of_the_method_and_unseen_tasks_are_rows_of_the_comparison(
    arms: ModuleType, tasks: Path, lm_folder: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    given = [str(tasks), "--out", str(tmp_path), "--queries", "10", "--candidates", "6", "--rows", "2", "--seeds", "1"]
    given += ["--names", "colours,reviews", "--ablated", "reviews", "--unseen", "reverse", "--also", "random", "oracle"]
    given += ["--lm", str(lm_folder), "--model", str(encoder_folder), "--arms", "udr,first,epr,without-instruction"]
    given += [x for s in ("train.epochs=1", "train.batch_size=4", "train.list_length=4") for x in ("--set", s)]
    arms.main(given)
    whole = json.loads((tmp_path / "arms.json").read_text("utf-8"))
    rows = {row["arm"]: row for row in whole["arms"]}
    assert {"random", "oracle", "udr", "first", "epr", "without-instruction"} <= rows.keys()
    assert rows["udr"]["values"]["unseen"] == rows["udr"]["values"]["reverse"]
    assert "unseen" in rows["random"]["values"] and "unseen" in rows["udr"]["gains"]["untrained"]
    # A mean over some of the tasks is none; of what has labels, these have all.
    for name in ("oracle", "first", "epr", "without-instruction"):
        assert set(rows[name]["values"]) == {"labels", "reviews"}
    assert "oracle" not in whole["best_untrained"].values() and not rows["oracle"]["gains"]
    # The scores are those of the first iteration, and what reads no instruction says so.
    assert rows["first"]["pairs"] == rows["epr"]["pairs"] == rows["without-instruction"]["pairs"]
    answers = sys.modules["answers"]
    folder = open_collection(tasks, ["reviews"]).tasks["reviews"]
    bare, first = (
        each.made_from["retriever"]["wording"]
        for name in ("without-instruction-0", "first-0")
        for each in answers.of_task(tmp_path / "evaluation", folder, [name])
    )
    assert bare == "no-instruction" != first


@pytest.mark.slow
def test_arms_share_the_feedback_and_resume_one_by_one(
    arms: ModuleType,
    tasks: Path,
    lm_folder: Path,
    encoder_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = ["--queries", "10", "--candidates", "6", "--rows", "2", "--seeds", "2", "--names", "colours,reviews"]
    models = ["--lm", str(lm_folder), "--model", str(encoder_folder), "--ablated", "reviews", "--label-head"]
    settings = ["train.epochs=1", "train.batch_size=4", "train.list_length=4"]
    given = [str(tasks), "--out", str(tmp_path), *sizes, *models, *(x for s in settings for x in ("--set", s))]
    arms.main([*given, "--arms", "udr,centred"])
    first = json.loads((tmp_path / "arms.json").read_text("utf-8"))
    untrained = ["bm25", "encoder", "hybrid", "encoder + head", "hybrid + head"]
    assert [row["arm"] for row in first["arms"]] == [*untrained, "udr", "udr + head", "centred"]
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/model/model.safetensors")}
    answered = {path: path.stat().st_mtime_ns for path in tmp_path.glob("evaluation/predictions/*/*")}
    built = {path: path.stat().st_mtime_ns for path in tmp_path.glob("indexes/*/versions/*/manifest.json")}
    # Colours have no labels, so a head answers nothing there; udr has two seeds.
    assert (len(answered), len(built)) == (2 * (3 + 2) + 2 + 2 + 1, 3)
    assert {path.parts[-3] for path in trained} == {"first-0", "udr-0", "udr-1", "centred-0"}
    capsys.readouterr()

    arms.main([*given, "--arms", "udr,full,centred"])
    for files in (trained, answered, built):
        assert {path: path.stat().st_mtime_ns for path in files} == files
    rows = {row["arm"]: row for row in json.loads((tmp_path / "arms.json").read_text("utf-8"))["arms"]}
    assert rows["udr"] == {row["arm"]: row for row in first["arms"]}["udr"]
    # The whole method is its index, with two seeds; its encoder alone is one more ablation.
    assert [rows[name]["seeds"] for name in ("full + head", "full", "centred")] == [2, 1, 1]
    assert set(rows["full + head"]["values"]) == {"labels", "all", "colours", "reviews"}
    assert set(rows["full"]["values"]) == set(rows["centred"]["values"]) == {"labels", "reviews"}
    assert (tmp_path / "indexes" / "full-1").exists()
    assert any(tmp_path.glob("indexes/full-1/versions/*/search.json"))
    for name in ("encoder", "hybrid", "udr"):
        assert rows[f"{name} + head"]["values"]["colours"] == rows[name]["values"]["colours"]
    assert rows["full + head"]["values"]["labels"] == rows["full + head"]["values"]["reviews"]
    # The second iteration mines its candidates with the same encoder.
    assert rows["centred"]["pairs"] == rows["udr"]["pairs"] == rows["full"]["pairs"]
    over = ["untrained", "untrained or head", "bm25", "encoder + head", "hybrid + head"]
    assert list(rows["udr"]["gains"]) == over and list(rows["udr + head"]["gains"]) == [*over, "udr"]
    gain = rows["full + head"]["values"]["labels"] - rows["udr"]["values"]["labels"]
    assert rows["full + head"]["gains"]["udr"]["labels"].startswith(f"{gain:+.1f} (")
    assert 0 < rows["full"]["ndcg"] <= 1 and "ndcg" not in rows["full + head"] and not rows["encoder"]["gains"]
    assert "extrapolation" in rows["full"]["minutes"] and "extrapolation" not in rows["udr"]["minutes"]
    assert "heads" in rows["udr + head"]["minutes"] and "heads" not in rows["udr"]["minutes"]
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    values, gains = table[: 2 + 10], table[2 + 10 :]
    assert len(gains) == 2 + 5 + 6 * 4 and all(
        len({line.count("|") for line in lines}) == 1 for lines in (values, gains)
    )

    # Another language model answers by the same runs, in files of its own.
    whole = (tmp_path / "arms.json").read_bytes()
    arms.main([*given, "--arms", "udr", "--answers", str(save_lm(tmp_path / "other-lm", tiny_lm("qwen2")))])
    for files in (trained, answered, built):
        assert {path: path.stat().st_mtime_ns for path in files} == files
    by_other = json.loads((tmp_path / "arms-other-lm.json").read_text("utf-8"))["arms"]
    assert [row["arm"] for row in by_other] == [*untrained, "udr", "udr + head"]
    lms = {json.loads(file.read_bytes())["lm"] for file in tmp_path.glob("evaluation*/config.json")}
    assert len(lms) == 2 and (tmp_path / "arms.json").read_bytes() == whole

    with pytest.raises(SystemExit, match="udr-2: is not there, and --answers trains nothing; run the same without it"):
        arms.main([*given, "--arms", "udr", "--seeds", "3", "--answers", str(tmp_path / "other-lm")])

    # The figures alone are enough in another folder.
    other = tmp_path / "other"
    given[given.index("--out") + 1] = str(other)
    arms.main([*given, "--arms", "udr,full,centred", "--kept", str(tmp_path / "kept.json")])
    assert sorted(path.name for path in other.iterdir()) == ["arms.json"]
    assert json.loads((other / "arms.json").read_text("utf-8"))["arms"] == list(rows.values())
    # A task beside the others is outside the means.
    beside = ["--names", "colours", "--beside", "reviews", "--kept", str(tmp_path / "kept.json")]
    arms.main([*given, "--arms", "udr,full", *beside])
    apart = {row["arm"]: row for row in json.loads((other / "arms.json").read_text("utf-8"))["arms"]}["full + head"]
    assert list(apart["values"]) == ["all", "colours", "reviews"]
    assert apart["values"]["all"] == apart["values"]["colours"] == rows["full + head"]["values"]["colours"]
    assert apart["gains"]["udr"]["reviews"] == rows["full + head"]["gains"]["udr"]["reviews"]
    # The evaluation may leave out tasks of the trainings.
    some = ["--tested", "reviews", "--kept", str(tmp_path / "kept.json")]
    arms.main([*given, "--arms", "udr,full,centred", *some])
    fewer = {row["arm"]: row for row in json.loads((other / "arms.json").read_text("utf-8"))["arms"]}
    assert set(fewer["udr"]["values"]) == {"labels", "all", "reviews"}
    assert all(fewer[name]["values"]["reviews"] == rows[name]["values"]["reviews"] for name in rows)
    # Figures of an arm that has changed since are not its own.
    kept = tmp_path / "kept.json"
    kept.write_text(kept.read_text("utf-8").replace("train.centre_scores=true", "train.centred=1"), "utf-8")
    with pytest.raises(
        SystemExit, match=r"centred-0 was trained with \['train.centred=1', .*, not \['train.centre_sco"
    ):
        arms.main([*given, "--arms", "udr,full,centred", "--kept", str(kept)])


def test_figures_of_other_settings_are_refused(arms: ModuleType, tmp_path: Path) -> None:
    file, given = tmp_path / "figures.json", [str(tmp_path), "--out", str(tmp_path / "out")]
    settings = json.loads((BENCHMARKS.parent / "docs" / "results" / "udr-figures.json").read_bytes())["settings"]
    assert settings.keys() == {*arms.SETTINGS, "shots", "pool", "seed"}
    arms.Kept(file, tmp_path, settings).fact("heads", dict)
    assert arms.Kept(file, tmp_path, settings).knows("heads")
    options = ["--rows", "300", "--iterations", "1", "--dtype", "bfloat16", "--set", "a=1"]
    options += ["--train-dtype", "float32"]
    with pytest.raises(
        SystemExit, match=r"figures.json: has figures of other settings: set \[\], not \['a=1'\]; give "
    ):
        arms.main([*given, *options, "--kept", str(file)])
    file.write_text('{"values":{},"facts":{}}', "utf-8")
    with pytest.raises(SystemExit, match="settings: rows not stated, not 300, iterations not stated, not 1, "):
        arms.main([*given, *options, "--kept", str(file)])


def test_results_of_other_settings_are_refused(arms: ModuleType, tmp_path: Path) -> None:
    measured = sys.modules["measuring"].measured
    assert measured(tmp_path / "a.json", lambda: {"value": 1}, dtype="x") == {"dtype": "x", "value": 1}
    assert measured(tmp_path / "a.json", lambda: {"value": 2}, dtype="x")["value"] == 1
    with pytest.raises(SystemExit, match="was measured with dtype x, not y, rows not stated, not 3; give that, or"):
        measured(tmp_path / "a.json", lambda: {"value": 2}, dtype="y", rows=3)


def test_figures_of_other_rows_or_of_another_training_are_refused(
    arms: ModuleType, tasks: Path, answered: Callable[..., Path], tmp_path: Path
) -> None:
    file, run = tmp_path / "figures.json", f"{tmp_path.resolve()}/full-0"
    ours = open_collection(tasks, ["reviews"])
    theirs = open_collection(changed_copy(tasks, tmp_path / "tasks", "grass", "meadow"), ["reviews"])
    evaluation = answered(run, ["good"] * 3, retriever={"model": "a", "wording": "w"})
    arms.Kept(file, tmp_path.resolve(), {"rows": 3}).take(ours, evaluation / "predictions", run)
    kept = arms.Kept(file, tmp_path.resolve(), {"rows": 3})
    kept.claim(ours)
    with pytest.raises(SystemExit, match="has figures of reviews with other rows than these; give another --kept"):
        kept.claim(theirs)
    kept.claim_retriever(run, {"model": "a"})
    with pytest.raises(SystemExit, match="has figures of a full-0 that was trained or built otherwise than that of"):
        kept.claim_retriever(run, {"model": "b"})
    # What is not known is not refused.
    known = json.loads(file.read_text("utf-8"))
    known |= {"tasks": {"reviews": None}, "values": {"full-0": {"reviews": {"of": None, "rows": [0, 0, 100]}}}}
    file.write_text(json.dumps(known), "utf-8")
    kept = arms.Kept(file, tmp_path.resolve(), {"rows": 3})
    kept.claim(theirs)
    kept.claim_retriever(run, {"model": "b"})


def test_a_run_of_another_folder_is_not_asked_again(
    arms: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = arms.Kept(None, tmp_path, {})
    arms.evaluate(argparse.Namespace(kept=kept, out=tmp_path), [f"{tmp_path}/udr-0"], ["trec", "snli"])
    assert capsys.readouterr().out == "udr-0 is not in this folder, and has no figures of trec, snli\n"


def test_comparisons_side_by_side_keep_the_figures_of_both(arms: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    first, second = (arms.Kept(file, tmp_path, {}) for _ in range(2))
    first.fact("udr-0", lambda: {"pairs": 1})
    second.fact("udr-1", lambda: {"pairs": 2})
    assert all(arms.Kept(file, tmp_path, {}).knows(name) for name in ("udr-0", "udr-1"))


def test_whole_answers_to_the_same_rows_and_by_the_same_settings_are_compared(
    arms: ModuleType, tasks: Path, answered: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, paired = sys.modules["answers"], importlib.import_module("paired")
    folder = open_collection(tasks, ["reviews"]).tasks["reviews"]
    gold = [row.target for row in sample(folder.rows("test"), 3, 0)]
    answered("bm25", ["none"] * 3)
    evaluation = answered(f"{tmp_path.resolve()}/full-0", gold)
    answered("killed", gold[:2])
    given = [str(tasks), "--evaluation", str(evaluation), "--tasks", "reviews"]
    paired.main([*given, "full-0", "bm25"])
    assert capsys.readouterr().out.startswith("reviews: 100.0 - 0.0 = +100.0 (")
    assert {each.retriever for each in answers.of_task(evaluation, folder)} == {"bm25", f"{tmp_path.resolve()}/full-0"}
    capsys.readouterr()
    (own,) = answers.of_task(evaluation, folder, ["full-0", "killed"])
    assert "has 2 of 3 answers, so it is left out" in (told := capsys.readouterr().err)
    assert told.endswith("has no whole answers to reviews with killed\n")
    assert [each.right for each in answers.labelled(folder, own)] == [True] * 3
    with pytest.raises(SystemExit, match="has no whole answers to reviews with killed; answer by udr evaluate first"):
        paired.main([*given, "full-0", "killed"])
    answered("bm25", ["none"] * 3, lm_dtype="bfloat16")
    with pytest.raises(SystemExit, match=r"differ in more than the retriever: lm_dtype; answer both by one udr"):
        paired.main([*given, "full-0", "bm25"])
    answered("bm25", ["none"] * 3, test_rows="others")
    with pytest.raises(SystemExit, match=r"not to this task's test rows; are they of another collection\?"):
        answers.estimate_of(folder, *answers.of_task(evaluation, folder, ["bm25"]))


def test_labels_that_prompts_show_are_counted(
    load_benchmark: Callable[[str], ModuleType],
    tasks: Path,
    answered: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    collection = open_collection(tasks, ["reviews"])
    gold = [row.target for row in sample(collection.tasks["reviews"].rows("test"), 3, 0)]
    answered("random", gold)
    evaluation = answered("bm25", ["bad"] * 3)
    load_benchmark("labels")._shown(collection, evaluation)
    bad = gold.count("bad") / 3
    # The four shown are good and bad in turn, the last one bad; at random, none is the nearest.
    lines = capsys.readouterr().out.splitlines()[2:]
    assert lines == [f"| reviews | bm25 | 0.50 | {bad:.2f} | 1.00 |", "| reviews | random | 0.50 | 1.00 |  |"]
    following = load_benchmark("following")
    pooled = following._answers(collection.tasks["reviews"], evaluation, [])
    assert [each.text for each in pooled] == ["bad"] * 3
    following._by_place({"reviews": pooled})
    assert capsys.readouterr().out.splitlines()[-1].endswith("| 0.00 | 1.00 | 0.00 | 1.00 |")


def test_arms_and_tasks_that_there_are_not_are_refused(arms: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no arm 'best'; the arms are udr, full, "):
        arms.main([str(tmp_path), "--out", str(tmp_path), "--arms", "best"])
    with pytest.raises(SystemExit, match=r"the arm 'first' differs in its second iteration; --iterations 1 has none"):
        arms.main([str(tmp_path), "--out", str(tmp_path), "--arms", "udr,first", "--iterations", "1"])
    with pytest.raises(SystemExit, match="trec is trained on; give --unseen other tasks"):
        arms.main([str(tmp_path), "--out", str(tmp_path), "--unseen", "mr,trec"])
    with pytest.raises(SystemExit, match="mr is not trained on; name it with --unseen too"):
        arms.main([str(tmp_path), "--out", str(tmp_path), "--tested", "trec,mr"])


def test_intervals_cover_rows_and_seeds_and_are_paired(arms: ModuleType) -> None:
    rows = np.random.default_rng(1).normal(size=2000)
    by_seed = [Estimate.of_samples(value, value + rows) for value in (10.0, 20.0, 30.0)]
    over_seeds = sys.modules["quality_gains"].over_seeds
    total = over_seeds(by_seed)
    assert total.value == 20.0
    # The variance of rows, and a third of that of seeds, which is 100 by these three.
    assert total.samples.var() == pytest.approx(1 + 100 / 3, rel=0.15)
    better = over_seeds([Estimate.of_samples(value + 1, value + 1 + rows) for value in (10.0, 20.0, 30.0)])
    assert (better - total).interval == pytest.approx((1.0, 1.0))
    alone = over_seeds(by_seed[:1])
    assert alone.value == 10.0 and np.array_equal(alone.samples, 10.0 + rows)
    # What seeds answer differently without another value is of the rows, and counts once.
    other = over_seeds([Estimate.of_samples(10.0, 10 + rows), Estimate.of_samples(10.0, 10 - rows)])
    assert np.allclose(other.samples, 10)


def test_equal_answers_of_one_seed_are_no_proof_that_there_is_no_difference(arms: ModuleType) -> None:
    gains = sys.modules["quality_gains"]
    values = {task: gains.over_rows(Estimate.of_rows(np.array([0.0, 100.0] * 30)), task) for task in ("a", "b")}
    for tasks in (["a"], ["a", "b"]):
        gain = gains.mean_over([values], tasks, 1) - gains.mean_over([values], tasks, 1)
        assert gain.value == 0 and gain.interval[0] < -1 and gain.interval[1] > 1
    assert gains.mean_over([values], ["a"], 1).interval == values["a"].interval


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_variance_over_seeds_is_that_of_their_mean(arms: ModuleType, seeds: int) -> None:
    """The sum over seeds of what one adds that differs by 1: the expected variance if they scatter with variance 1."""
    over_seeds, same = sys.modules["quality_gains"].over_seeds, np.ones(4000)
    parts = [over_seeds([Estimate.of_samples(it, it * same) for it in unit]) for unit in np.eye(seeds)]
    assert sum(part.samples.var() for part in parts) == pytest.approx(1 / seeds, rel=0.05)


def test_an_index_of_other_pools_or_built_otherwise_is_refused(
    arms: ModuleType, tasks: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    heads = sys.modules["quality_heads"]
    given = argparse.Namespace(tasks=tasks, names="colours,reviews", out=tmp_path, label_head=True)
    headed = heads.with_head(given, "encoder", str(encoder_folder))
    assert headed.tasks == ("reviews",)
    given.label_head = False
    with pytest.raises(SystemExit, match="was built with label_head True, not False; remove that index"):
        heads.with_head(given, "encoder", str(encoder_folder))
    given.label_head, other = True, save_encoder(tmp_path / "other", seed=1)
    with pytest.raises(SystemExit, match=r"was built with model \w+, not \w+; remove that index"):
        heads.with_head(given, "encoder", str(other))
    given.tasks = changed_copy(tasks, tmp_path / "tasks", "grass", "meadow")
    with pytest.raises(SystemExit, match="not the pools of the evaluation: reviews; remove that index"):
        heads.with_head(given, "encoder", str(encoder_folder))


def test_rows_that_a_comparison_has_not_looked_at_are_the_others(
    load_benchmark: Callable[[str], ModuleType], tasks: Path, tmp_path: Path
) -> None:
    load_benchmark("unseen_rows").main([str(tasks), "--out", str(tmp_path / "u"), "--names", "reviews", "--rows", "3"])
    before, after = (open_collection(root, ["reviews"]).tasks["reviews"] for root in (tasks, tmp_path / "u"))
    seen = {row.id for row in sample(before.rows("test"), 3, 0)}
    assert after.rows("test") == [row for row in before.rows("test") if row.id not in seen]
    assert pool_digest(after.pool()) == pool_digest(before.pool())
