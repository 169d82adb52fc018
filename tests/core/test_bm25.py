"""BM25 against its formula, and without what bm25s makes up."""

import math

from udr.bm25 import BM25Search

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
        assert [position for position, _ in found] == sorted(expected, key=lambda p: (-round(expected[p], 4), p))
        assert all(math.isclose(score, expected[position], abs_tol=1e-4) for position, score in found)


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
