"""Retrieval with a label head that reads two fields apart, by brute force; and what its passes cost."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tests.fakes import HashEncoder
from tests.index.builds import build_index, write_pairs
from tests.udr.retrieval.test_label_head import Rows, assert_equal, shown
from udr.data import encoder_demonstration, encoder_query, input_text, open_collection, sample_by
from udr.retrieval import RetrievalRequest, Retriever
from udr.search import Vectors, head_features
from udr.store import open_version
from udr.types import Fields

QUERIES: list[Mapping[str, str]] = [
    {"first": "river mill tower lake castle", "second": "castle river lake mill"},
    {"first": "road field island forest valley", "second": "harbour bridge lake mill"},
    {"first": "harbour", "second": ""},
]


def units(texts: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return HashEncoder().encode_queries(texts).astype(np.float64)


def pair_features(inputs: list[Fields]) -> np.ndarray[Any, np.dtype[np.float64]]:
    u, v = (units([str(input[name]) for input in inputs]) for name in ("first", "second"))
    return np.hstack([u, v, abs(u - v), u * v])


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def index(tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("index") / "out"
    build_index(tasks, out, bm25=True)
    return out


@pytest.fixture(scope="module")
def retriever(index: Path) -> Iterator[Retriever]:
    with Retriever.open(index, encoder=HashEncoder()) as opened:
        yield opened


@pytest.fixture(scope="module")
def ranked(tasks: Path, index: Path) -> Any:
    """Every row's similarity and ranking score, from scikit-learn's model of the same features."""
    folder, stamp = open_collection(tasks).tasks["pairs"], open_version(index).manifest.partitions["pairs"].label_head
    assert stamp is not None and stamp.fields
    rows = sorted(folder.pool().rows, key=lambda row: row.id)
    fitted = [rows[n] for n in sample_by(range(len(rows)), None, 0, str)]
    model = LogisticRegression(C=stamp.strength, max_iter=2000, tol=1e-6)
    model.fit(pair_features([row.input for row in fitted]), [row.target for row in fitted])
    vectors = HashEncoder().encode_demonstrations([encoder_demonstration(folder.task, row) for row in rows])

    def of(input: Mapping[str, str]) -> Rows:
        (shares,) = model.predict_proba(pair_features([input]))
        chance = dict(zip(model.classes_, shares, strict=True))
        (vector,) = units([encoder_query(folder.task.instruction, input_text(folder.task, input))])
        found = [
            (row.id, round(float(near), 5), round(float(near + stamp.alpha * chance[row.target]), 5))
            for row, near in zip(rows, vectors.astype(np.float64) @ vector, strict=True)
        ]
        return sorted(found, key=lambda item: (-item[2], item[0]))

    return of


@pytest.mark.parametrize("input", QUERIES, ids=lambda input: input["first"])
def test_results_equal_brute_force(retriever: Retriever, ranked: Any, input: Mapping[str, str]) -> None:
    expected = ranked(input)
    # A regression ends where its next step is small.
    assert_equal(shown(retriever.retrieve("pairs", input, 8)), expected[:8], 2e-3)
    balanced = shown(retriever.retrieve("pairs", input, 2, balance=True))
    target = {item.id: item.target for item in retriever.retrieve("pairs", input, 160)}
    first = [next(row for row in expected if target[row[0]] == label) for label in ("same", "other")]
    assert_equal(sorted(balanced), sorted(first), 2e-3)


def test_features_are_those_of_two_vectors() -> None:
    fields: Vectors = np.array([[[3, 4], [0, 2]]], np.float32)
    assert head_features(fields[:, 0], fields).tolist() == [[0.6, 0.8, 0.0, 1.0, 0.6, pytest.approx(0.2), 0.0, 0.8]]
    assert head_features(fields[:, 0]).tolist() == [[0.6, 0.8]]


@pytest.mark.parametrize(
    "options", [{}, {"mode": "hybrid"}, {"coverage": 0.5}, {"distinct": 0.9, "balance": True}], ids=str
)
def test_several_at_once_are_as_alone(retriever: Retriever, options: Any) -> None:
    requests = [
        RetrievalRequest(task="pairs", input=input, k=5, label_head=head, **options)
        for input in QUERIES
        for head in (None, False)
    ]
    alone = [retriever.retrieve("pairs", r.input, 5, label_head=r.label_head, **options) for r in requests]
    assert retriever.retrieve_batch(requests) == alone and alone[0] != alone[1]


def test_fields_are_encoded_only_for_the_head(index: Path) -> None:
    encoder = HashEncoder()
    with Retriever.open(index, encoder=encoder) as retriever:
        assert retriever.encoder_passes == {"pairs": 3}
        retriever.retrieve("pairs", QUERIES[0], 2)
        whole = encoder.queries[0]
        assert encoder.queries == [whole, QUERIES[0]["first"], QUERIES[0]["second"]]
        encoder.queries.clear()
        retriever.retrieve("pairs", QUERIES[0], 2, label_head=False)
        retriever.retrieve("pairs", QUERIES[0], 2, mode="bm25")
        retriever.retrieve(input="river", family="pair", k=2)
        assert len(encoder.queries) == 2 and encoder.queries[0] == whole


def test_each_field_costs_as_a_query(retriever: Retriever) -> None:
    costs = [
        retriever.plan(RetrievalRequest(task="pairs", input=QUERIES[0], k=4, label_head=head)).cost
        for head in (None, False)
    ]
    assert costs == [3, 1]
    long = {"first": "river " * 400, "second": "mill"}
    assert retriever.plan(RetrievalRequest(task="pairs", input=long, k=4)).cost > 6


def test_an_explanation_names_the_fields(retriever: Retriever) -> None:
    for decision in retriever.retrieve("pairs", QUERIES[0], 3, explain=True).decisions:
        assert "the label head added " in decision.reason and "by first and second apart" in decision.reason


def test_rows_put_later_rank_by_the_fields_as_those_of_the_version(index: Path, tmp_path: Path) -> None:
    with Retriever.open(shutil.copytree(index, tmp_path / "index"), encoder=HashEncoder()) as retriever:
        before = {id: scores for id, *scores in shown(retriever.retrieve("pairs", QUERIES[0], 160))}
        twin = next(iter(before))
        retriever.put("pairs", {**retriever.demonstration("pairs", twin).to_json(), "id": "later"})
        found = retriever.retrieve("pairs", QUERIES[0], 161, explain=True)
        options: Any
        for options in ({"mode": "hybrid"}, {"coverage": 0.5}):
            others = retriever.retrieve("pairs", QUERIES[0], 161, **options)
            assert {item.id for item in others} == {*before, "later"}
    assert {id: scores for id, *scores in shown(found)} == {**before, "later": before[twin]}
    (reason,) = [decision.reason for decision in found.decisions if decision.id == "later"]
    assert "by first and second apart" in reason
