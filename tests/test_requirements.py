"""The locked packages in requirements/: all that is needed, each with hashes, and from no particular place."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "requirements"
FILES = ("demo", "service", "test")


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-").replace(".", "-")


def locked(file: str) -> dict[str, str]:
    """The version of each package."""
    entries = re.findall(r"^(\S+)==(\S+)", (FOLDER / f"{file}.txt").read_text("utf-8"), re.MULTILINE)
    return {name_of(name): version for name, version in entries}


@pytest.mark.parametrize("file", FILES)
def test_each_package_has_hashes_and_no_address(file: str) -> None:
    text = (FOLDER / f"{file}.txt").read_text("utf-8")
    entries = re.sub(r" \\\n +", " ", text).splitlines()
    for entry in (line for line in entries if not line.startswith("#")):
        assert re.fullmatch(r"\S+==\S+( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})+", entry), entry
    assert "://" not in text and "index-url" not in text and "find-links" not in text


def test_the_files_agree_and_leave_torch_out() -> None:
    demo, service, test = map(locked, FILES)
    assert service.items() <= demo.items() <= test.items()
    assert "torch" not in test
    assert re.fullmatch(r"torch==[\d.]+\n", (FOLDER / "torch.txt").read_text("utf-8"))


def test_all_that_pyproject_names_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {name: listed for name, listed in project["optional-dependencies"].items() if not name.startswith("gpu")}
    needed = {name_of(item) for listed in (project["dependencies"], *extras.values()) for item in listed}
    assert needed - {"udr-icl", "torch"} <= set(locked("test"))
