"""The README's commands exist with their options, its links resolve, and its Python runs."""

import re
import shlex
from pathlib import Path

import pytest

from tests.tiny_models import save_encoder, save_lm
from udr.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = [
    line.removeprefix("$ ").partition("#")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("udr ")])
def test_every_command_exists_with_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)[1:]
    name = words[:2] if words[0] in ("index", "feedback", "tasks", "keys") else words[:1]
    assert main([*name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert [option for option in words if option.startswith("--") and option not in shown] == []


def test_every_make_target_and_linked_file_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}: \$\(VENV\)/.{target}", makefile, re.MULTILINE) for target in targets)
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    encoder, lm = save_encoder(tmp_path / "encoder"), save_lm(tmp_path / "lm")
    monkeypatch.chdir(tmp_path)
    assert main(["index", "build", str(ROOT / "examples" / "tasks"), "--model", str(encoder), "--out", "my-index"]) == 0
    capsys.readouterr()
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        # The tiny tokenizer counts bytes, so the budget is larger than the README's.
        exec(code.replace("path/to/your/lm", str(lm)).replace("budget=1024", "budget=4096"), names)
        assert capsys.readouterr().out.rstrip().endswith("Request: wake me at six\nIntent:")
