"""How an extra is added to this copy of udr, wherever it is from; and the refusal of an old Python."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_layers import REPOSITORY, modules
from udr.errors import MissingExtraError, optional_import
from udr.installation import install, install_extra, requirement

NOWHERE = Path("/nowhere")


def test_an_extra_is_added_to_the_copy_that_runs(tmp_path: Path) -> None:
    wheel = tmp_path / "udr_icl-1.0-py3-none-any.whl"
    wheel.touch()
    commit = {"vcs": "git", "commit_id": "3f2a"}
    cases: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({}, ("udr-icl[index]",)),
        ({"url": tmp_path.as_uri(), "dir_info": {}}, (f"{tmp_path}[index]",)),
        ({"url": tmp_path.as_uri(), "dir_info": {"editable": True}}, ("--editable", f"{tmp_path}[index]")),
        ({"url": wheel.as_uri(), "archive_info": {}}, (f"{wheel}[index]",)),
        # The file was deleted after the installation.
        ({"url": "file:///gone.whl", "archive_info": {}}, ("udr-icl[index]",)),
        ({"url": "https://x/u.whl", "archive_info": {}}, ("udr-icl[index] @ https://x/u.whl",)),
        ({"url": "https://x/u", "vcs_info": commit}, ("udr-icl[index] @ git+https://x/u@3f2a",)),
    ]
    assert [requirement("index", address, NOWHERE) for address, _ in cases] == [expected for _, expected in cases]
    (tmp_path / "pyproject.toml").touch()
    assert requirement("index", {}, tmp_path) == ("--editable", f"{tmp_path}[index]")


def test_the_command_runs_where_udr_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert install("a[b]") == "pip install 'a[b]'"
    monkeypatch.setenv("PATH", "/usr/bin")
    assert install("a") == f"{sys.executable} -m pip install a"
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "pipx" / "venvs" / "udr-icl"))
    assert install("a") == "pipx install --force a"
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    (tmp_path / "uv-receipt.toml").touch()
    assert install("a") == "uv tool install a"
    assert str(MissingExtraError("faiss", "cpu")) == f"faiss is not installed; run: {install_extra('cpu')}"


def test_a_library_that_ends_its_own_import_is_told_as_broken() -> None:
    message = "^faiss is installed, but cannot be imported: CUDA 13 runtime wheels are missing; run: udr doctor$"
    with pytest.raises(MissingExtraError, match=message), optional_import("faiss", "gpu"):
        raise RuntimeError("CUDA 13 runtime wheels are missing\nand more")


def hints() -> Iterator[tuple[str, str, str]]:
    """The place, package and extra of each ``MissingExtraError`` and ``optional_import`` in the source."""
    for name, (_, tree) in modules().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or len(node.args) != 2 or not isinstance(node.func, ast.Name):
                continue
            named = [item.value for item in node.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
            if node.func.id in ("MissingExtraError", "optional_import") and len(named) == 2:
                yield name, re.split(r"[, ]", named[0])[0].removesuffix("'s").lower(), named[1]


def test_each_extra_that_an_error_names_installs_the_package_it_misses() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    same = {
        **{"faiss": {"cpu": "faiss-cpu", "gpu": "faiss-gpu-cuvs"}, "opentelemetry": {"telemetry": "fastapi"}},
        **{"safetensors": {"index": "sentence-transformers"}},
    }

    def installs(extra: str) -> set[str]:
        names = set()
        for item in extras[extra]:
            name, inner = re.fullmatch(r"([\w-]+)(?:\[([\w,-]+)\])?.*", item).groups()  # type: ignore[union-attr]
            names.add(name)
            if name == "udr-icl":
                names |= {package for more in inner.split(",") for package in installs(more)}
        return names

    found = list(hints())
    assert len(found) > 20
    wrong = [
        (place, package, extra)
        for place, package, extra in found
        if same.get(package, {}).get(extra, package.replace("_", "-")) not in installs(extra)
    ]
    assert wrong == []


@pytest.mark.parametrize(("version", "refused"), [((3, 10, 13), True), ((3, 11, 0), False), ((3, 14, 1), False)])
def test_an_old_python_is_refused_in_one_line(version: tuple[int, ...], refused: bool) -> None:
    code = f"import sys; sys.version_info = {version}; sys.version = '{'.'.join(map(str, version))} (main)'; import udr"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert (result.returncode != 0) == refused
    if refused:
        expected = f"ImportError: udr needs Python 3.11 or newer; this is Python 3.10.13 in {sys.executable}; make an "
        assert result.stderr.splitlines()[-1].startswith(expected)
