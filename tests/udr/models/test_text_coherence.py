"""Coherence by a language model whose chances are known, by hand; and how a model is found."""

import math
from pathlib import Path

import pytest

from tests.fakes import LIKELY_BEFORE, LIKELY_NEXT, LIKELY_OTHER, CountingLM, counting, install_entry_point
from udr.errors import MissingExtraError
from udr.models import LM_GROUP, coherence, load_text_lm

WHOLE = counting(*range(101, 111))
JOINED = counting(*range(101, 106), *range(206, 211))
BACKWARDS = counting(*range(110, 100, -1))


def test_gains_are_those_computed_by_hand() -> None:
    lm = CountingLM()
    whole, joined, backwards = coherence(lm, [WHOLE, JOINED, BACKWARDS], shuffles=1)
    # The first two sentences of a window gain from what precedes: the first one, the second not.
    assert whole.joint == whole.gain == pytest.approx(math.log(LIKELY_NEXT / LIKELY_OTHER) / 2)
    # Where another text begins, what precedes tells nothing.
    assert joined.joint == pytest.approx(0) and joined.gain < whole.gain
    assert backwards.joint == pytest.approx(math.log(LIKELY_BEFORE / LIKELY_OTHER) / 2)
    # The order's gain is over the orders that the model read.
    order = next(text for text in lm.read if sorted(text) == list(range(101, 111)) and text[0] != 101)
    shuffled = lm.token_log_likelihoods([order])[0].sum()
    assert (
        whole.order == pytest.approx((math.log(LIKELY_OTHER) + 9 * math.log(LIKELY_NEXT) - shuffled) / 10)
        and whole.order > 0
    )
    assert backwards.order < 0 and backwards.kind == "chaotic" and whole.kind == "holistic"


def test_a_text_is_measured_the_same_whatever_else_is() -> None:
    (alone,) = coherence(CountingLM(), [JOINED])
    assert coherence(CountingLM(), [WHOLE, JOINED, JOINED])[1:] == [alone, alone]


def test_a_text_is_read_as_far_as_the_models_window_goes() -> None:
    lm = CountingLM(context=10)
    assert coherence(lm, [WHOLE]) == coherence(CountingLM(), [WHOLE[:9]])
    # One token of the window is the model's own, before the text.
    assert max(map(len, lm.read)) == 9


def test_a_model_is_loaded_by_what_another_package_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    install_entry_point(tmp_path, LM_GROUP, "tests.fakes:load_counting_lm")
    assert load_text_lm("counts").fingerprint == load_text_lm("counts", "cuda").fingerprint == "counting"
    install_entry_point(tmp_path, LM_GROUP, "no_torch_here:load")
    with pytest.raises(MissingExtraError, match=r"for --text-lm, is not installed; run: .*\[training\]"):
        load_text_lm("counts")
