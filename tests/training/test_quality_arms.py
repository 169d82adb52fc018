"""The comparison of arms, ``benchmarks/quality_arms.py``, with tiny models; and its intervals over rows and seeds."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from udr_training.evaluation import Estimate

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("quality_arms")
    for name in ("quality_arms", "quality", "paired", "measuring"):
        monkeypatch.delitem(sys.modules, name)
    return module


def test_arms_share_the_feedback_and_resume_one_by_one(
    arms: ModuleType,
    tasks: Path,
    lm_folder: Path,
    encoder_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = ["--queries", "10", "--candidates", "6", "--rows", "2", "--seeds", "2", "--names", "colours,reviews"]
    models = ["--lm", str(lm_folder), "--model", str(encoder_folder), "--ablated", "reviews"]
    settings = ["train.epochs=1", "train.batch_size=4", "train.list_length=4", "reward.epochs=1"]
    given = [str(tasks), "--out", str(tmp_path), *sizes, *models, *(x for s in settings for x in ("--set", s))]
    arms.main([*given, "--arms", "udr,centred"])
    first = json.loads((tmp_path / "arms.json").read_text("utf-8"))
    assert [row["arm"] for row in first["arms"]] == ["random", "bm25", "encoder", "udr", "centred"]
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/model/model.safetensors")}
    assert {path.parts[-3] for path in trained} == {"udr-0", "udr-1", "centred-0"}
    capsys.readouterr()

    arms.main([*given, "--arms", "udr,full,centred"])
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    rows = {row["arm"]: row for row in json.loads((tmp_path / "arms.json").read_text("utf-8"))["arms"]}
    assert rows["udr"] == {row["arm"]: row for row in first["arms"]}["udr"]
    assert (rows["full"]["seeds"], rows["centred"]["seeds"]) == (2, 1)
    assert set(rows["full"]["tasks"]) == {"colours", "reviews"} and set(rows["centred"]["tasks"]) == {"reviews"}
    # Centred scores are those of the same pairs; new queries are within their number.
    assert rows["centred"]["pairs"] == rows["udr"]["pairs"] and rows["full"]["pairs"] <= 2 * (60 + 30)
    assert rows["udr"]["over_udr"] == "" and "(" in rows["full"]["over_udr"] and 0 < rows["full"]["ndcg"] <= 1
    assert "reward" in rows["full"]["minutes"] and "reward" not in rows["udr"]["minutes"]
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 6 and len({line.count("|") for line in table}) == 1


def test_an_unknown_arm_is_refused(arms: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no arm 'best'; the arms are udr, full, "):
        arms.main([str(tmp_path), "--out", str(tmp_path), "--arms", "best"])


def test_intervals_cover_rows_and_seeds_and_are_paired(arms: ModuleType) -> None:
    rows = np.random.default_rng(1).normal(size=2000)
    by_seed = [Estimate.of_samples(value, value + rows) for value in (10.0, 20.0, 30.0)]
    total = arms.over_seeds(by_seed)
    assert total.value == 20.0
    # The variance of rows, and a third of that of three seeds.
    assert total.samples.var() == pytest.approx(1 + 200 / 3 / 3, rel=0.15)
    better = arms.over_seeds([Estimate.of_samples(value + 1, value + 1 + rows) for value in (10.0, 20.0, 30.0)])
    assert (better - total).interval == pytest.approx((1.0, 1.0))
    alone = arms.over_seeds(by_seed[:1])
    assert alone.value == 10.0 and np.array_equal(alone.samples, 10.0 + rows)
