"""Scores on disk: whose they are, and what is no store."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from udr.errors import FeedbackError
from udr_training.feedback import FeedbackStore, PairKey, Work
from udr_training.feedback.packing import Likelihoods


def store(path: Path, lm: str = "table", dtype: str = "float32", wording: str = "w") -> FeedbackStore:
    return FeedbackStore(path / "feedback.sqlite", lm, dtype, wording)


def said(*sums: float) -> Likelihoods:
    return Likelihoods(np.array(sums), (1,) * len(sums))


KEYS = [PairKey.of((str(number),), "query", ()) for number in range(3)]


@pytest.mark.parametrize("other", [{"lm": "another"}, {"dtype": "bfloat16"}, {"wording": "v"}], ids=str)
def test_another_models_dtypes_or_wordings_scores_are_never_read(tmp_path: Path, other: dict[str, str]) -> None:
    with store(tmp_path) as opened:
        opened.put(dict.fromkeys(KEYS, said(-1.0)), Work(pairs=3, tokens=30, seconds=1.0))
    with store(tmp_path, **other) as opened:
        assert len(opened) == 0
        assert opened.get(KEYS) == {}
        assert opened.work == Work()


def test_log_likelihoods_come_back_as_they_were_put(tmp_path: Path) -> None:
    values = {key: Likelihoods(np.array([-1.5, -2.25 - number]), (1, 300)) for number, key in enumerate(KEYS)}
    with store(tmp_path) as opened:
        opened.put(values)
    with store(tmp_path) as opened:
        found = opened.get([*KEYS, PairKey.of(("unknown",), "query", ())])
    assert found.keys() == values.keys()
    assert all(found[key].sums.tolist() == values[key].sums.tolist() for key in KEYS)
    assert all(found[key].num_tokens == (1, 300) for key in KEYS)


def test_what_scores_cost_is_added_up_over_runs(tmp_path: Path) -> None:
    for seconds in (1.5, 2.0):
        with store(tmp_path) as opened:
            opened.put({KEYS[0]: said(-1.0)}, Work(pairs=1, tokens=20, cut=1, seconds=seconds))
    with store(tmp_path) as opened:
        assert opened.work == Work(pairs=2, tokens=40, cut=2, seconds=3.5)
        assert len(opened) == 1


def test_keys_tell_texts_apart_that_join_alike() -> None:
    assert PairKey.of(("ab", "c"), "q", ()) != PairKey.of(("a", "bc"), "q", ())
    assert PairKey.of(("a",), "q", ("x", "y")) != PairKey.of(("a",), "q", ("xy",))


def test_a_pair_that_is_stored_keeps_its_numbers(tmp_path: Path) -> None:
    with store(tmp_path) as one, store(tmp_path) as other:
        one.put({KEYS[0]: said(-1.0)})
        other.put({KEYS[0]: said(-2.0)})
        assert one.get(KEYS)[KEYS[0]].sums.tolist() == other.get(KEYS)[KEYS[0]].sums.tolist() == [-1.0]


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for number in range(10):
        with ThreadPoolExecutor(8) as pool:
            folder = tmp_path / str(number)
            assert list(pool.map(lambda _, folder=folder: opened_and_closed(folder), range(8))) == [0] * 8


def opened_and_closed(folder: Path) -> int:
    with store(folder) as opened:
        return len(opened)


def test_another_format_and_somebody_elses_file_are_refused_and_left_alone(tmp_path: Path) -> None:
    with store(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "feedback.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(FeedbackError, match="feedback of format 99; this version of udr reads"):
        store(tmp_path)
    (tmp_path / "theirs").mkdir()
    with sqlite3.connect(tmp_path / "theirs" / "feedback.sqlite") as connection:
        connection.execute("CREATE TABLE lm (mine TEXT)")
    connection.close()
    before = (tmp_path / "theirs" / "feedback.sqlite").read_bytes()
    with pytest.raises(FeedbackError, match="somebody else's"):
        store(tmp_path / "theirs")
    assert (tmp_path / "theirs" / "feedback.sqlite").read_bytes() == before


def test_a_file_that_cannot_be_written_is_one_error_and_loses_nothing(tmp_path: Path) -> None:
    with store(tmp_path) as opened:
        opened.put({KEYS[0]: said(-1.0)})
        opened._connection.execute("PRAGMA query_only=ON")
        with pytest.raises(FeedbackError, match="cannot be used"):
            opened.put({KEYS[1]: said(-2.0)})
        opened._connection.execute("PRAGMA query_only=OFF")
        opened.put({KEYS[2]: said(-3.0)})
        assert {key: found.sums[0] for key, found in opened.get(KEYS).items()} == {KEYS[0]: -1.0, KEYS[2]: -3.0}


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "feedback.sqlite").mkdir()
    with pytest.raises(FeedbackError, match="cannot be used"):
        store(tmp_path)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "feedback.sqlite").write_text("these are not scores, but a text that is long enough" * 50)
    with pytest.raises(FeedbackError, match="not a feedback store"):
        store(tmp_path)
