"""``import udr``: the names it offers, each imported when it is first used."""

import subprocess
import sys
from pathlib import Path

import pytest

import udr

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(dir(udr)))
def test_every_name_is_there_and_comes_from_its_module(name: str) -> None:
    assert getattr(udr, name).__name__ == name
    assert getattr(udr, name).__module__.startswith("udr.")


def test_the_names_are_these_and_no_others() -> None:
    assert dir(udr) == sorted(
        [
            *("AsyncClient", "Client", "Prompt", "PromptBuilder", "Retrieval", "RetrievalRequest"),
            *("RetrievedDemonstration", "Retriever", "Row", "Task", "UdrError", "load_tokenizer"),
        ]
    )
    assert [name for name in dir(udr) if name not in vars(udr)["__all__"]] == []
    with pytest.raises(AttributeError, match="No udr attribute nope"):
        udr.nope  # type: ignore[attr-defined]  # noqa: B018


def test_importing_udr_imports_none_of_its_modules() -> None:
    code = "import sys, udr; print([name for name in sys.modules if name.startswith('udr.') or name == 'numpy'])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=REPOSITORY)

    assert found.stdout == "[]\n"
