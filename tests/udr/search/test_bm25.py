"""BM25 compared with its formula, over one pool and over several as one."""

import math
import tracemalloc
from pathlib import Path

import pytest

from udr.errors import ArtifactError
from udr.search import BM25Search, weigh

TEXTS = ["the cat sat on the mat", "the dog sat", "a cat and a cat", "dogs and birds", "the the the"]


def expected_results(query: str, k1: float = 1.5, b: float = 0.75) -> list[tuple[int, float]]:
    """Return the positions and scores of BM25 in Lucene's variant, for the texts that share a word with the query."""
    documents = [text.split() for text in TEXTS]
    mean = sum(map(len, documents)) / len(documents)
    scores = dict.fromkeys(range(len(documents)), 0.0)
    for word in query.split():
        frequency = sum(word in words for words in documents)
        rarity = math.log(1 + (len(documents) - frequency + 0.5) / (frequency + 0.5))
        for position, words in enumerate(documents):
            times = words.count(word)
            scores[position] += rarity * times / (times + k1 * (1 - b + b * len(words) / mean))
    return sorted(((p, round(score, 5)) for p, score in scores.items() if score), key=lambda hit: (-hit[1], hit[0]))


@pytest.mark.parametrize("query", ["cat", "the cat", "sat dog the the", "zebra", "", "?!"])
def test_scores_and_order_follow_the_formula(query: str) -> None:
    assert BM25Search(TEXTS).search([query], 100) == [expected_results(query)]
    for cut in (0, 1, 3, 5):
        parts = [BM25Search(TEXTS[:cut]), BM25Search(TEXTS[cut:])]
        first, second = (part.nearest(weigh(query, parts), 5) for part in parts)
        assert sorted([*first, *((cut + p, score) for p, score in second)]) == sorted(expected_results(query))


@pytest.mark.parametrize(
    ("texts", "queries", "positions"),
    [
        # A word in all n texts weighs log(1 + 0.5 / (n + 0.5)), which rounds to zero.
        (["the"] * 60_000, ["the"], [[0, 1]]),
        (TEXTS, [], []),
        (["?", ""], ["a"], [[]]),
        (["x y", "same words here", "z", "same words here", "same words here"], ["words here same"], [[1, 3]]),
        (["Option A", "option B", "7"], ["a", "b", "7"], [[0], [1], [2]]),
    ],
    ids=["rounded to zero", "no query", "no words", "copies", "letters and digits"],
)
def test_special_texts_and_queries(texts: list[str], queries: list[str], positions: list[list[int]]) -> None:
    assert [[position for position, _ in best] for best in BM25Search(texts).search(queries, 2)] == positions


@pytest.mark.parametrize("texts", [TEXTS, ["?", ""]])
def test_a_saved_index_gives_the_same_results(tmp_path: Path, texts: list[str]) -> None:
    folder, size = tmp_path / "bm25", len(texts)
    BM25Search(texts).save(folder)
    assert BM25Search.load(folder, size).search(["the cat"], 5) == BM25Search(texts).search(["the cat"], 5)
    with pytest.raises(ArtifactError, match=rf"bm25: holds {size} texts, expected 4; run: udr index verify"):
        BM25Search.load(folder, 4)
    (folder / "words.json").write_bytes(b"{")
    for damaged, name in ((folder, "bm25"), (tmp_path / "none", "none/lengths.npy")):
        with pytest.raises(ArtifactError, match=f"{name}: cannot be read"):
            BM25Search.load(damaged, size)


def test_building_keeps_no_text_in_memory() -> None:
    words = [f"{'long' * 50}{number}" for number in range(100)]
    tracemalloc.start()
    try:
        search = BM25Search(" ".join(words[start % 60 :][:40]) for start in range(300))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A text has 8,000 letters.
    assert len(search) == 300 and peak < 300 * 2000
