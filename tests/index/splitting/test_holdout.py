"""Held-out rows: quotas by hand, copies and near-duplicates on one side, and the same rows each time."""

import random
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.fakes import NOTES, HashEncoder
from udr.data import parse_task
from udr.errors import ConfigError
from udr.types import Row
from udr_index.quality import NEAR, Split, encode, near_leaks
from udr_index.splitting import MOST_TEST_ROWS, hold_out, near_pairs, quotas, split_rows

TASK = parse_task(NOTES)
GENERATION = parse_task({**{key: value for key, value in NOTES.items() if key != "labels"}, "kind": "generation"})
WORDS = [f"word{n}" for n in range(400)]


def make_rows(number: int, share_glad: float = 0.75, seed: int = 0) -> list[Row]:
    """Rows of six random words, so no two are near."""
    draw = random.Random(seed)
    texts = [" ".join(draw.sample(WORDS, 6)) for _ in range(number)]
    targets = ["glad" if n < share_glad * number else "sad" for n in range(number)]
    return [
        Row(id=f"{n:04}", input={"text": text}, target=target)
        for n, (text, target) in enumerate(zip(texts, targets, strict=True))
    ]


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        ({"a": 80, "b": 20}, 20, {"a": 16, "b": 4}),
        # Of 3.5, 2.8 and 0.7, the remainders .8 and .7 are the largest.
        ({"a": 5, "b": 4, "c": 1}, 7, {"a": 3, "b": 3, "c": 0}),
        ({"a": 1, "b": 1}, 1, {"a": 0, "b": 0}),
        ({"a": 3}, 0, {"a": 0}),
    ],
)
def test_quotas_are_by_largest_remainder_and_leave_one(counts: dict[str, int], size: int, expected: object) -> None:
    assert quotas(counts, size) == expected


def test_each_label_has_its_share_and_the_order_stays() -> None:
    rows = make_rows(200)
    holdout = split_rows(TASK, rows)

    assert Counter(row.target for row in holdout.test) == {"glad": 30, "sad": 10}
    assert sorted([*holdout.train, *holdout.test], key=lambda row: row.id) == rows
    for side in (holdout.train, holdout.test):
        assert list(side) == sorted(side, key=lambda row: row.id)
    assert holdout == split_rows(TASK, rows) != split_rows(TASK, rows, seed=1)
    assert holdout.together == 0


def test_the_selection_depends_on_ids_and_not_on_the_order() -> None:
    rows = make_rows(100)
    assert {row.id for row in split_rows(TASK, rows).test} == {row.id for row in split_rows(TASK, rows[::-1]).test}


def test_default_size_is_a_fifth_and_at_most_500() -> None:
    assert len(split_rows(GENERATION, make_rows(3000)).test) == MOST_TEST_ROWS == 500
    assert [len(split_rows(GENERATION, make_rows(number)).test) for number in (1, 4, 5, 14)] == [0, 0, 1, 2]


def test_rows_of_one_mould_are_compared_in_linear_time() -> None:
    mould = "the disk of host {} is almost full, please check it and free some space or ask for a larger volume"
    rows = [Row(id=f"{n:04}", input={"text": mould.format(f"web{n}")}, target="glad") for n in range(2000)]
    start = time.thread_time()
    holdout = split_rows(TASK, rows)
    # All pairs took a minute.
    assert time.thread_time() - start < 5
    assert (holdout.test, holdout.together) == ((), 2000)
    # No comparison is needed.
    assert split_rows(TASK, rows, 0).together == 0


@pytest.mark.parametrize("size", [-1, 10, 11])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=rf"--test-rows must be from 0 to 9, .* found {size}"):
        split_rows(TASK, make_rows(10), size)


def sides(rows: Sequence[Row], test: Sequence[Row]) -> list[bool]:
    held = {row.id for row in test}
    return [row.id in held for row in rows]


@pytest.mark.parametrize("seed", range(5))
def test_copies_and_near_duplicates_are_on_one_side(seed: int) -> None:
    texts = [row.input["text"] for row in make_rows(60)]
    # Each text, a copy with another case and target, and one with a word more.
    variants = [text for one in texts for text in (str(one), f"{one}!".upper(), f"{one} more")]
    rows = [
        Row(id=f"{n:03}", input={"text": text}, target="sad" if n % 3 == 1 else "glad")
        for n, text in enumerate(variants)
    ]

    holdout = split_rows(TASK, rows, seed=seed)

    held = sides(rows, holdout.test)
    assert all(len({*held[start : start + 3]}) == 1 for start in range(0, 180, 3))
    assert (len(holdout.test), holdout.together) == (36, 180)


def test_a_group_that_fits_no_quota_stays_in_train() -> None:
    assert hold_out([[0, 1, 2], [3], [4]], ["a"] * 5, ["k", "l", "m"], 2, 0) == {3, 4}
    assert hold_out([[0, 1], [2]], ["a", "b", "a"], ["k", "l"], 1, 0) == {2}


def mould(label: str, number: int, target: str, slot: str = "x") -> list[Row]:
    """Rows that differ in one word of twenty."""
    words = " ".join(f"{label}{n}" for n in range(20))
    return [Row(id=f"{label}{n}", input={"text": f"{words} {slot}{n}"}, target=target) for n in range(number)]


def test_the_smallest_group_above_a_quota_is_held_out_if_it_brings_the_numbers_nearer() -> None:
    rows = [row for n in range(8) for row in mould(f"m{n}m", 9 + n, "glad" if n % 2 else "sad")]
    holdout = split_rows(TASK, rows)
    assert Counter(row.id.split("m")[1] for row in holdout.test) == {"0": 9, "1": 10}
    assert {row.id for row in holdout.test}.isdisjoint(row.id for row in holdout.train)
    # Another label's quota may be exceeded, but a row of each label stays.
    assert hold_out([[0, 1, 2], [3, 4, 5, 6]], list("aaabbbb"), ["k", "l"], 3, 0) == set()
    assert hold_out([[0, 1, 2, 3], [4], [5, 6, 7]], list("aaabbbbb"), ["k", "l", "m"], 4, 0) == {4}


def test_test_rows_that_near_duplicates_forbid_are_told() -> None:
    moulds = [*mould("a", 20, "glad"), *mould("b", 20, "sad")]
    holdout = split_rows(TASK, moulds)
    assert (holdout.test, holdout.notice) == (
        (),
        "8 test rows were to be held out, each label in the same proportion; none are, since near-duplicates lie in "
        "one file: 40 rows make 2 groups of them, the largest of 20; add rows that are worded differently",
    )
    wide = split_rows(TASK, [*mould("a", 20, "glad"), *mould("c", 20, "glad"), *mould("b", 40, "sad")], 10)
    assert wide.notice.endswith("differently, or give another --test-rows")
    half = split_rows(TASK, [*make_rows(20, 1), *mould("b", 20, "sad")])
    assert len(half.test) == 4 and "8 test rows were to be held out" in half.notice and "; 4 are, since" in half.notice
    alone = [Row(id=f"{n}", input={"text": f"w{n}"}, target="glad" if n else "sad") for n in range(3)]
    assert split_rows(TASK, alone, 2).notice.endswith("1 are, since a row of each label stays; add rows of its labels")
    assert split_rows(TASK, make_rows(200)).notice == ""


def test_rows_that_an_encoder_finds_near_are_on_one_side_too() -> None:
    rows = make_rows(80)
    # The same words in another order: near to this encoder alone.
    rows += [
        Row(id=f"x{row.id}", input={"text": " ".join(str(row.input["text"]).split()[::-1])}, target=row.target)
        for row in rows
    ]
    encoder = HashEncoder(dimension=512)

    def leaks(train: Sequence[Row], test: Sequence[Row]) -> int:
        encoded = [encode(Split(TASK, name, side), encoder) for name, side in (("train", train), ("test", test))]
        return sum(finding.count for finding in near_leaks(encoded[1], encoded[0], NEAR))

    without = split_rows(TASK, rows)
    assert leaks(without.train, without.test) > 10

    holdout = split_rows(TASK, rows, near=near_pairs(TASK, rows, encoder))

    assert leaks(holdout.train, holdout.test) == 0
    held = sides(rows, holdout.test)
    assert held[:80] == held[80:] and Counter(row.target for row in holdout.test) == {"glad": 24, "sad": 8}


def test_the_comparison_is_told_as_a_step_that_may_last(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    split_rows(TASK, make_rows(10))
    assert caplog.messages == [f"{TASK.name}: comparing 10 rows with one another ..."]
