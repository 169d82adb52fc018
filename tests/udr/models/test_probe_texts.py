"""Probe texts, and the number that two ways of encoding are compared by."""

import unicodedata

import numpy as np
import pytest

from udr.models import PROBES, agreement


def test_agreement_is_the_worst_cosine_of_unit_vectors() -> None:
    random = np.random.default_rng(0)
    one, other = (random.standard_normal((5, 8)).astype(np.float32) for _ in range(2))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    other /= np.linalg.norm(other, axis=1, keepdims=True)

    assert agreement(one, other) == pytest.approx((one * other).sum(axis=1).min(), abs=1e-6)
    assert agreement(one, one) == 1


def test_another_length_is_no_agreement() -> None:
    vectors = np.eye(3, dtype=np.float32)

    assert agreement(vectors, 1.1 * vectors) == pytest.approx(1 - 0.1**2 / 2, abs=1e-6)


def test_what_is_not_finite_agrees_with_nothing() -> None:
    vectors = np.eye(3, dtype=np.float32)

    assert not agreement(vectors, np.where(vectors == 1, np.nan, vectors).astype(np.float32)) >= 0.5


def test_probes_are_dozens_of_unlike_lengths_and_scripts() -> None:
    assert len(PROBES) == len(set(PROBES)) >= 30
    assert min(map(len, PROBES)) < 5 and max(map(len, PROBES)) > 1000
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in "".join(PROBES)}
    assert {"LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "THAI", "CJK", "HANGUL"} <= scripts
