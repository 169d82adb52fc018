"""docs/integrations.md tells the truth: its Python runs."""

import re
from pathlib import Path

import pytest

pytest.importorskip("langchain_core", reason="needs langchain-core: pip install 'udr-icl[langchain]'")
pytest.importorskip("dspy", reason="needs dspy: pip install 'udr-icl[dspy]'")

from tests.tiny_models import save_encoder
from udr.integrations import DemonstrationProgram
from udr.models import SentenceEncoder
from udr_index.build import BuildConfig, build

ROOT = Path(__file__).parents[3]
LANGCHAIN, DSPY = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "integrations.md").read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``my-index``, of the example tasks."""
    folder = tmp_path_factory.mktemp("docs")
    encoder = SentenceEncoder.load(str(save_encoder(folder / "encoder")))
    build(BuildConfig(tasks=ROOT / "examples" / "tasks", out=folder / "my-index"), encoder)
    return folder


def test_the_langchain_code_prints_a_prompt(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    exec(LANGCHAIN, {})
    printed = capsys.readouterr().out
    assert printed.endswith("Request: wake me at six\nIntent:\n") and printed.count("\nIntent: ") == 4


def test_the_dspy_code_opens_the_program_that_it_saved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(DSPY, names)
    program, again = names["program"], names["again"]
    assert isinstance(program, DemonstrationProgram) and isinstance(again, DemonstrationProgram)
    assert again.demos.to_json() == program.demos.to_json()
