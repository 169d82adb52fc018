"""The embedding cache: equal queries are encoded once, within a batch and while their vector is cached."""

from collections import Counter
from collections.abc import Sequence
from unittest.mock import Mock

import numpy as np
import pytest

from tests.fakes import HashEncoder
from udr_service.serving import CachingEncoder


def caching(encoder: HashEncoder, size: int) -> tuple[CachingEncoder, Counter[str]]:
    """Return the cache, and the lookups that it reports to the metrics."""
    lookups: Counter[str] = Counter()
    metrics = Mock(cache_looked_up=lambda **counts: lookups.update(counts))
    return CachingEncoder(encoder, size, metrics), lookups


@pytest.mark.parametrize(
    ("size", "batches", "encoded", "counts"),
    [
        (0, ["abaa"], "ab", {"duplicate": 2, "miss": 2}),
        (3, ["ab", "bc", "abc"], "abc", {"hit": 4, "miss": 3}),
        (2, "abacab", "abcb", {"hit": 2, "miss": 4}),
        (0, ["ab", "b", "a"], "aba", {"hit": 1, "miss": 3}),
        (1, ["abc", "c"], "abc", {"hit": 1, "miss": 3}),
    ],
    ids=["one batch", "cached", "least recently used", "no cache keeps the last batch", "batch above the size"],
)
def test_texts_are_encoded_once(size: int, batches: Sequence[str], encoded: str, counts: dict[str, int]) -> None:
    encoder = HashEncoder()
    cache, lookups = caching(encoder, size)
    for batch in batches:
        vectors = cache.encode_queries(list(batch))
        np.testing.assert_array_equal(vectors, HashEncoder().encode_queries(list(batch)))
        assert vectors.dtype == np.float32
    assert (encoder.queries, +lookups) == (list(encoded), counts)


def test_changing_a_returned_vector_does_not_change_the_cache() -> None:
    cache, _ = caching(HashEncoder(), 4)
    first = cache.encode_queries(["a b"])
    expected = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(cache.encode_queries(["a b"]), expected)


def test_it_has_its_encoder_s_attributes_and_caches_no_demonstrations() -> None:
    encoder = HashEncoder()
    cache, lookups = caching(encoder, 4)
    for name in ("name", "fingerprint", "dimension", "metric"):
        assert getattr(cache, name) == getattr(encoder, name)
    cache.encode_demonstrations(["a", "a"])
    assert (encoder.demonstrations, lookups) == (["a", "a"], {})
