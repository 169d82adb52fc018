"""Copies and near-duplicates, compared with brute force, and the memory that many equal vectors take."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import NOTES, HashEncoder
from tests.index.quality.conftest import TASK, make_split
from tests.udr.search.test_exact import unit
from udr.data import copy_text, parse_task
from udr.errors import ModelError
from udr.search import ExactSearch
from udr.types import Row
from udr_index.quality import (
    Alike,
    Kind,
    Split,
    alike,
    alike_to,
    copies_within,
    encode,
    leaks,
    near_duplicates,
    near_leaks,
)

Drawn = list[tuple[str, str]]

# Few letters make copies common; spaces and marks do not distinguish inputs.
ROWS = st.lists(st.tuples(st.text("ab !", min_size=1, max_size=3), st.sampled_from(TASK.labels)), min_size=1)


def with_text(split: Split) -> list[Row]:
    return [row for row in split.rows if str(row.input["text"]).strip()]


@given(ROWS)
def test_copies_are_grouped_by_targets(drawn: Drawn) -> None:
    train = make_split(*drawn)
    targets = {row.id: row.target for row in train.rows}
    expected = {
        (first.id, second.id)
        for first, second in combinations(with_text(train), 2)
        if copy_text(TASK, first) == copy_text(TASK, second)
    }

    findings = list(copies_within(train))

    pairs = [pair for finding in findings for group in finding.groups for pair in combinations(group, 2)]
    assert len(pairs) == len(set(pairs)) and set(pairs) == expected
    for finding in findings:
        conflicts = [len({targets[id] for id in group}) > 1 for group in finding.groups]
        assert conflicts == [finding.kind is Kind.CONFLICTING_TARGETS] * len(conflicts)
        kept = len(finding.groups) if finding.kind is Kind.DUPLICATE else 0
        assert finding.count == sum(map(len, finding.groups)) - kept


@given(ROWS, ROWS)
def test_leaks_are_rows_with_a_copy_in_the_earlier_split(drawn: Drawn, later: Drawn) -> None:
    train, test = make_split(*drawn), make_split(*later, name="test")
    first: dict[str, str] = {}
    for row in with_text(train):
        first.setdefault(copy_text(TASK, row), row.id)
    expected = {(row.id, first[text]) for row in with_text(test) if (text := copy_text(TASK, row)) in first}

    findings = list(leaks(test, train))

    assert {pair for finding in findings for pair in finding.groups} == expected
    counts = [(finding.count, finding.against) for finding in findings]
    assert counts == ([(len(expected), "train")] if expected else [])


def test_inputs_without_text_are_no_copies() -> None:
    train = make_split((" ", "glad"), ("", "sad"), ("a", "glad"))
    assert list(copies_within(train)) == [] and list(leaks(make_split(" ", name="test"), train)) == []


def test_answers_that_differ_in_a_sign_are_two() -> None:
    task = parse_task({**{key: NOTES[key] for key in NOTES if key != "labels"}, "kind": "generation"})
    train = make_split(("sum", "a + b"), ("sum", "a - b"), ("same", "a  + b"), ("same", "a + b\n"), task=task)

    assert [(finding.kind, finding.groups) for finding in copies_within(train)] == [
        (Kind.SEVERAL_ANSWERS, (("train-0", "train-1"),)),
        (Kind.DUPLICATE, (("train-2", "train-3"),)),
    ]


def test_inputs_are_encoded_once_without_instruction_and_target(encoder: HashEncoder) -> None:
    encoded = encode(make_split("a long note", "short", " ", "SHORT!"), encoder)

    assert encoder.demonstrations == ["Note: short", "Note: a long note"]
    assert encoded.positions == [0, 1]
    expected = HashEncoder().encode_demonstrations(["Note: a long note", "Note: short"])
    assert np.allclose(encoded.vectors, expected, atol=1e-6)


def test_vectors_are_compared_by_direction() -> None:
    by_dot = encode(make_split("sun", "sun sun note note", "rain"), HashEncoder(metric="dot"))

    assert np.allclose(np.linalg.norm(by_dot.vectors, axis=1), 1)
    (finding,) = near_duplicates(by_dot, 0.94)
    # "note sun" and "note note note sun sun": 5 / (sqrt(2) * sqrt(13)).
    assert finding.groups == (("train-0", "train-1"),) and "similarity 0.981" in finding.message


def test_nearest_pairs_come_first(encoder: HashEncoder) -> None:
    train = encode(make_split("a b c d e", "a b c d x", "one two", "two one"), encoder)
    test = encode(make_split("a b c d y", "e d c b a", name="test"), encoder)

    (near,) = near_duplicates(train, 0.6)
    (leak,) = near_leaks(test, train, 0.6)

    assert near.groups == (("train-2", "train-3"), ("train-0", "train-1"))
    assert (leak.groups[0], leak.groups[1][0]) == (("test-1", "train-0"), "test-0")
    assert "to 1.000)" in near.message and "to 1.000)" in leak.message


def test_split_without_text_has_no_vectors(encoder: HashEncoder) -> None:
    empty = encode(make_split("", " "), encoder)

    assert empty.vectors.shape == (0, encoder.dimension)
    assert list(near_duplicates(empty, 0.5)) == [] == list(near_leaks(encode(make_split("a"), encoder), empty, 0.5))


def test_unusable_vectors_are_refused(encoder: HashEncoder) -> None:
    encoder.encode_demonstrations = lambda texts: np.full((1, 48), np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(
        ModelError,
        match=r"'fake-hash' returned vectors of shape \[1, 48\] for 1 texts of task",
    ):
        encode(make_split("a"), encoder)


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("block_size", [3, 16])
def test_alike_equals_brute_force(threshold: float, block_size: int) -> None:
    copies = unit(9, 6, seed=0)[np.random.default_rng(0).integers(0, 9, 90)] + 0.2 * unit(90, 6, seed=1)
    vectors = (copies / np.linalg.norm(copies, axis=1, keepdims=True)).astype(np.float32)
    cosines = np.round(vectors.astype(np.float64) @ vectors.astype(np.float64).T, 5)
    expected, kept = list[Alike](), list[int]()
    for position in range(90):
        best = max(kept, key=lambda other: (cosines[position, other], -other), default=None)
        if best is not None and cosines[position, best] >= threshold:
            expected.append(Alike(position, best, float(cosines[position, best])))
        else:
            kept.append(position)

    assert alike(vectors, threshold, block_size) == expected


def test_alike_to_equals_exact_search() -> None:
    queries, vectors = unit(50, 8, seed=3), unit(70, 8, seed=4)
    positions, similarities = ExactSearch(vectors).search(queries, 1)
    expected = [
        Alike(query, int(position), float(similarity))
        for query, (position, similarity) in enumerate(zip(positions[:, 0], similarities[:, 0], strict=True))
        if similarity >= 0.7
    ]

    assert 0 < len(expected) < 50
    assert alike_to(queries, vectors, 0.7) == alike_to(queries, vectors, 0.7, 2) == expected


def test_many_equal_vectors_take_little_memory() -> None:
    # A searcher would compare all of them with each: 4000 x 4000 x 32 numbers.
    vectors = np.repeat(unit(1, 32, seed=6), 4000, axis=0)

    tracemalloc.start()
    try:
        assert alike(vectors, 0.98) == [Alike(position, 0, 1.0) for position in range(1, 4000)]
        assert alike_to(vectors, vectors, 1.0) == [Alike(position, 0, 1.0) for position in range(4000)]
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
