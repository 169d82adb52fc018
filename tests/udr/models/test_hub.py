"""Model names: where each leads, and what a name that leads nowhere gets."""

import hashlib
from io import BufferedReader
from pathlib import Path

import pytest

from udr.errors import ModelError
from udr.models import fingerprint, is_local, locate


def write(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package whose code must never run."""
    write(tmp_path / "shipped_model" / "__init__.py", "raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "shipped_model"


def test_a_path_is_itself(tmp_path: Path) -> None:
    assert locate(str(tmp_path)) == tmp_path.resolve()
    assert is_local(str(tmp_path))


@pytest.mark.parametrize("file", ["modules.json", "config.json", "lm.gguf"])
def test_a_package_leads_to_the_model_it_ships_and_is_not_imported(package: Path, file: str) -> None:
    model = write(package / "data" / file)

    assert locate("package:shipped_model") == (model if file.endswith("gguf") else model.parent)
    assert not is_local("package:shipped_model")


def test_a_package_may_name_a_part(package: Path) -> None:
    one, other = write(package / "a" / "x.gguf"), write(package / "b" / "y.gguf")

    assert locate("package:shipped_model/a/x.gguf") == one
    assert locate("package:shipped_model/b") == other.parent
    with pytest.raises(ModelError, match=r"exactly one model; found a/x.gguf, b/y.gguf"):
        locate("package:shipped_model")
    with pytest.raises(ModelError, match="package 'shipped_model' contains no 'c'"):
        locate("package:shipped_model/c")


def test_a_package_without_a_model_is_named(package: Path) -> None:
    write(package / "__init__.py")

    with pytest.raises(ModelError, match=r"must contain exactly one model.*found none"):
        locate("package:shipped_model")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_model", "no installed package 'no_such_model'; run: pip install no-such-model"),
        ("package:", "no installed package ''"),
        ("package:json.decoder", "no installed package 'json.decoder'"),
        ("package:string", "no installed package 'string'"),
        ("./no/such/folder", "no such file or folder"),
        ("a/b/c", "no such file or folder"),
        ("no-such-organisation/no-such-model", "not a path on this machine, and cannot be downloaded from the hub"),
        ("not a name\0", "not a path on this machine, and cannot be downloaded from the hub"),
    ],
)
def test_a_name_that_leads_nowhere_gets_one_line(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        locate(name)
    assert "\n" not in str(caught.value)


def test_a_fingerprint_stands_for_what_the_model_computes(tmp_path: Path) -> None:
    write(tmp_path / "a" / "model.safetensors", "weights")
    write(tmp_path / "a" / "1_Pooling" / "config.json", "pooling")
    first = fingerprint(tmp_path / "a")

    write(tmp_path / "a" / "README.md", "a card says nothing")
    assert fingerprint(tmp_path / "a") == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprint(tmp_path / "b") == first
    write(tmp_path / "b" / "1_Pooling" / "config.json", "other pooling")
    assert fingerprint(tmp_path / "b") != first
    assert fingerprint(write(tmp_path / "x.gguf", "1")) != fingerprint(write(tmp_path / "x.gguf", "2"))


def test_files_are_read_once_for_their_fingerprint_and_anew_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write(tmp_path / "model.safetensors", "some")
    digests: list[object] = []
    real = hashlib.file_digest

    def counted(stream: BufferedReader, name: str) -> object:
        digests.append(stream.name)
        return real(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before and len(digests) == 1
    write(weights, "more")
    assert fingerprint(tmp_path) != before and len(digests) == 2
