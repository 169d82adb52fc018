"""Near-duplicates: what is encoded, in what order they are told, and that many equal vectors cost no more."""

import tracemalloc

import numpy as np
import pytest

from tests.fakes import NOTES, HashEncoder
from tests.udr.search.test_exact import unit
from udr.data import parse_task
from udr.errors import ModelError
from udr.search import ExactSearch, Vectors
from udr.types import Row
from udr_index.quality import Alike, Split, alike, alike_to, encode, near_duplicates, near_leaks

TASK = parse_task(NOTES)


def split(*texts: str, name: str = "train") -> Split:
    rows = [Row(id=f"{name}-{n}", input={"text": text}, target="glad") for n, text in enumerate(texts)]
    return Split(TASK, name, rows)


def test_worded_inputs_are_encoded_once_without_instruction_and_target(encoder: HashEncoder) -> None:
    encoded = encode(split("a long note", "short", " ", "SHORT!"), encoder)

    assert encoder.demonstrations == ["Note: short", "Note: a long note"]
    assert encoded.positions == [0, 1]
    expected = HashEncoder().encode_demonstrations(["Note: a long note", "Note: short"])
    assert np.allclose(encoded.vectors, expected, atol=1e-6)


def test_vectors_that_have_other_lengths_are_compared_by_their_directions() -> None:
    rows = split("sun", "sun sun note note", "rain")

    by_dot = encode(rows, HashEncoder(metric="dot"))

    assert np.allclose(np.linalg.norm(by_dot.vectors, axis=1), 1)
    (finding,) = near_duplicates(by_dot, 0.94)
    # "note sun" and "note note note sun sun": 5 / (sqrt(2) * sqrt(13)).
    assert finding.groups == (("train-0", "train-1"),) and "similarity 0.981" in finding.message


def test_the_nearest_are_told_first(encoder: HashEncoder) -> None:
    train = encode(split("a b c d e", "a b c d x", "one two", "two one"), encoder)
    test = encode(split("a b c d y", "e d c b a", name="test"), encoder)

    (near,) = near_duplicates(train, 0.6)
    (leak,) = near_leaks(test, train, 0.6)

    assert near.groups == (("train-2", "train-3"), ("train-0", "train-1"))
    assert (leak.groups[0], leak.groups[1][0]) == (("test-1", "train-0"), "test-0")
    assert "to 1.000)" in near.message and "to 1.000)" in leak.message


def test_a_split_without_text_has_no_vectors(encoder: HashEncoder) -> None:
    empty = encode(split("", " "), encoder)

    assert empty.vectors.shape == (0, encoder.dimension)
    assert list(near_duplicates(empty, 0.5)) == [] == list(near_leaks(encode(split("a"), encoder), empty, 0.5))


class Broken(HashEncoder):
    def encode_demonstrations(self, texts: object) -> Vectors:
        return np.full((1, self.dimension), np.nan, dtype=np.float32)


def test_an_encoder_that_gives_no_numbers_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'fake-hash' gave \[1, 48\] for 1 texts of task 'notes', or numbers that"):
        encode(split("a"), Broken())


def test_the_nearest_of_an_earlier_split_is_what_exact_search_finds() -> None:
    queries, vectors = unit(50, 8, seed=3), unit(70, 8, seed=4)
    positions, similarities = ExactSearch(vectors).search(queries, 1)

    expected = [
        Alike(place, int(position), float(similarity))
        for place, (position, similarity) in enumerate(zip(positions[:, 0], similarities[:, 0], strict=True))
        if similarity >= 0.7
    ]

    assert 0 < len(expected) < 50 and alike_to(queries, vectors, 0.7) == expected


def test_what_stays_is_not_alike_and_what_goes_is_alike_to_what_stays() -> None:
    vectors = unit(300, 3, seed=5)
    found = alike(vectors, 0.95)
    gone = {one.position for one in found}
    stays = [position for position in range(300) if position not in gone]
    cosines = np.round(vectors[stays].astype(np.float64) @ vectors[stays].astype(np.float64).T, 5)

    assert 0 < len(found) < 300 and not (cosines[~np.eye(len(stays), dtype=bool)] >= 0.95).any()
    assert all(one.other in stays and one.other < one.position for one in found)


def test_many_equal_vectors_take_little_memory_and_all_name_the_first() -> None:
    # A searcher would propose all of them for each: 4000 x 4000 x 32 numbers.
    vectors = np.repeat(unit(1, 32, seed=6), 4000, axis=0)

    tracemalloc.start()
    try:
        found = alike(vectors, 0.98)
        assert found == [Alike(position, 0, 1.0) for position in range(1, 4000)]
        assert alike_to(vectors, vectors, 1.0) == [Alike(position, 0, 1.0) for position in range(4000)]
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
