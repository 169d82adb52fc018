"""Rows by coherence: for a model whose chances are known, and for a tiny real one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import CountingLM, counting, write_task
from tests.tiny_models import save_lm
from tests.training.conftest import Udr
from udr.types import Row
from udr_training.feedback.local import CausalLM, plain_log_likelihoods
from udr_training.feedback.packing import Prompt
from udr_training.pool import coherence_score

WHOLE = counting(*range(101, 111))
BACKWARDS = counting(*range(110, 100, -1))


def test_rows_are_flagged_by_their_longest_field_and_short_ones_are_not() -> None:
    rows = [
        Row(id=str(n), input={"title": "1.", "text": " ".join(text)}, target="x")
        for n, text in enumerate((WHOLE, BACKWARDS, WHOLE[:7]))
    ]
    score = coherence_score(rows, CountingLM())
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
