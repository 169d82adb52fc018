"""``max_copy`` and ``fill``, against brute force, in every mode."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tests.fakes import HashEncoder
from udr.data import Wording, encoder_demonstration, open_collection
from udr.errors import InvalidInputError
from udr.retrieval import Mode, Retriever
from udr_index.build import BuildConfig, build

QUERY = "what a fine monday"


@pytest.fixture(scope="module")
def opened(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retriever]:
    out = tmp_path_factory.mktemp("copies") / "out"
    build(BuildConfig(tasks=collection, out=out, bm25=True), HashEncoder())
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        yield retriever


@pytest.fixture(scope="module")
def cosines(collection: Path) -> dict[str, float]:
    """The cosine of each note with the query, both read as demonstrations, by id."""
    folder, encoder = open_collection(collection).tasks["notes"], HashEncoder()
    rows = folder.pool().rows
    (query,) = encoder.encode_demonstrations([Wording.of_task(folder.task).demonstration(QUERY)]).astype(float)
    vectors = encoder.encode_demonstrations([encoder_demonstration(folder.task, row) for row in rows]).astype(float)
    values = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    return {row.id: round(float(value), 5) for row, value in zip(rows, values, strict=True)}


@pytest.mark.parametrize("mode", get_args(Mode))
def test_near_copies_are_left_out_in_every_mode(opened: Retriever, cosines: dict[str, float], mode: Mode) -> None:
    everything = opened.retrieve("notes", QUERY, 19, mode=mode)
    threshold = float(np.median([cosines[d.id] for d in everything]))
    retrieval = opened.retrieve("notes", QUERY, 4, mode=mode, max_copy=threshold, explain=True)

    assert [d.id for d in retrieval] == [d.id for d in everything if cosines[d.id] <= threshold][:4]
    dropped = {decision.id for decision in retrieval.decisions if decision.stage == "copies"}
    assert retrieval.copies == len(dropped) > 1
    exact = {d for d in dropped if d not in [found.id for found in everything]}
    assert all(cosines[id] > threshold for id in dropped - exact)


def test_a_query_over_a_family_is_compared_too(opened: Retriever) -> None:
    assert len(opened.retrieve(family="mood", input=QUERY, k=5, max_copy=1.0)) == 5
    assert opened.retrieve(family="mood", input=QUERY, k=5, max_copy=0.0).copies > 0


def test_copies_are_counted_without_an_option(opened: Retriever) -> None:
    assert opened.retrieve("notes", "What a fine FRIDAY!", 3).copies == 1
    assert opened.retrieve("notes", "What a fine FRIDAY!", 3, keep_copies=True).copies == 0
    with pytest.raises(InvalidInputError, match="max_copy must be from 0 to 1, found 2"):
        opened.retrieve("notes", QUERY, 3, max_copy=2)


@pytest.mark.parametrize("mode", get_args(Mode))
def test_fill_returns_the_next_nearest_up_to_the_candidates(opened: Retriever, mode: Mode) -> None:
    more = opened.retrieve("notes", QUERY, 3, fill=True, candidates=7, mode=mode)
    assert (more.k, len(more)) == (3, 7)
    assert more.demonstrations == opened.retrieve("notes", QUERY, 7, mode=mode).demonstrations
    assert more[:3] == opened.retrieve("notes", QUERY, 3, mode=mode)[:]
    assert opened.retrieve("notes", QUERY, 3).k is None
    # A pool smaller than the default number of candidates gives all it has but copies.
    assert len(opened.retrieve("notes", QUERY, 3, fill=True)) >= 19


def test_the_scale_of_similarities_is_named(opened: Retriever) -> None:
    scales = {mode: opened.retrieve("notes", QUERY, 3, mode=mode).to_json().get("scale") for mode in get_args(Mode)}
    assert scales == {"dense": None, "bm25": "bm25", "hybrid": "reciprocal_ranks"}


def test_hybrid_explains_both_ranks(opened: Retriever) -> None:
    def by(mode: Mode) -> list[str]:
        return [d.id for d in opened.retrieve("notes", QUERY, 20, mode=mode)]

    dense, lexical = by("dense"), by("bm25")
    for decision in opened.retrieve("notes", QUERY, 5, mode="hybrid", explain=True).decisions:
        if decision.stage == "choice":
            assert f"; rank {dense.index(decision.id) + 1} by the encoder" in decision.reason
            if decision.id in lexical:
                assert f", rank {lexical.index(decision.id) + 1} by BM25" in decision.reason
