"""Scores on disk: separate for each model, durable, and refused in files that are not stores."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from udr.errors import FeedbackError
from udr_training.feedback import FeedbackStore, PairKey, Work
from udr_training.feedback.packing import Likelihoods


def open_store(folder: Path, lm: str = "table", dtype: str = "float32", wording: str = "w") -> FeedbackStore:
    return FeedbackStore(folder / "feedback.sqlite", lm, dtype, wording)


def likelihoods(*sums: float) -> Likelihoods:
    return Likelihoods(np.array(sums), (1,) * len(sums))


def change(path: Path, statement: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


KEYS = [PairKey.of((str(number),), "query", ()) for number in range(3)]


@pytest.mark.parametrize("other", [{"lm": "another"}, {"dtype": "bfloat16"}, {"wording": "v"}], ids=str)
def test_scores_of_another_model_dtype_or_wording_are_not_read(tmp_path: Path, other: dict[str, str]) -> None:
    with open_store(tmp_path) as store:
        store.put(dict.fromkeys(KEYS, likelihoods(-1.0)), Work(pairs=3, tokens=30, seconds=1.0))
    with open_store(tmp_path, **other) as store:
        assert (len(store), store.get(KEYS), store.work) == (0, {}, Work())


def test_likelihoods_and_costs_are_read_back_by_keys_that_separate_texts(tmp_path: Path) -> None:
    values = {key: Likelihoods(np.array([-1.5, -2.25 - number]), (1, 300)) for number, key in enumerate(KEYS)}
    for seconds in (1.5, 2.0):
        with open_store(tmp_path) as store:
            store.put(values, Work(pairs=1, tokens=20, cut=1, seconds=seconds))
    with open_store(tmp_path) as store:
        results = store.get([*KEYS, PairKey.of(("unknown",), "query", ())])
        assert store.work == Work(pairs=2, tokens=40, cut=2, seconds=3.5)
        assert len(store) == 3
    assert results.keys() == values.keys()
    assert all(results[key].sums.tolist() == values[key].sums.tolist() for key in KEYS)
    assert all(results[key].num_tokens == (1, 300) for key in KEYS)
    assert PairKey.of(("ab", "c"), "q", ()) != PairKey.of(("a", "bc"), "q", ())
    assert PairKey.of(("a",), "q", ("x", "y")) != PairKey.of(("a",), "q", ("xy",))


def test_stored_pair_keeps_its_numbers(tmp_path: Path) -> None:
    with open_store(tmp_path) as one, open_store(tmp_path) as other:
        one.put({KEYS[0]: likelihoods(-1.0)})
        other.put({KEYS[0]: likelihoods(-2.0)})
        assert one.get(KEYS)[KEYS[0]].sums.tolist() == other.get(KEYS)[KEYS[0]].sums.tolist() == [-1.0]


def test_new_file_can_be_opened_by_many_at_once(tmp_path: Path) -> None:
    def open_and_count(folder: Path) -> int:
        with open_store(folder) as store:
            return len(store)

    for number in range(5):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(open_and_count, [tmp_path / str(number)] * 8)) == [0] * 8


def test_failed_write_is_one_error_and_loses_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.put({KEYS[0]: likelihoods(-1.0)})
        store._connection.execute("PRAGMA query_only=ON")
        with pytest.raises(FeedbackError, match="cannot be used"):
            store.put({KEYS[1]: likelihoods(-2.0)})
        store._connection.execute("PRAGMA query_only=OFF")
        store.put({KEYS[2]: likelihoods(-3.0)})
        assert {key: result.sums[0] for key, result in store.get(KEYS).items()} == {KEYS[0]: -1.0, KEYS[2]: -3.0}


def test_file_that_is_not_a_store_is_refused_and_unchanged(tmp_path: Path) -> None:
    open_store(tmp_path / "format").close()
    change(tmp_path / "format" / "feedback.sqlite", "PRAGMA user_version=99")
    change(tmp_path / "database" / "feedback.sqlite", "CREATE TABLE lm (mine TEXT)")
    open_store(tmp_path / "view").close()
    change(tmp_path / "view" / "feedback.sqlite", "CREATE VIEW v AS SELECT 1")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "feedback.sqlite").write_text("not scores, but a text that is long enough" * 50)
    for name, message in (
        ("format", "has format 99, but this udr reads format 2"),
        ("database", "another application's SQLite database"),
        ("text", "not a feedback store"),
        ("view", "not a feedback store: view 'v' is not ours; it must have the tables"),
    ):
        before = (tmp_path / name / "feedback.sqlite").read_bytes()
        with pytest.raises(FeedbackError, match=message):
            open_store(tmp_path / name)
        assert (tmp_path / name / "feedback.sqlite").read_bytes() == before
    (tmp_path / "feedback.sqlite").mkdir()
    with pytest.raises(FeedbackError, match="cannot be used"):
        open_store(tmp_path)


@pytest.mark.parametrize(("options", "num_queries"), [(1, 2000), (6, 1000), (77, 1000), (150, 2000)])
def test_the_size_of_scores_is_known_before(tmp_path: Path, options: int, num_queries: int) -> None:
    """Scores come in the order of their demonstrations, so that pages between them are written later."""
    pairs = [
        ((7 * query + number) % 800, query) for query in range(num_queries) for number in range(12_000 // num_queries)
    ]
    pairs.sort()
    scores = likelihoods(*[-1.5] * options)
    with open_store(tmp_path) as store:
        for first in range(0, len(pairs), 100):
            some = pairs[first : first + 100]
            store.put({PairKey.of((str(shown),), str(query), ()): scores for shown, query in some})
        assert len(store) == 12_000
    size, most = (tmp_path / "feedback.sqlite").stat().st_size, FeedbackStore.most_bytes(12_000, num_queries, options)
    assert 0.8 * most < size < most + 40_000
