"""docs/losses.md: its example trains a model, and what it names exists."""

import inspect
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

import udr_training.losses
from udr_training.config import LOSSES
from udr_training.losses import CandidateLoss

DOCUMENT = (Path(__file__).parents[3] / "docs" / "losses.md").read_text("utf-8")
JAZZ = "play some jazz"


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
def test_the_example_trains_a_model(encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert '"sentence-transformers/all-MiniLM-L6-v2"' in code
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.replace("sentence-transformers/all-MiniLM-L6-v2", str(encoder_folder)), names)

    # The labels are of three candidates; copies of a text share a key.
    labels = names["columns"]["label"]
    rows = zip(names["ROWS"], labels, strict=True)
    keys = [label[3 + list(row).index(JAZZ)] for (_, row), label in rows if JAZZ in row]
    assert len(keys) == 3 and len(set(keys)) == 1 and {len(label) for label in labels} == {7}
    # Three epochs of one step; the trainer logs the mean loss.
    state = names["trainer"].state
    assert state.global_step == 3 and math.isfinite(state.log_history[-1]["train_loss"])
    before, after = (SentenceTransformer(str(folder), device="cpu") for folder in (encoder_folder, "my-encoder"))
    assert any(not torch.equal(*pair) for pair in zip(before.parameters(), after.parameters(), strict=True))


def test_every_loss_setting_and_function_is_described() -> None:
    assert re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE) == ["udr", "lambda", "kl", "margin_mse", "mnrl", "epr"]
    assert set(LOSSES) == {"udr", "lambda", "kl", "margin_mse", "mnrl", "epr"}
    settings = set(inspect.signature(CandidateLoss).parameters) - {"model"}
    assert {name for name in settings if f"`{name}`" not in DOCUMENT} == set()
    named = re.findall(r"`(\w+_loss)`", DOCUMENT)
    assert named and all(callable(getattr(udr_training.losses, name, None)) for name in named)
