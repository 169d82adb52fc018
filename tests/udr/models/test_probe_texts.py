"""Probe texts, and the agreement of two ways to encode."""

import unicodedata

import numpy as np
import pytest

from tests.udr.search.test_exact import unit
from udr.models import PROBES, agreement


def test_agreement_is_the_smallest_cosine_lowered_by_lengths_and_nan() -> None:
    first, second = unit(5, 8, seed=0), unit(5, 8, seed=1)
    assert agreement(first, second) == pytest.approx((first * second).sum(axis=1).min(), abs=1e-6)
    assert agreement(first, first) == 1
    vectors = np.eye(3, dtype=np.float32)
    assert agreement(vectors, 1.1 * vectors) == pytest.approx(1 - 0.1**2 / 2, abs=1e-6)
    assert np.isnan(agreement(vectors, np.where(vectors == 1, np.nan, vectors).astype(np.float32)))


def test_probes_have_many_lengths_and_scripts() -> None:
    assert len(PROBES) == len(set(PROBES)) >= 30
    assert min(map(len, PROBES)) < 5 and max(map(len, PROBES)) > 1000
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in "".join(PROBES)}
    assert {"LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "THAI", "CJK", "HANGUL"} <= scripts
