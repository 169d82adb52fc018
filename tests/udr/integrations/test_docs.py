"""The Python in docs/integrations.md runs."""

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
CODE = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "integrations.md").read_text("utf-8"), re.DOTALL)
LANGCHAIN, DSPY, HAYSTACK, LLAMA_INDEX = CODE


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = SentenceEncoder.load(str(save_encoder(tmp_path / "encoder")))
    build(BuildConfig(tasks=ROOT / "examples" / "tasks", out=tmp_path / "my-index"), encoder)
    monkeypatch.chdir(tmp_path)
    exec(LANGCHAIN, {})
    printed = capsys.readouterr().out
    assert printed.endswith("Request: wake me at six\nIntent:\n") and printed.count("\nIntent: ") == 4
    names: dict[str, object] = {}
    exec(DSPY, names)
    program, again = names["program"], names["again"]
    assert isinstance(program, DemonstrationProgram) and isinstance(again, DemonstrationProgram)
    assert again.demos.to_json() == program.demos.to_json()


@pytest.mark.parametrize(("library", "code"), [("haystack", HAYSTACK), ("llama_index", LLAMA_INDEX)])
def test_the_code_of_other_libraries_runs(
    library: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(library, reason=f"needs {library}")
    encoder = SentenceEncoder.load(str(save_encoder(tmp_path / "encoder")))
    build(BuildConfig(tasks=ROOT / "examples" / "tasks", out=tmp_path / "my-index"), encoder)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    printed = capsys.readouterr().out
    assert printed.endswith("Request: wake me at six\nIntent:\n") and printed.count("\nIntent: ") == 4
