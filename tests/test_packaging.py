"""The wheel: built from a copy of the sources, installed into an empty environment, used from another folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import udr
from tests.test_layers import PACKAGES, REPOSITORY

SOURCES = ["pyproject.toml", "README.md", "LICENSE", "udr", "index", "service", "training"]


def call(*command: str | Path, cwd: Path, **environment: str) -> str:
    variables = {**os.environ, **environment}
    result = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # From a copy: a build leaves folders beside the sources, and includes what an earlier one left.
    copy, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(REPOSITORY / name, copy / name)
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=copy)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with only the wheel.

    Its dependencies come from ours by PYTHONPATH, where ``.pth`` files are not read, so that nothing leads to our
    sources.
    """
    environment = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(environment, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    call(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=environment)
    return environment


def test_the_wheel_contains_exactly_the_files_of_the_four_packages(wheel: Path) -> None:
    assert wheel.name == f"udr_icl-{udr.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {
        path.relative_to(REPOSITORY / folder).as_posix()
        for package, folder in PACKAGES.items()
        for path in (REPOSITORY / folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {f"udr_training/presets/{preset}.toml" for preset in ("cpu", "default", "paper")} < names


USE = """
import json, sys
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
import udr, udr_index.build, udr_service, udr_training
from udr import Retriever, cli
from fake import HashEncoder

out = Path(sys.argv[2])
udr_index.build.build(udr_index.build.BuildConfig(tasks=Path(sys.argv[1]), out=out), HashEncoder())
with Retriever.open(out, encoder=HashEncoder()) as retriever:
    retrieval = retriever.retrieve("questions", "Who owns the boat?", 2)
print(json.dumps({
    "files": [module.__file__ for module in (udr, udr_index, udr_service, udr_training)],
    "ranks": [item.rank for item in retrieval],
    "preset": files("udr_training").joinpath("presets", "cpu.toml").read_text("utf-8"),
    "commands": sorted(entry.name for entry in entry_points(group="udr.commands")),
    "help": cli.main(["--version"]),
}))
"""


def test_the_wheel_works_from_another_folder(installed: Path, collection: Path, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("fakes.py"), tmp_path / "fake.py")
    python, path = installed / "bin" / "python", sysconfig.get_path("purelib")
    out = call(python, "-c", USE, collection, tmp_path / "index", cwd=tmp_path, PYTHONPATH=path)

    version, result = out.splitlines()
    used = json.loads(result)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(installed)}))
    assert version == f"udr {udr.__version__}"
    assert used["files"] == [str(site / package / "__init__.py") for package in PACKAGES]
    assert used["ranks"] == [1, 2] and tomllib.loads(used["preset"])
    assert used["commands"] == "evaluate feedback index init keys mcp pool serve tasks train".split()
    script = call(installed / "bin" / "udr", "--help", cwd=tmp_path, PYTHONPATH=path)
    assert "Retrieve the demonstrations" in script


def test_no_hint_installs_another_projects_udr() -> None:
    # PyPI's `udr` is another project; ours is `udr-icl`.
    wrong = re.compile(r"""(?:pip|uv|pipx)\b[^\n`#]*\b(?:install|add)\b[^\n`#]*[\s'"]udr(?!-icl)(?![\w/.-])""")
    assert wrong.search("run: pip install 'udr[cpu]'") and not wrong.search("pip install 'udr-icl[cpu]' # for udr")

    pages = [REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml")]
    for folder in ("udr", "index", "service", "training", "docs", "examples"):
        pages += [path for path in (REPOSITORY / folder).rglob("*") if "__pycache__" not in path.parts]
    kinds = (".py", ".toml", ".md", ".txt", ".html", ".js", "")
    texts = {path: path.read_text("utf-8") for path in pages if path.is_file() and path.suffix in kinds}
    assert [(str(path), hit.group()) for path, text in texts.items() if (hit := wrong.search(text))] == []
