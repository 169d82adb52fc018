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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import udr

REPOSITORY = Path(__file__).parents[1]
PACKAGES = {"udr": ".", "udr_index": "index", "udr_service": "service", "udr_training": "training"}
SOURCES = ["pyproject.toml", "README.md", "LICENSE", "udr", "index", "service", "training"]


def call(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # From a copy: a build leaves folders beside the sources, and takes up what an earlier one left.
    copy, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(REPOSITORY / name, copy / name)
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=copy)
    (built,) = out.iterdir()
    return built


@dataclass(frozen=True)
class Environment:
    """An environment that was empty before the wheel was installed.

    What the wheel depends on lies in ours; on PYTHONPATH it is seen, but its ``.pth`` files are not read, so that
    nothing there leads to our sources.
    """

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.folder)}))

    def call(self, *command: str | Path, cwd: Path) -> str:
        return call(*command, cwd=cwd, PYTHONPATH=sysconfig.get_path("purelib"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("installed") / "venv")
    venv.create(environment.folder, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment.python)]
    call(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=environment.folder)
    return environment


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_exactly_the_four_packages(wheel: Path) -> None:
    assert wheel.name == f"udr_icl-{udr.__version__}-py3-none-any.whl"
    tops = {name.partition("/")[0] for name in names(wheel)}
    assert tops == {*PACKAGES, f"udr_icl-{udr.__version__}.dist-info"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_source_file_and_everything_it_reads_is_in_the_wheel(wheel: Path, package: str) -> None:
    root = REPOSITORY / PACKAGES[package]
    files = {
        path.relative_to(root).as_posix()
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert f"{package}/py.typed" in files
    assert files == {name for name in names(wheel) if name.startswith(f"{package}/")}


def test_the_presets_are_in_the_wheel(wheel: Path) -> None:
    presets = {Path(name).stem for name in names(wheel) if name.startswith("udr_training/presets/")}

    assert presets == {"cpu", "default", "paper"}


def test_the_version_is_the_same_everywhere(wheel: Path) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]

    assert (project["name"], project["version"]) == ("udr-icl", udr.__version__)


USE = """
import json, sys
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
import udr, udr_index.build, udr_index.config, udr_service, udr_training
from udr import Retriever, cli
from fake import HashEncoder

out = Path(sys.argv[2])
config = udr_index.config.BuildConfig(tasks=Path(sys.argv[1]), out=out)
udr_index.build.build(config, HashEncoder())
with Retriever.open(out, encoder=HashEncoder()) as retriever:
    found = retriever.retrieve("questions", "Who owns the boat?", 2).to_json()
print(json.dumps({
    "files": [module.__file__ for module in (udr, udr_index, udr_service, udr_training)],
    "found": found,
    "preset": files("udr_training").joinpath("presets", "cpu.toml").read_text("utf-8"),
    "commands": sorted(entry.name for entry in entry_points(group="udr.commands")),
    "help": cli.main(["--version"]),
}))
"""


def test_the_wheel_works_from_another_folder(installed: Environment, collection: Path, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("fakes.py"), tmp_path / "fake.py")

    out = installed.call(installed.python, "-c", USE, collection, tmp_path / "index", cwd=tmp_path)

    version, answer = out.splitlines()
    used = json.loads(answer)
    assert version == f"udr {udr.__version__}"
    assert used["files"] == [str(installed.packages / package / "__init__.py") for package in PACKAGES]
    assert [one["rank"] for one in used["found"]["demonstrations"]] == [1, 2]
    assert tomllib.loads(used["preset"])
    assert used["commands"] == ["evaluate", "feedback", "index", "keys", "serve", "tasks", "train"]


def test_the_installed_script_runs(installed: Environment, tmp_path: Path) -> None:
    shown = installed.call(installed.folder / "bin" / "udr", "--help", cwd=tmp_path)

    assert "Retrieve the demonstrations" in shown


def texts(folders: Sequence[str]) -> list[Path]:
    kinds = (".py", ".toml", ".md", ".txt", ".html", ".js", "")
    found = [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*"))]
    return [path for path in found if path.is_file() and path.suffix in kinds and "__pycache__" not in path.parts]


def test_no_hint_installs_somebody_elses_udr() -> None:
    # PyPI's `udr` is another project; ours is `udr-icl`.
    wrong = re.compile(r"""(?:pip|uv|pipx)\b[^\n`#]*\b(?:install|add)\b[^\n`#]*[\s'"]udr(?!-icl)(?![\w/.-])""")
    pages = [REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml")]
    pages += texts(["udr", "index", "service", "training", "docs", "examples"])

    assert wrong.search("run: pip install 'udr[cpu]'") and not wrong.search("pip install 'udr-icl[cpu]' # for udr")
    hints = [
        (str(page), hit.group()) for page in pages if page.exists() and (hit := wrong.search(page.read_text("utf-8")))
    ]
    assert hints == []
