"""``import udr``: its public names, each imported on first use."""

import subprocess
import sys
from pathlib import Path

import pytest

import udr

NAMES = (
    "AsyncClient Client Filter Prompt PromptBuilder Retrieval RetrievalRequest RetrievedDemonstration Retriever Row "
    "Task UdrError load_tokenizer query_fields"
)


def test_the_public_names_are_these() -> None:
    assert dir(udr) == sorted(NAMES.split()) == sorted(vars(udr)["__all__"])
    for name in dir(udr):
        assert getattr(udr, name).__name__ == name and getattr(udr, name).__module__.startswith("udr.")
    with pytest.raises(AttributeError, match="No udr attribute nope"):
        udr.nope  # type: ignore[attr-defined]  # noqa: B018


def test_importing_udr_imports_none_of_its_modules() -> None:
    code = "import sys, udr; print([name for name in sys.modules if name.startswith('udr.') or name == 'numpy'])"
    command, cwd = [sys.executable, "-c", code], Path(__file__).parents[2]
    assert subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd).stdout == "[]\n"
