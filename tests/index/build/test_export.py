"""An index carries its encoder for ONNX Runtime, by default or added later; without the exporter, a notice says so."""

import json
import logging
import re
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.fakes import HashEncoder
from tests.tiny_models import save_encoder
from udr import Retriever, models
from udr.cli import main
from udr.errors import ArtifactError, ConfigError, MissingExtraError, VerificationError
from udr.installation import install_extra
from udr.models import PROBES, OnnxEncoder, SentenceEncoder, agreement
from udr.store import (
    ENCODER,
    MANIFEST,
    IndexVersion,
    exported_encoder,
    open_version,
    publish,
    read_current,
    read_weights,
    seal,
    verify,
    write_weights,
)
from udr_index import bench_engines
from udr_index.build import BuildConfig, build
from udr_index.versions import diff_versions, export_encoder
from udr_index.versions.live import compact


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("models") / "tiny", seed=3)


@pytest.fixture(scope="module")
def made(collection: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that carries its encoder. Do not write to it."""
    out = tmp_path_factory.mktemp("carried") / "index"
    build(BuildConfig(tasks=collection, out=out, model=str(model), device="cpu"))
    return out


@pytest.fixture
def carried(made: Path, tmp_path: Path) -> IndexVersion:
    """The version of a copy that a test may change."""
    return open_version(Path(shutil.copytree(made, tmp_path / "index")))


def forge(version: IndexVersion, path: str, content: bytes) -> Path:
    """Replace a file of a version, as its author could: the manifest agrees."""
    (version.path / path).write_bytes(content)
    keys = json.loads((version.path / MANIFEST).read_bytes())
    keys["files"][path] = {"size": len(content), "sha256": sha256(content).hexdigest()}
    del keys["sha256"]
    (version.path / MANIFEST).write_bytes(seal(keys))
    return version.path.parents[1]


def test_a_build_carries_the_encoder_and_what_it_was_made_from(
    made: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = open_version(made)
    names = {"encoder.json", "query/graph.onnx", "query/tokenizer.json", "tokenizer/tokenizer.json"}
    assert {f"{ENCODER}/{name}" for name in names} <= version.manifest.files.keys() and verify(made) == []
    assert main(["index", "info", str(made), "--json"]) == 0
    export = json.loads(capsys.readouterr().out)["export"]
    assert export["fingerprint"] == version.manifest.encoder.fingerprint and export["agreement"] > 0.999999
    assert main(["index", "info", str(made)]) == 0
    assert "exported for ONNX Runtime, agreement with torch 1.0000000" in capsys.readouterr().out

    with Retriever.open(made) as retriever:
        encoder = retriever.encoder
    assert isinstance(encoder, OnnxEncoder)
    expected = SentenceEncoder.load(str(model), "cpu")
    assert agreement(expected.encode_queries(PROBES), encoder.encode_queries(PROBES)) > 0.999999
    assert agreement(expected.encode_demonstrations(PROBES), encoder.encode_demonstrations(PROBES)) > 0.999999


def test_it_is_used_on_the_cpu_alone_unless_another_engine_is_wanted(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = open_version(made)
    assert isinstance(exported_encoder(version), OnnxEncoder)
    assert isinstance(exported_encoder(version, "cpu", "onnx"), OnnxEncoder)
    assert exported_encoder(version, "cuda") is None and exported_encoder(version, "cpu", "torch") is None
    # With a GPU, where the best device is not the CPU.
    monkeypatch.setattr("udr.store.own_encoder.encodes_on_cpu", lambda device: device == "cpu")
    assert exported_encoder(version) is None and isinstance(exported_encoder(version, engine="onnx"), OnnxEncoder)


def test_without_an_export_all_is_as_before_and_one_can_be_added_as_the_version_that_a_build_makes(
    collection: Path, model: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "index"
    kinds = ["--kind", "hnsw", "--flat-below", "20"]
    command = ["index", "build", str(collection), "--out", str(out), "--model", str(model), "--device", "cpu", *kinds]
    assert main([*command, "--no-export"]) == 0
    plain = open_version(out)
    assert not plain.has_export
    with Retriever.open(out, device="cpu") as retriever:
        assert isinstance(retriever.encoder, SentenceEncoder)
        expected = retriever.retrieve("questions", "Who owns the boat?", k=5)

    capsys.readouterr()
    write_weights(plain.path, plain.manifest, {"questions": 0.1})
    assert main(["index", "export-encoder", str(out)]) == 0
    added = open_version(out)
    assert read_weights(added.path, added.manifest) == {"questions": 0.1}
    assert added.manifest.version in capsys.readouterr().out
    assert added.has_export and verify(out) == [] and added.manifest.version != plain.manifest.version
    (difference,) = diff_versions(out, plain.manifest.version, added.manifest.version).differences
    assert (difference.path, difference.old, difference.new) == ("export", None, "onnx")
    vectors = "partitions/questions/vectors.npy"
    assert (added.path / vectors).samefile(plain.path / vectors)
    with Retriever.open(out) as retriever:
        assert isinstance(retriever.encoder, OnnxEncoder)
        assert [item.id for item in retriever.retrieve("questions", "Who owns the boat?", k=5)] == [
            item.id for item in expected
        ]

    assert main(["index", "export-encoder", str(out)]) == 0
    assert capsys.readouterr().out.endswith("already carries its encoder\n")
    # What is measured in the version without goes to the one with an export that was made before, too.
    for weight in (0.3, 0.7):
        publish(out, plain.manifest.version)
        write_weights(plain.path, plain.manifest, {"questions": weight})
        assert main(["index", "export-encoder", str(out)]) == 0
        assert read_weights(added.path, added.manifest) == {"questions": weight}
    # Pruning the old version leaves the shared files.
    assert main(["index", "prune", str(out), "--keep", "1"]) == 0 and verify(out) == []
    assert main([*command[:4], str(tmp_path / "again"), *command[5:]]) == 0
    assert open_version(tmp_path / "again").manifest.version == added.manifest.version


def test_a_build_for_8_bits_carries_both_graphs_and_can_be_made_of_any_version(
    collection: Path, model: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, command = tmp_path / "index", ["index", "build", str(collection), "--model", str(model), "--device", "cpu"]
    assert main([*command, "--out", str(out), "--engine", "onnx-int8"]) == 0
    version = open_version(out)
    graphs = {f"{ENCODER}/query/{name}" for name in ("graph.onnx", "graph-int8.onnx")}
    assert graphs <= version.manifest.files.keys() and version.has_int8 and verify(out) == []
    assert version.manifest.version != open_version(made).manifest.version
    capsys.readouterr()
    assert main(["index", "info", str(out), "--json"]) == 0
    assert 0.9 < json.loads(capsys.readouterr().out)["export"]["int8_agreement"] <= 1
    assert main(["index", "info", str(out)]) == 0 and "; queries in 8 bits " in capsys.readouterr().out
    # Float32 is the default; 8 bits are used on request.
    exact, other = exported_encoder(version, "cpu"), exported_encoder(version, None, "onnx-int8")
    assert exact is not None and other is not None
    assert (exact.runtime, other.runtime) == ("onnx", "onnx-int8")
    vectors = exact.encode_queries(PROBES), other.encode_queries(PROBES)
    assert agreement(*vectors) > 0.9 and not np.array_equal(*vectors)

    # An index without it says so, and gets it as the version that a build makes.
    added = Path(shutil.copytree(made, tmp_path / "added"))
    with pytest.raises(ConfigError, match="carries its encoder for engine 'onnx' alone, not for 'onnx-int8'; run: udr"):
        exported_encoder(open_version(added), "cpu", "onnx-int8")
    assert main(["index", "export-encoder", str(added), "--engine", "onnx-int8"]) == 0
    assert open_version(added).manifest.version == version.manifest.version and verify(added) == []
    (difference,) = diff_versions(added, open_version(made).manifest.version, version.manifest.version).differences
    assert (difference.old, difference.new) == ("onnx", "onnx-int8")
    assert main(["index", "export-encoder", str(added)]) == 0
    assert capsys.readouterr().out.endswith("already carries its encoder\n")
    # The version of before is untouched.
    assert main(["index", "publish", str(added), open_version(made).manifest.version]) == 0 and verify(added) == []


def test_an_engine_that_was_asked_for_and_cannot_be_had_is_an_error(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="an index carries its encoder for onnx or onnx-int8; found 'torch'"):
        BuildConfig(tasks=collection, out=tmp_path, engine="torch")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="engine 'onnx-int8' needs the export of the encoder; omit --no-export"):
        BuildConfig(tasks=collection, out=tmp_path, engine="onnx-int8", export=False)
    with pytest.raises(ConfigError, match="for onnx or onnx-int8; found 'openvino'"):
        export_encoder(tmp_path, engine="openvino")
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    without_exporter(monkeypatch)
    config = BuildConfig(
        tasks=collection, out=tmp_path, model=str(save_encoder(tmp_path / "model")), device="cpu", engine="onnx-int8"
    )
    with pytest.raises(MissingExtraError, match="onnx, which exports encoders, is not installed"):
        build(config)


def test_engines_are_compared_on_this_processor(
    collection: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = BuildConfig(tasks=collection, out=tmp_path, model=str(model), device="cpu", engine="onnx-int8")
    build(config)
    measured = bench_engines(open_version(tmp_path), queries=20, rounds=1)
    names = ["onnx", "onnx-int8", *(["openvino"] if find_spec("openvino") else [])]
    assert [item.engine for item in measured] == names
    exact, other = measured[:2]
    assert (exact.gain, exact.shared) == (1, 1) and exact.worst == pytest.approx(1, abs=1e-5)
    assert 0.9 < other.worst <= other.agreement < 1.00001 and 0.5 < other.shared <= 1
    assert all(item.texts_a_second > 0 and item.milliseconds > 0 for item in measured)
    capsys.readouterr()

    assert main(["index", "bench", str(tmp_path), "--engines", "--queries", "8", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    rates = {item["engine"]: item["texts_a_second"] for item in result["engines"]}
    assert list(rates) == names and rates[result["fastest"]] == max(rates.values())
    assert main(["index", "bench", str(tmp_path), "--engines", "--queries", "8"]) == 0
    assert re.search(r"\nfastest: (\S+); use it: udr serve .* --engine \1\n$", capsys.readouterr().out)


def test_engines_of_an_index_without_its_encoder_cannot_be_compared(
    collection: Path, model: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(BuildConfig(tasks=collection, out=tmp_path, model=str(model), device="cpu", export=False))
    with pytest.raises(ArtifactError, match="carries no encoder whose engines could be compared; run: udr index"):
        bench_engines(open_version(tmp_path))
    with pytest.raises(ConfigError, match="queries and rounds must be at least 1; found 0 and 5"):
        bench_engines(open_version(made), queries=0)
    capsys.readouterr()
    assert main(["index", "bench", str(made), "--engines", "--queries", "8"]) == 0
    assert "onnx-int8 is not in this index; add it: udr index export-encoder" in capsys.readouterr().out


def test_a_version_that_was_added_before_is_published_again(collection: Path, model: Path, tmp_path: Path) -> None:
    config = BuildConfig(tasks=collection, out=tmp_path, model=str(model), device="cpu", export=False)
    plain = build(config).version
    added = export_encoder(tmp_path)
    assert main(["index", "publish", str(tmp_path), plain]) == 0
    assert export_encoder(tmp_path) == added and added.previous == plain


def test_a_model_with_files_named_as_those_of_a_version_is_kept_whole(
    collection: Path, model: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(model, tmp_path / "own"))
    for name in (MANIFEST, "search.json"):
        (own / name).write_text("{}")
    out = tmp_path / "index"
    build(BuildConfig(tasks=collection, out=out, model=str(own), device="cpu", export=False))
    export_encoder(out)
    added = open_version(out)
    assert added.has_export and verify(out) == []
    assert {f"model/{MANIFEST}", "model/search.json"} <= added.manifest.files.keys()


def test_an_export_replaces_all_files_of_an_older_one(carried: IndexVersion) -> None:
    root = carried.path.parents[1]
    forge(carried, f"{ENCODER}/of-an-older-exporter", b"")
    export_encoder(root, engine="onnx-int8")
    added = open_version(root)
    assert added.has_int8 and f"{ENCODER}/of-an-older-exporter" not in added.manifest.files
    assert [finding for finding in verify(root) if added.manifest.version in finding.path] == []


def test_label_heads_of_an_older_udr_do_not_get_the_name_of_new_ones(
    collection: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A later build would find the name, and keep the old heads."""
    heads = BuildConfig(
        tasks=collection, out=tmp_path / "heads", model=str(model), device="cpu", export=False, label_head=True
    )
    with monkeypatch.context() as older:
        older.setattr("udr_index.build.identity.RECIPE", 4)
        older.setattr("udr_index.build.identity.FIELDS_RECIPE", 5)
        old = build(heads).version
    with pytest.raises(ConfigError, match=r"an older udr built it, and may .*; build it again, .*: udr index build"):
        export_encoder(heads.out)
    assert read_current(heads.out) == old and verify(heads.out) == []
    assert build(heads).version != old
    export_encoder(heads.out)
    assert open_version(heads.out).has_export
    publish(heads.out, old)
    with Retriever.open(heads.out) as retriever:
        retriever.delete("notes", "n01")
    compact(heads.out)
    assert f"{old}: an older udr built it; label heads are fitted as without options" in caplog.text


def test_an_export_that_is_damaged_on_its_way_is_not_published(
    collection: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build(BuildConfig(tasks=collection, out=tmp_path, model=str(model), device="cpu", export=False)).version

    def damage(folder: Path) -> None:
        (folder / "partitions" / "notes" / "vectors.npy").unlink()

    monkeypatch.setattr("udr_index.versions.export.sync_tree", damage)
    with pytest.raises(VerificationError, match=r"is damaged and was not published: .*vectors\.npy: is missing"):
        export_encoder(tmp_path)
    assert open_version(tmp_path).manifest.version == plain


def without_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.models.onnx.export.find_spec", lambda name: None)


def without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for package in (models, models.onnx):
        for name in ("OnnxEncoder", "exported", "onnx_encoder"):
            monkeypatch.delitem(vars(package), name, raising=False)
    for name in ("encoder", "export"):
        monkeypatch.delitem(sys.modules, f"udr.models.onnx.{name}", raising=False)


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (without_exporter, f"onnx, which exports encoders, is not installed; run: {install_extra('index')}"),
        (without_onnxruntime, f"onnxruntime is not installed; run: {install_extra('onnx')}"),
    ],
    ids=["exporter", "onnxruntime"],
)
def test_without_the_exporter_or_onnxruntime_one_notice_names_it(
    collection: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    missing: Callable[[pytest.MonkeyPatch], None],
    named: str,
) -> None:
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    missing(monkeypatch)
    model = str(save_encoder(tmp_path / "model"))
    built = build(BuildConfig(tasks=collection, out=tmp_path / "index", model=model, device="cpu"))
    (notice,) = [message for message in caplog.messages if "does not carry its encoder" in message]
    assert notice.endswith(named)
    assert not (built.path / ENCODER).exists()


def test_an_encoder_of_the_callers_own_is_not_exported(collection: Path, tmp_path: Path) -> None:
    built = build(BuildConfig(tasks=collection, out=tmp_path), HashEncoder())
    assert not (built.path / ENCODER).exists()


def test_without_onnxruntime_the_model_is_loaded_with_one_notice(
    made: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("udr.store.own_encoder.find_spec", lambda name: None)
    caplog.set_level(logging.WARNING, "udr")
    with Retriever.open(made, device="cpu") as retriever:
        assert isinstance(retriever.encoder, SentenceEncoder)
    (notice,) = caplog.messages
    assert notice.endswith(f"not used, since onnxruntime is not installed; run: {install_extra('onnx')}")


def test_an_index_is_verified_and_measured_by_its_export_if_its_model_may_not_be_loaded(
    carried: IndexVersion, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = forge(carried, "model/config.json", b"{}")
    # A model in the index that did not build it is no reason to use another.
    assert main(["index", "verify", str(root)]) == 1
    assert "has fingerprint" in capsys.readouterr().err
    keys = json.loads((carried.path / MANIFEST).read_bytes())
    keys["encoder"]["name"] = "someone/model"
    keys["files"] = {path: stamp for path, stamp in keys["files"].items() if not path.startswith("model/")}
    del keys["sha256"]
    (carried.path / MANIFEST).write_bytes(seal(keys))
    shutil.rmtree(carried.path / "model")
    assert main(["index", "verify", str(root)]) == 0
    assert capsys.readouterr().out == f"{root}: intact\n" and "pass --allow-hub" in caplog.text
    assert caplog.messages[-1].endswith("; the export of the encoder in the index is used")
    assert main(["index", "bench", str(root), "--k", "3", "--queries", "20"]) == 0
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()] == ["1.000"] * len(
        carried.manifest.partitions
    )


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("query/graph.onnx", b"no graph", "onnxruntime cannot open it"),
        ("query/tokenizer.json", b"{}", "cannot be read"),
        ("encoder.json", b"[]", "is not the description of an exported encoder"),
        ("encoder.json", b'{"version": 9}', "the export has format 9, but this udr reads format"),
        ("encoder.json", b'{"version": 2, "int8_agreement": "a"}', "is not the description of an exported encoder"),
    ],
)
def test_an_export_that_cannot_be_read_is_replaced_by_the_model_with_a_warning(
    carried: IndexVersion, path: str, content: bytes, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = forge(carried, f"{ENCODER}/{path}", content)
    with Retriever.open(root, device="cpu") as retriever:
        assert isinstance(retriever.encoder, SentenceEncoder)
    assert message in caplog.text and "loading the model that was exported" in caplog.text


@pytest.mark.parametrize(("key", "value"), [("fingerprint", "0" * 16), ("metric", "dot")])
def test_an_export_of_another_encoder_is_refused(carried: IndexVersion, key: str, value: str) -> None:
    path = f"{ENCODER}/encoder.json"
    keys = json.loads((carried.path / path).read_bytes())
    root = forge(carried, path, json.dumps({**keys, key: value}).encode())
    with pytest.raises(ArtifactError, match=f"with {key} "):
        Retriever.open(root, device="cpu")


def test_a_graph_with_vectors_of_another_dimension_is_not_used(
    carried: IndexVersion, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"{ENCODER}/encoder.json"
    keys = json.loads((carried.path / path).read_bytes())
    root = forge(carried, path, json.dumps({**keys, "dimension": 8}).encode())
    assert exported_encoder(open_version(root), "cpu") is None
    assert "must return vectors of 8 numbers, found outputs of shapes" in caplog.text


def test_weights_outside_the_version_are_not_read(
    carried: IndexVersion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = carried.path / ENCODER / "query/graph.onnx"
    loaded = onnx.load(graph, load_external_data=False)
    external = [tensor for tensor in loaded.graph.initializer if tensor.external_data]
    assert external
    shutil.copy(graph.with_name("graph.onnx.data"), tmp_path / "outside.data")
    for tensor in external:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(Path("../../../../..") / "outside.data")
    root = forge(carried, f"{ENCODER}/query/graph.onnx", loaded.SerializeToString())
    assert exported_encoder(open_version(root), "cpu") is None
    assert "outside.data" in caplog.text
