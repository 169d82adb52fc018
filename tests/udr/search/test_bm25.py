"""BM25 against its formula, of one pool and of several as one."""

import math
import tracemalloc

import pytest

from udr.search import BM25Search, weigh

TEXTS = ["the cat sat on the mat", "the dog sat", "a cat and a cat", "dogs and birds", "the the the"]


def by_hand(query: str, k1: float = 1.5, b: float = 0.75) -> dict[int, float]:
    """BM25 as Lucene has it, for the texts that share a word with the query."""
    documents = [text.split() for text in TEXTS]
    mean = sum(map(len, documents)) / len(documents)
    scores: dict[int, float] = dict.fromkeys(range(len(documents)), 0.0)
    for word in query.split():
        having = sum(word in words for words in documents)
        rarity = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
        for position, words in enumerate(documents):
            times = words.count(word)
            if times:
                scores[position] += rarity * times / (times + k1 * (1 - b + b * len(words) / mean))
    return {position: score for position, score in scores.items() if score}


def test_scores_and_order_are_those_of_the_formula() -> None:
    for query in ("cat", "the cat", "sat dog the"):
        (found,) = BM25Search(TEXTS).search([query], 5)
        expected = by_hand(query)
        assert found == sorted(
            ((position, round(score, 5)) for position, score in expected.items()), key=lambda one: (-one[1], one[0])
        )


@pytest.mark.parametrize("cut", [0, 1, 3, 5])
def test_texts_in_several_searches_score_as_in_one(cut: int) -> None:
    parts = [BM25Search(TEXTS[:cut]), BM25Search(TEXTS[cut:])]
    for query in ("cat", "the cat", "sat dog the the", "zebra"):
        weighed = weigh(query, parts)
        found = parts[0].nearest(weighed, 5) + [(cut + place, score) for place, score in parts[1].nearest(weighed, 5)]
        assert sorted(found) == sorted(BM25Search(TEXTS).search([query], 5)[0])


def test_a_row_with_a_score_that_rounds_to_nothing_is_found() -> None:
    # A word that all texts hold weighs log(1 + 0.5 / (n + 0.5)).
    (found,) = BM25Search(["the"] * 60_000).search(["the"], 2)

    assert found == [(0, 0.0), (1, 0.0)]


def test_rows_that_share_no_word_are_left_out() -> None:
    search = BM25Search(TEXTS)

    assert [[position for position, _ in found] for found in search.search(["birds", "zebra", "", "?!"], 5)] == [
        [3],
        [],
        [],
        [],
    ]
    assert search.search([], 5) == []
    assert len(search) == 5


def test_k_above_the_pool_gives_what_there_is() -> None:
    assert len(BM25Search(TEXTS).search(["the"], 100)[0]) == 3


def test_copies_tie_and_go_by_position() -> None:
    search = BM25Search(["x y", "same words here", "z", "same words here", "same words here"])

    assert [position for position, _ in search.search(["words here same"], 2)[0]] == [1, 3]


def test_single_letters_and_numbers_are_words_and_case_does_not_count() -> None:
    search = BM25Search(["Option A", "option B", "7"])

    assert [found[0][0] for found in search.search(["a", "b", "7"], 1)] == [0, 1, 2]


def test_texts_without_any_word_are_searched_in_vain() -> None:
    assert BM25Search(["?", ""]).search(["a"], 1) == [[]]


def test_a_build_holds_no_text_in_memory() -> None:
    words = [f"{'long' * 50}{number}" for number in range(100)]
    tracemalloc.start()
    try:
        search = BM25Search(" ".join(words[place % 60 :][:40]) for place in range(1000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(search) == 1000
    # A text has 8,000 letters.
    assert peak < 1000 * 2000
