"""Scores of a pool's rows: what each finds, and what it leaves alone."""

import random

import numpy as np
import pytest

from tests.fakes import NOTES, HashEncoder
from udr.data import Task, parse_task
from udr.errors import ConfigError, DataError
from udr.types import Row
from udr_training.pool import check_ways, copy_score, label_score, length_score

TASK = parse_task(NOTES)
SUMMARIES = parse_task(
    {**{key: value for key, value in NOTES.items() if key != "labels"}, "kind": "generation", "metric": "rouge_l"}
)


def rows_of(*texts: str, target: str = "glad") -> list[Row]:
    return [Row(id=f"r{number}", input={"text": text}, target=target) for number, text in enumerate(texts)]


def moods(count: int, wrong: int) -> tuple[list[str], list[str], set[int]]:
    """Texts whose words tell their label, but for some of which it is given wrong."""
    draw = random.Random(0)
    labels = ["glad", "sad"] * (count // 2)
    texts = [" ".join(draw.choices([f"{label}{n}" for n in range(8)], k=6)) for label in labels]
    spoiled = set(draw.sample(range(count), wrong))
    given = [("sad" if label == "glad" else "glad") if n in spoiled else label for n, label in enumerate(labels)]
    return texts, given, spoiled


def test_wrong_labels_are_flagged_and_score_lowest() -> None:
    texts, given, spoiled = moods(200, 40)
    score = label_score(HashEncoder().encode_queries(texts), given)
    assert set(score.flagged) <= spoiled and len(score.flagged) >= 36
    assert max(score.values[n] for n in spoiled) < 0
    assert {score.notes[n] for n in spoiled if given[n] == "sad"} == {"glad is likelier"}
    assert score.settings["folds"] == 5


def test_right_labels_are_not_flagged() -> None:
    texts, given, _ = moods(200, 0)
    assert label_score(HashEncoder().encode_queries(texts), given).flagged == ()


def test_labels_that_no_text_tells_flag_no_row() -> None:
    """Half of random labels disagree with any classifier; that says nothing about them."""
    draw = np.random.default_rng(0)
    given = draw.choice(["glad", "sad"], 400).tolist()
    score = label_score(draw.standard_normal((400, 8)).astype(np.float32), given)
    assert sum(value < 0 for value in score.values) > 150
    assert score.flagged == ()


@pytest.mark.parametrize("labels", [["glad"] * 20, ["glad"] * 19 + ["sad"], ["glad", "sad"] * 4])
def test_too_few_rows_to_tell_labels_are_refused(labels: list[str]) -> None:
    with pytest.raises(DataError, match="it takes 10 rows, and two labels with two rows at least; found"):
        label_score(np.ones((len(labels), 3), np.float32), labels)


def test_of_copies_the_first_with_the_most_frequent_target_stands_for_all() -> None:
    rows = [
        Row(id="a", input={"text": "A bright day!"}, target="sad"),
        Row(id="b", input={"text": "a bright day"}, target="glad"),
        Row(id="c", input={"text": "A  bright day."}, target="glad"),
        Row(id="d", input={"text": "a bright night"}, target="glad"),
    ]
    score = copy_score(TASK, rows)
    assert score.values == (0, 1, 0, 1) and score.flagged == (0, 2)
    assert score.notes == {0: "a copy of b, which has another target", 2: "a copy of b"}


def test_near_copies_count_unless_their_targets_differ() -> None:
    words = [f"w{number}" for number in range(20)]
    text, near = " ".join(words), " ".join([*words[:-1], "other"])
    far = " ".join(words[:10])
    rows = [
        Row(id="a", input={"text": text}, target="glad"),
        Row(id="b", input={"text": near}, target="glad"),
        Row(id="c", input={"text": far}, target="glad"),
    ]
    score = copy_score(TASK, rows)
    assert score.values == (1, 0.5, 1) and score.flagged == () and score.notes == {1: "near to a"}
    opposite = [rows[0], Row(id="b", input={"text": near}, target="sad")]
    assert copy_score(TASK, opposite).values == (1, 1)
    assert copy_score(SUMMARIES, opposite).values == (1, 0.5)


def test_a_near_copy_stands_for_no_other_row() -> None:
    words = [f"w{number}" for number in range(23)]
    # Each is near to the one before, but the third not to the first.
    score = copy_score(TASK, rows_of(*(" ".join(words[:length]) for length in (23, 19, 15))))
    assert score.values == (1, 0.5, 1)


def test_texts_without_the_pools_usual_ending_are_flagged() -> None:
    texts = [f"Where is number {n} ?" for n in range(18)] + ["He said “yes.”", "Where is num"]
    score = length_score(TASK, rows_of(*texts))
    assert score.flagged == (19,) and score.values[19] == pytest.approx(1 / 20)
    assert score.values[0] == score.values[18] == pytest.approx(19 / 20)
    assert score.notes[19] == "text ends without a mark, unlike most"


def test_no_ending_is_unusual_where_half_of_the_texts_have_it() -> None:
    texts = ["play some jazz", "Play some jazz!"] * 10
    assert set(length_score(TASK, rows_of(*texts)).values) == {0.5}


def test_far_too_long_repetitive_and_empty_texts_are_flagged() -> None:
    draw = random.Random(1)
    texts = [" ".join(f"word{draw.randrange(999)}" for _ in range(draw.randrange(20, 30))) for _ in range(40)]
    long = " ".join(f"word{number}" for number in range(900))
    score = length_score(TASK, rows_of(*texts, long, "so it goes " * 18, " "))
    assert score.flagged == (40, 41, 42) and min(score.values[:40]) == 1
    assert (
        score.notes[40] == f"text has {len(long)} characters, {_median([*texts, long, 'so it goes ' * 18])} are usual"
    )
    assert score.notes[41] == "text repeats itself" and score.values[41] == pytest.approx(3 / 53, abs=1e-6)
    assert score.notes[42] == "no text"


def _median(texts: list[str]) -> str:
    return f"{np.exp(np.median(np.log([len(text) for text in texts]))):.0f}"


def test_a_generated_target_is_judged_like_a_field() -> None:
    rows = [Row(id=f"r{n}", input={"text": "x"}, target="All is well." if n else "All is") for n in range(20)]
    assert length_score(SUMMARIES, rows).notes == {0: "target ends without a mark, unlike most"}
    assert length_score(TASK, rows).flagged == ()


@pytest.mark.parametrize(
    ("task", "by", "expected"),
    [
        (TASK, None, ("labels", "copies", "length")),
        (SUMMARIES, None, ("copies", "length")),
        (TASK, ["length"] * 2, ("length",)),
    ],
)
def test_all_ways_that_fit_are_the_default(task: Task, by: list[str] | None, expected: tuple[str, ...]) -> None:
    assert check_ways(task, by) == expected


def test_ways_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="--by labels needs a classification task; 'notes' is generation"):
        check_ways(SUMMARIES, ["labels"])
    with pytest.raises(ConfigError, match=r"--by must name some of labels, .*, criteria; found 'vibes'"):
        check_ways(TASK, ["vibes"])
