"""The integrations load on first use, name what to install if it is missing, and their examples run."""

import importlib
import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.tiny_models import save_encoder
from udr.errors import MissingExtraError
from udr.installation import install_extra

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("name", "library"),
    [
        *(("langchain", "langchain_core"), ("dspy", "dspy"), ("haystack", "haystack")),
        *(("llama_index", "llama_index"), ("mcp", "mcp")),
    ],
)
def test_a_missing_library_is_an_error_with_the_command_that_installs_it(
    name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == library] or [library]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"udr.integrations.{name}", raising=False)
    install = re.escape(install_extra(name.replace("_", "-")))
    with pytest.raises(MissingExtraError, match=f"is not installed; run: {install}$"):
        importlib.import_module(f"udr.integrations.{name}")


@pytest.mark.parametrize(
    ("example", "library", "output"),
    [
        ("langchain_selector", "langchain_core", "-> set alarm"),
        ("dspy_program", "dspy", "2 calls of the language model"),
    ],
)
def test_the_example_runs(
    example: str,
    library: str,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(library, reason=f"needs {library}")
    monkeypatch.setattr("udr.models.DEFAULT_ENCODER", str(save_encoder(tmp_path / "encoder")))
    monkeypatch.setattr(sys, "argv", [example, "--index", str(tmp_path / "index")])
    runpy.run_path(str(EXAMPLES / f"{example}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert output in printed and printed.count("-> ") == 2
