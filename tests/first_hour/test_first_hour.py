"""A new user's first hour: the README's commands as printed, in a fresh environment and an empty home, timed by stage.

``UDR_FIRST_HOUR_VENV`` names an environment to use in place of a fresh one, in which everything is installed; the times
are then of the rest.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.documentation.pages import ROOT, blocks, commands, language_model
from tests.first_hour.table import write_messy_tickets

README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = commands(README)
MOST_SECONDS = 180.0
"""From the table to the first served prompt, after the installation."""

SOURCES = ["pyproject.toml", "README.md", "LICENSE", "udr", "index", "service", "training"]


def command(start: str) -> str:
    """The README's command that starts so."""
    (found,) = (line for line in COMMANDS if line.startswith(start))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the sources with a table in it, as after a download."""
    folder = tmp_path / "udr"
    folder.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    write_messy_tickets(folder / "tickets.csv")
    return folder


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has only a path and an empty home."""
    (tmp_path / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "HF_HUB_OFFLINE")}
    return {**kept, "HOME": str(tmp_path / "home"), "OPENAI_API_KEY": "none"}


@contextmanager
def serving(shell_command: str, folder: Path, variables: dict[str, str]) -> Iterator[None]:
    """Run ``udr serve`` in a shell until the block ends, which begins when it says that it serves."""
    # In place of the shell, so that the signal reaches it.
    start, _, last = shell_command.rpartition(" && ")
    process = subprocess.Popen(
        ["bash", "-c", f"{start} && exec {last}"], cwd=folder, env=variables, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "udr: serving" in line:
                break
        else:
            raise AssertionError("".join(seen))
        yield
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_from_a_table_to_a_served_prompt(folder: Path, variables: dict[str, str]) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8000)) == 0:
            pytest.skip("port 8000, which the README names, is in use")
    given = os.environ.get("UDR_FIRST_HOUR_VENV")
    activate = f". {given}/bin/activate" if given else ". .venv/bin/activate"
    if given is not None:
        variables["PYTHONPATH"] = os.pathsep.join(str(folder / name) for name in (".", "index", "service", "training"))
    seconds: dict[str, float] = {}
    said: dict[str, str] = {}

    def shell(stage: str, line: str) -> None:
        began = time.monotonic()
        result = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=variables, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, (line, result.stdout, result.stderr)
        seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - began
        said[stage] = result.stdout + result.stderr
        assert "Traceback" not in said[stage]

    if given is None:
        shell("installing", command("python -m venv"))
        for line in (command("pip install '.["), command("pip install --no-deps"), "pip install openai"):
            shell("installing", f"{activate} && {line}")
    shell("udr init", f"{activate} && {command('udr init')}")
    shell("udr index build", f"{activate} && {command('udr index build tasks --out')}")
    asked: list[list[dict[str, str]]] = []

    def answer(messages: list[dict[str, str]]) -> str:
        asked.append(messages)
        return "billing"

    code = next(code for _, code in blocks(README, "python"))
    (folder / "ask.py").write_text(code, "utf-8")
    with language_model(answer) as url:
        variables["OPENAI_BASE_URL"] = url
        began = time.monotonic()
        with serving(f"{activate} && {command('udr serve')}", folder, variables):
            seconds["udr serve, until it serves"] = time.monotonic() - began
            shell("the eight lines", f"{activate} && python ask.py")

    assert said["the eight lines"].endswith("billing\n")
    (messages,) = asked
    assert len(messages) == 18 and "My card shows two charges" in messages[-1]["content"]
    # Of those eight examples, most are about money.
    assert [message["content"] for message in messages[2:-1:2]].count("billing") >= 4
    for told in ("semicolon", "cp1252|windows", "without a target", "conflict"):
        assert any(word in said["udr init"].lower() for word in told.split("|")), (told, said["udr init"])
    used = sum(value for stage, value in seconds.items() if stage != "installing")
    report = [
        *(f"| {stage} | {value:.1f} |" for stage, value in seconds.items()),
        f"| **after the install** | {used:.1f} |",
    ]
    (ROOT / "build").mkdir(exist_ok=True)
    table = "\n".join(["| stage | seconds |", "|---|---|", *report])
    (ROOT / "build" / "first-hour.md").write_text(f"{table}\n", "utf-8")
    assert used < MOST_SECONDS
