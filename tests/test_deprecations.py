"""Import paths of an earlier release still work, and warn with their replacement."""

import importlib
import sys

import pytest

PATHS = [
    ("udr.tokenizer", "udr.models", "load_tokenizer"),
    ("udr_index.config", "udr_index.build", "BuildConfig"),
    ("udr_training.loss_modules", "udr_training.losses", "CandidateLoss"),
]


@pytest.mark.parametrize(("old", "new", "name"), PATHS)
def test_an_old_path_gives_the_same_object_and_warns(old: str, new: str, name: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated; import from {new} instead"):
        module = importlib.import_module(old)
    assert getattr(module, name) is getattr(importlib.import_module(new), name)
