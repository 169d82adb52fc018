"""Copies by brute force: every pair of rows is looked at, and the findings are what that tells."""

from collections.abc import Sequence
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import NOTES
from udr.data import Task, copy_text, parse_task
from udr.types import Row
from udr_index.quality import Kind, Split, copies_within, leaks

TASK = parse_task(NOTES)

# Few letters, so that copies are common; blanks and marks, which do not tell inputs apart.
rows = st.lists(st.tuples(st.text("ab !", min_size=1, max_size=3), st.sampled_from(TASK.labels)), min_size=1)


def split(drawn: Sequence[tuple[str, str]], name: str = "train", task: Task = TASK) -> Split:
    made = [
        Row(id=f"{name}-{number}", input={"text": text}, target=target) for number, (text, target) in enumerate(drawn)
    ]
    return Split(task, name, made)


def has_text(row: Row) -> bool:
    return bool(str(row.input["text"]).strip())


@given(rows)
def test_each_pair_of_copies_is_in_one_group_and_no_other_rows_are(drawn: list[tuple[str, str]]) -> None:
    train = split(drawn)
    with_text = [row for row in train.rows if has_text(row)]
    expected = {
        (one.id, other.id)
        for one, other in combinations(with_text, 2)
        if copy_text(TASK, one) == copy_text(TASK, other)
    }

    found = list(copies_within(train))

    told = [pair for finding in found for group in finding.groups for pair in combinations(group, 2)]
    assert len(told) == len(set(told)) and set(told) == expected


@given(rows)
def test_copies_with_two_targets_are_a_conflict_and_with_one_duplicates(drawn: list[tuple[str, str]]) -> None:
    train = split(drawn)
    targets = {row.id: row.target for row in train.rows}

    for finding in copies_within(train):
        several = [len({targets[id] for id in group}) > 1 for group in finding.groups]
        assert several == [finding.kind is Kind.CONFLICTING_TARGETS] * len(several)
        kept = len(finding.groups) if finding.kind is Kind.DUPLICATE else 0
        assert finding.count == sum(map(len, finding.groups)) - kept


@given(rows)
def test_what_is_left_without_the_duplicates_has_none(drawn: list[tuple[str, str]]) -> None:
    train = split(drawn)
    extra = {
        id for one in copies_within(train) if one.kind is Kind.DUPLICATE for group in one.groups for id in group[1:]
    }

    left = Split(TASK, "train", [row for row in train.rows if row.id not in extra])

    assert Kind.DUPLICATE not in {finding.kind for finding in copies_within(left)}


@given(rows, rows)
def test_a_leak_is_a_row_with_a_copy_in_the_earlier_split(
    drawn: list[tuple[str, str]], later: list[tuple[str, str]]
) -> None:
    train, test = split(drawn), split(later, "test")
    first: dict[str, str] = {}
    for row in train.rows:
        if has_text(row):
            first.setdefault(copy_text(TASK, row), row.id)
    expected = {
        (row.id, first[copy_text(TASK, row)]) for row in test.rows if has_text(row) and copy_text(TASK, row) in first
    }

    found = list(leaks(test, train))

    assert {pair for finding in found for pair in finding.groups} == expected
    assert [(finding.count, finding.against) for finding in found] == ([(len(expected), "train")] if expected else [])


def test_inputs_without_text_are_no_copies_of_one_another() -> None:
    # Their worded inputs are equal, but that they are empty is all there is to say of them.
    train = split([(" ", "glad"), ("", "sad"), ("a", "glad")])
    assert list(copies_within(train)) == [] and list(leaks(split([(" ", "sad")], "test"), train)) == []


def test_answers_that_differ_in_a_sign_are_two() -> None:
    task = parse_task({**{key: NOTES[key] for key in NOTES if key != "labels"}, "kind": "generation"})
    train = split([("sum", "a + b"), ("sum", "a - b"), ("same", "a  + b"), ("same", "a + b\n")], task=task)

    assert [(finding.kind, finding.groups) for finding in copies_within(train)] == [
        (Kind.SEVERAL_ANSWERS, (("train-0", "train-1"),)),
        (Kind.DUPLICATE, (("train-2", "train-3"),)),
    ]
