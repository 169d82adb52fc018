"""Coherence by a language model: by hand for a model whose chances are known, and for a tiny real one."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import write_task
from tests.tiny_models import save_lm
from tests.training.conftest import Udr
from udr.types import Row
from udr_training.feedback.local import CausalLM, plain_log_likelihoods
from udr_training.feedback.packing import Prompt
from udr_training.pool import coherence, coherence_score

NEXT, SAME, BEFORE, OTHER = 0.8, 0.4, 0.2, 0.1


class Counting:
    """Reads numbers: after one, the next is likely, one of its hundred less, the one before less yet, others hardly."""

    fingerprint = "counting"

    def __init__(self) -> None:
        self.read = list[Sequence[int]]()

    def tokens(self, text: str) -> tuple[int, ...]:
        return (int(text.strip(" .")),)

    def token_log_likelihoods(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float64]]:
        self.read += texts
        return [np.log([self._chance(text[:at], token) for at, token in enumerate(text)]) for text in texts]

    def _chance(self, before: Sequence[int], token: int) -> float:
        if before and before[-1] == token - 1:
            return NEXT
        if before and before[-1] == token + 1:
            return BEFORE
        return SAME if any(other // 100 == token // 100 for other in before) else OTHER


def sentences(*numbers: int) -> list[str]:
    return [f"{number}." for number in numbers]


WHOLE = sentences(*range(101, 111))
JOINED = sentences(*range(101, 106), *range(206, 211))
BACKWARDS = sentences(*range(110, 100, -1))


def test_gains_are_those_computed_by_hand() -> None:
    lm = Counting()
    whole, joined, backwards = coherence(lm, [WHOLE, JOINED, BACKWARDS], shuffles=1)
    # The first two sentences of a window gain from what precedes: the first one, the second not.
    assert whole.joint == whole.gain == pytest.approx(math.log(NEXT / OTHER) / 2)
    # Where another text begins, what precedes tells nothing.
    assert joined.joint == pytest.approx(0) and joined.gain < whole.gain
    assert backwards.joint == pytest.approx(math.log(BEFORE / OTHER) / 2)
    # The order's gain is over the orders that the model read.
    order = next(text for text in lm.read if sorted(text) == list(range(101, 111)) and text[0] != 101)
    shuffled = lm.token_log_likelihoods([order])[0].sum()
    assert whole.order == pytest.approx((math.log(OTHER) + 9 * math.log(NEXT) - shuffled) / 10) and whole.order > 0
    assert backwards.order < 0 and backwards.kind == "chaotic" and whole.kind == "holistic"


def test_a_text_is_measured_the_same_whatever_else_is() -> None:
    (alone,) = coherence(Counting(), [JOINED])
    assert coherence(Counting(), [WHOLE, JOINED, JOINED])[1:] == [alone, alone]


def test_rows_are_flagged_by_their_longest_field_and_short_ones_are_not() -> None:
    rows = [
        Row(id=str(n), input={"title": "1.", "text": " ".join(text)}, target="x")
        for n, text in enumerate((WHOLE, BACKWARDS, WHOLE[:7]))
    ]
    score = coherence_score(rows, Counting())
    assert score.flagged == (1,) and score.notes == {1: "chaotic"}
    assert score.values[2] == 1 and score.settings == {"lm": "counting", "long_rows": 2}


def test_tokens_are_as_likely_as_plain_scoring_says(tmp_path: Path) -> None:
    lm = CausalLM.load(str(save_lm(tmp_path / "lm")))
    texts = [lm.tokens(text) for text in ("the grass is green", "snow", "the sea and the sky are as blue as ever")]
    start = lm.tokens("", start=True) or (lm.tokenizer.end or 0,)
    found = lm.token_log_likelihoods(texts)
    expected = plain_log_likelihoods(lm.model, [Prompt((start,), (text,)) for text in texts])
    assert [len(one) for one in found] == [len(text) for text in texts]
    assert [one.sum() for one in found] == pytest.approx([one[0] for one in expected], abs=1e-4)


def test_the_command_scores_by_coherence(udr: Udr, lm_folder: Path, tmp_path: Path) -> None:
    rows: list[Any] = [
        {"id": f"r{n}", "input": {"text": " ".join(f"Line {n + at} of it." for at in range(n))}, "target": "x"}
        for n in (1, 9, 10)
    ]
    task = {"name": "lines", "family": "texts", "kind": "generation", "metric": "rouge_l", "instruction": "Sum up."}
    write_task(tmp_path / "tasks", {**task, "input": "{text}", "output": "{target}"}, train=rows)
    line = ["pool", "score", tmp_path / "tasks", "--by", "coherence", "--text-lm", lm_folder]
    status, out, err = udr(*line, "--out", tmp_path / "scores.jsonl")
    assert status == 0 and "coherence: " in out, err
    header, first, *_ = map(json.loads, (tmp_path / "scores.jsonl").read_text().splitlines())
    assert header["scores"]["coherence"]["settings"]["long_rows"] == 2 and first["coherence"] == 1
