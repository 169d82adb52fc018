"""Encoders that are kept as a low-rank difference to another one."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import udr
from tests.tiny_models import save_encoder
from udr.data import ENCODER_WORDING
from udr.errors import ModelError
from udr.models import BASE_ENCODER, DEFAULT_ENCODER, SentenceEncoder, fingerprint, hub, locate

RANK, TEXTS = 2, ["a river", "the long road to the mill", "x"]
write = partial(
    hub.write_difference,
    rank=RANK,
    locate=locate,
    fingerprint=fingerprint,
    settings=lambda name: SentenceEncoder.load(name, "cpu").settings,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("models") / "base")


def trained(base: Path, folder: Path, rank: int = RANK, change: str = "dense.weight", scale: float = 0.2) -> Path:
    """A copy whose matrices of a name have another matrix of this rank added."""
    shutil.copytree(base, folder)
    weights, draw = load_file(folder / "model.safetensors"), np.random.default_rng(0)
    for name, matrix in weights.items():
        if name.endswith(change):
            added = draw.normal(size=(rank, matrix.ndim, max(matrix.shape)))
            outer = (
                sum(
                    np.multiply.outer(*(part[:size] for part, size in zip(each, matrix.shape, strict=True)))
                    for each in added
                )
                if matrix.ndim == 2
                else added[0, 0]
            )
            weights[name] = (matrix + scale * outer).astype(np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "udr.json").write_text(json.dumps({"encoder_wording": ENCODER_WORDING}), "utf-8")
    return folder


def vectors(name: str | Path) -> Any:
    return SentenceEncoder.load(str(name), "cpu").encode_queries(TEXTS)


def test_the_merged_encoder_is_the_trained_one(base: Path, tmp_path: Path) -> None:
    model, folder = trained(base, tmp_path / "trained"), tmp_path / "difference"
    size = write(folder, str(base), model, weight=1.0)
    assert size == sum(path.stat().st_size for path in folder.iterdir()) < 100_000
    expected, found = load_file(model / "model.safetensors"), load_file(locate(str(folder)) / "model.safetensors")
    for name, matrix in expected.items():
        np.testing.assert_allclose(found[name], matrix, atol=5e-3)
    np.testing.assert_allclose(vectors(folder), vectors(model), atol=5e-3)
    assert np.abs(vectors(folder) - vectors(base)).max() > 0.05


def test_a_smaller_weight_averages_with_the_base(base: Path, tmp_path: Path) -> None:
    model = trained(base, tmp_path / "trained")
    write(tmp_path / "half", str(base), model, weight=0.5)
    first, last = load_file(base / "model.safetensors"), load_file(model / "model.safetensors")
    for name, matrix in load_file(locate(str(tmp_path / "half")) / "model.safetensors").items():
        np.testing.assert_allclose(matrix, (first[name] + last[name]) / 2, atol=5e-3)


def test_weights_of_further_modules_are_kept(base: Path, tmp_path: Path) -> None:
    torch, modules = pytest.importorskip("torch"), pytest.importorskip("sentence_transformers.models")
    encoder = SentenceEncoder.load(str(base), "cpu").model
    size = encoder.get_embedding_dimension()
    torch.manual_seed(0)
    encoder.append(modules.Dense(size, 3))
    encoder.save(str(tmp_path / "base"))
    model = trained(tmp_path / "base", tmp_path / "trained")
    write(tmp_path / "difference", str(tmp_path / "base"), model, weight=1.0)
    assert vectors(model).shape == (len(TEXTS), 3)
    np.testing.assert_allclose(vectors(tmp_path / "difference"), vectors(model), atol=5e-3)


def test_it_is_merged_once_to_the_same_bytes(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "difference", str(base), trained(base, tmp_path / "trained"), weight=1.0)
    first = locate(str(tmp_path / "difference"))
    changed = (first / "model.safetensors").stat().st_mtime_ns
    assert locate(str(tmp_path / "difference")) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == changed
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "other"))
    assert fingerprint(locate(str(tmp_path / "difference"))) == fingerprint(first)


def test_who_may_read_its_folder_may_read_its_files(base: Path, tmp_path: Path) -> None:
    write(tmp_path / "difference", str(base), trained(base, tmp_path / "trained"), weight=1.0)
    merged = locate(str(tmp_path / "difference"))
    for folder in (tmp_path / "difference", merged):
        assert {path.stat().st_mode & 0o777 for path in filter(Path.is_file, folder.rglob("*"))} == {
            folder.stat().st_mode & 0o666
        }


def test_a_package_may_carry_one(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "carries_a_difference"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    write(package / "model" / "checkpoint", str(base), trained(base, tmp_path / "trained"), weight=1.0)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert SentenceEncoder.load("package:carries_a_difference").path.is_relative_to(tmp_path / "cache" / "merged")


def test_the_released_checkpoint_is_a_small_difference_to_the_installed_base(tmp_path: Path) -> None:
    folder = Path(udr.__file__).parent / "models" / "hub" / "checkpoint"
    keys = json.loads((folder / "difference.json").read_bytes())
    assert (keys["base"], keys["encoder_wording"]) == (BASE_ENCODER, ENCODER_WORDING)
    assert keys["base_fingerprint"] == fingerprint(locate(BASE_ENCODER))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= hub.MOST_BYTES
    # Merging it takes seconds, which tests/test_embedded_models.py spends.
    (merged := tmp_path / "cache" / "merged" / fingerprint(folder)).mkdir(parents=True)
    assert locate(DEFAULT_ENCODER) == merged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 3}, "differs from the base's by a rank above 2"),
        ({"change": "dense.bias"}, "differs from the base's and is no matrix; train with train.lora_rank"),
        ({"change": "nothing"}, "nothing was trained"),
    ],
)
def test_what_is_no_low_rank_difference_is_refused(
    base: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        write(tmp_path / "difference", str(base), trained(base, tmp_path / "trained", **options), weight=1.0)
    assert not (tmp_path / "difference").exists()


NORMALIZE = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "cls"}, r"has other modules than .* \(for example train.pooling"),
        ("modules.json", [NORMALIZE], "has other modules than"),
        ("config_sentence_transformers.json", {"prompts": {"query": "Q: "}}, "has other prompts than"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "dot"}, "has other similarity than"),
        ("tokenizer_config.json", {"model_max_length": 8}, ""),
    ],
    ids=str,
)
def test_other_settings_than_the_base_s_are_refused_but_for_the_window(
    base: Path, tmp_path: Path, file: str, change: Any, message: str
) -> None:
    model = trained(base, tmp_path / "trained")
    (model / "2_Normalize").mkdir()
    content = json.loads((model / file).read_bytes())
    (model / file).write_text(json.dumps(content + change if isinstance(change, list) else {**content, **change}))
    if not message:
        assert SentenceEncoder.load(str(model)).model.max_seq_length == 8
        assert write(tmp_path / "difference", str(base), model, weight=1.0)
        return
    with pytest.raises(ModelError, match=message):
        write(tmp_path / "difference", str(base), model, weight=1.0)
    assert not (tmp_path / "difference").exists()


def test_a_cache_that_cannot_be_written_is_an_error(base: Path, tmp_path: Path) -> None:
    write(tmp_path / "difference", str(base), trained(base, tmp_path / "trained"), weight=1.0)
    (tmp_path / "cache").touch()
    with pytest.raises(ModelError, match=r"cannot be merged with its base in .*: [A-Z].*; name a folder that can be"):
        locate(str(tmp_path / "difference"))


def test_another_base_is_refused(base: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(base, tmp_path / "base"))
    write(tmp_path / "difference", str(own), trained(base, tmp_path / "trained"), weight=1.0)
    shutil.rmtree(own)
    trained(base, own)
    with pytest.raises(ModelError, match=r"but the installed one has .*; install the version that it names"):
        locate(str(tmp_path / "difference"))


@pytest.mark.parametrize("keys", [{"weight": 0}, {"weight": "much"}, {"base": 3}, {"base": None}], ids=str)
def test_a_description_of_a_stranger_is_checked(base: Path, tmp_path: Path, keys: dict[str, Any]) -> None:
    write(tmp_path / "difference", str(base), trained(base, tmp_path / "trained"), weight=1.0)
    path = tmp_path / "difference" / "difference.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | keys), "utf-8")
    with pytest.raises(ModelError, match="does not describe a difference"):
        locate(str(tmp_path / "difference"))


def test_factors_that_do_not_fit_are_refused(base: Path, tmp_path: Path) -> None:
    write(tmp_path / "difference", str(base), trained(base, tmp_path / "trained"), weight=1.0)
    path = tmp_path / "difference" / "difference.safetensors"
    factors = load_file(path)
    name = next(name for name in factors if name.endswith(".up"))
    save_file({**factors, name: factors[name][:-1]}, path)
    with pytest.raises(ModelError, match="does not fit the base's matrix"):
        locate(str(tmp_path / "difference"))
