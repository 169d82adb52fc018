"""A query's text is encoded once: within a batch, and as long as its vector is kept."""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.fakes import HashEncoder
from udr_service.serving import CachingEncoder, Counts


def encoded(size: int, *batches: Sequence[str]) -> tuple[list[str], Counts]:
    """Return what was really encoded, having checked that the cache changes no vector."""
    encoder, counts = HashEncoder(), Counts()
    cache = CachingEncoder(encoder, size, counts)
    for batch in batches:
        found = cache.encode_queries(batch)
        np.testing.assert_array_equal(found, HashEncoder().encode_queries(batch))
        assert found.dtype == np.float32
    return encoder.queries, counts


def test_equal_texts_of_a_batch_are_encoded_once() -> None:
    queries, counts = encoded(0, ["a", "b", "a", "a"])
    assert queries == ["a", "b"]
    assert (counts.hits, counts.shared, counts.misses) == (0, 2, 2)


def test_what_is_kept_is_not_encoded_again() -> None:
    queries, counts = encoded(3, ["a", "b"], ["b", "c"], ["a", "b", "c"])
    assert queries == ["a", "b", "c"]
    assert (counts.hits, counts.shared, counts.misses) == (4, 0, 3)


def test_the_longest_unused_goes_first() -> None:
    queries, _ = encoded(2, ["a"], ["b"], ["a"], ["c"], ["a"], ["b"])
    assert queries == ["a", "b", "c", "b"]


def test_without_a_cache_the_last_batch_still_serves_what_came_meanwhile() -> None:
    queries, _ = encoded(0, ["a", "b"], ["b"], ["a"])
    assert queries == ["a", "b", "a"]


def test_a_batch_larger_than_the_cache_is_answered() -> None:
    queries, _ = encoded(1, ["a", "b", "c"], ["c"])
    assert queries == ["a", "b", "c"]


def test_a_vector_that_is_given_away_is_not_the_one_that_is_kept() -> None:
    cache = CachingEncoder(HashEncoder(), 4, Counts())
    first = cache.encode_queries(["a b"])
    expected = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(cache.encode_queries(["a b"]), expected)


@pytest.mark.parametrize("role", ["name", "fingerprint", "dimension", "metric"])
def test_it_passes_for_its_encoder(role: str) -> None:
    encoder = HashEncoder()
    assert getattr(CachingEncoder(encoder, 1, Counts()), role) == getattr(encoder, role)


def test_demonstrations_are_not_kept() -> None:
    encoder, counts = HashEncoder(), Counts()
    cache = CachingEncoder(encoder, 4, counts)
    cache.encode_demonstrations(["a", "a"])
    assert encoder.demonstrations == ["a", "a"]
    assert counts == Counts()
