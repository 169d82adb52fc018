"""``udr index build``, ``verify``, ``bench`` and ``info``, by exit code and output."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import save_encoder
from tests.udr.models.test_tokenizer import save_word_tokenizer
from tests.udr.store.test_version import rewrite_manifest
from udr import Retriever, Row
from udr.cli import main
from udr.models import SentenceEncoder, load_tokenizer
from udr.store import open_version, read_current
from udr_index.build import build_partition


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def original(model: Path, collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("index") / "out"
    build = ["index", "build", str(collection), "--model", str(model), "--out", str(out), "--device", "cpu"]
    assert main([*build, "--kind", "IVF2,Flat", "--flat-below", "19"]) == 0
    return out


@pytest.fixture
def real(original: Path, tmp_path: Path) -> Path:
    """An index by a real encoder; reviews are flat, notes and questions are not."""
    return Path(shutil.copytree(original, tmp_path / "real"))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """Run ``udr index`` without error, and return its output, parsed if it is one line of JSON."""
    capsys.readouterr()
    assert main(["index", *map(str, arguments)]) == 0
    out = capsys.readouterr().out
    return json.loads(out) if "--json" in arguments and out.count("\n") == 1 else out


def test_build_verify_info(model: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "index"
    build: list[object] = ["build", collection, "--model", model, "--out", out, "--tasks", "notes, questions"]
    build += ["--pool", 10, "--seed", 3, "--device", "cpu"]

    built = run(capsys, *build, "--json")
    assert built == {
        "version": read_current(out),
        "path": str(out / "versions" / read_current(out)),
        "tasks": {"notes": 10, "questions": 10},
        "encoded": 20,
    }
    again = "is ready, with 20 demonstrations of 2 tasks; nothing is new since an earlier build\n"
    again += f"Next: udr serve {out}\n"
    assert run(capsys, *build).endswith(again)
    assert run(capsys, "verify", out) == f"{out}: intact\n"
    assert run(capsys, "verify", out, "--json") == {"whole": True, "findings": []}

    info = run(capsys, "info", out, "--json")
    tokenizer = {"name": str(model), "fingerprint": load_tokenizer(str(model)).fingerprint}
    assert (info["version"], info["tokenizer"], info["dtype"]) == (built["version"], tokenizer, "float32")
    assert list(info["encoder"]) == ["name", "fingerprint", "dimension", "metric"]
    assert (info["encoder"]["name"], info["encoder"]["dimension"]) == (str(model), 32)
    notes = {"family": "mood", "count": 10, "kind": "flat", "bm25": True}
    assert info["tasks"]["notes"] == notes | dict.fromkeys(("hybrid_weight", "search", "label_head"))
    shown = run(capsys, "info", out)
    assert f"tokenizer {model} ({tokenizer['fingerprint']})\n" in shown and "10  mood/notes  flat" in shown


def test_info_of_an_index_without_token_counts(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\ntokenizer none\n" in run(capsys, "info", index)
    assert run(capsys, "info", index, "--json")["tokenizer"] is None


def test_every_option_reaches_the_build(
    model: Path, real: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer, out = save_word_tokenizer(tmp_path / "words"), tmp_path / "out"
    build = ["build", collection, "--model", model, "--out", out, "--device", "cpu", "--json"]
    options = ["--kind", "IVF2,Flat", "--flat-below", 19, "--threads", 2, "--reuse", real, "--no-label-head"]

    assert run(capsys, *build, *options, "--tokenizer", tokenizer)["encoded"] == 0
    info = run(capsys, "info", out, "--json")
    assert info["tokenizer"]["name"] == str(tokenizer)
    assert info["tasks"]["reviews"]["kind"] == "flat"
    assert info["tasks"]["questions"] == {
        "family": "topic",
        "count": 24,
        "kind": "IVF2,Flat",
        "bm25": True,
        "search": {"parameters": "nprobe=1", "oversample": 4},
        "hybrid_weight": None,
        "label_head": None,
    }
    run(capsys, *build, "--dtype", "float16", "--no-bm25")
    assert "bm25" not in run(capsys, "info", out)
    assert "(32 dimensions, cosine, float16, " in run(capsys, "info", out)


def test_bench_stores_settings_and_exits_with_3_below_the_recall(
    real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run(capsys, "bench", real, "--recall", 1, "--k", 5, "--fp16", "--json")
    measured = [json.loads(line) for line in lines.splitlines()]
    assert list(measured[0]) == ["task", "kind", "settings", "recall", "milliseconds"]
    assert [(item["task"], item["recall"]) for item in measured] == [("notes", 1), ("questions", 1), ("reviews", 1)]
    assert measured[2]["settings"] is None
    assert run(capsys, "info", real, "--json")["tasks"]["notes"]["search"] == measured[0]["settings"]

    # An index of the opposite vectors proposes the most distant demonstrations.
    version = open_version(real)
    build_partition(version.path / "partitions/notes/index.faiss", "IVF2,Flat", -version.vectors("notes"), 1)
    assert main(["index", "bench", str(real), "--k", "1"]) == 3
    shown, err = capsys.readouterr()
    assert "notes  IVF2,Flat  recall@1 0." in shown
    assert err == f"udr: error: {real}: recall 0.95 is not reached for notes\n"


def test_verify_compares_vectors_with_the_encoder(
    real: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = SentenceEncoder.encode_demonstrations
    monkeypatch.setattr(SentenceEncoder, "encode_demonstrations", lambda self, texts: -encode(self, texts))

    assert main(["index", "verify", str(real)]) == 3
    shown, err = capsys.readouterr()
    assert "partitions/notes/vectors.npy: 16 of 16 vectors differ from the encoder's output" in shown
    assert err == f"udr: error: {real}: damaged, 3 findings\n"
    assert main(["index", "verify", str(real), "--sample", "0"]) == 0
    assert main(["index", "verify", str(real), "--sample", "-5"]) == 2


@pytest.mark.parametrize("options", [[], ["--sample", "0"]])
def test_verify_tells_whether_an_index_of_another_wording_is_intact(
    real: Path, options: list[str], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with Retriever.open(real) as retriever:
        retriever.put("notes", Row(id="new", input={"text": "a new day"}, target="glad"))
    rewrite_manifest(real, wording="0123456789abcdef")
    command = ["index", "verify", str(real), *options]

    assert main(command) == 0
    assert capsys.readouterr().out == f"{real}: intact\n"
    assert "only checksums are compared, not vectors" in caplog.text and "wording 0123456789abcdef" in caplog.text
    assert run(capsys, "verify", real, *options, "--json") == {"whole": True, "findings": []}

    log = real / "live" / "log"
    log.write_bytes(log.read_bytes().replace(b"a new day", b"a bad day"))
    assert main(command) == 3
    assert capsys.readouterr().out.startswith("live/log: ")


def test_verify_prints_a_line_per_finding(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"versions/{read_current(copy)}"
    (copy / name / "demonstrations.sqlite").unlink()
    # A name that is not valid text is printed escaped.
    Path(os.fsdecode(os.fsencode(copy) + b"/extra\xff")).write_bytes(b"")

    assert main(["index", "verify", str(copy)]) == 3
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == [
        "extra\\udcff: does not belong to the index",
        f"{name}/demonstrations.sqlite: is missing",
    ]
    assert err == f"udr: error: {copy}: damaged, 2 findings\n"
    assert main(["index", "verify", str(copy), "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert (result["whole"], len(result["findings"])) == (False, 2)
    assert {"path": f"{name}/demonstrations.sqlite", "problem": "is missing"} in result["findings"]
    assert main(["index", "verify", str(copy / "none")]) == 1
    assert "no index here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("build /no/such --out OUT", 2, "/no/such: no such folder of tasks"),
        ("build TASKS --out OUT --tasks notes,nope", 1, "unknown task 'nope'"),
        ("build TASKS --out OUT --pool 0", 2, "at least 1 demonstration per task, found 0"),
        ("build TASKS --out OUT --model package:nope", 1, "no installed package 'nope'"),
        ("build TASKS --out OUT --tasks ,", 2, "found ','"),
        ("info OUT", 1, "no index here"),
    ],
)
def test_errors_take_one_line_and_leave_nothing(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, status: int, message: str
) -> None:
    values = {"TASKS": str(collection), "OUT": str(tmp_path / "out")}

    assert main(["index", *(values.get(word, word) for word in command.split())]) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("udr: error: ") and message in err
    assert not (tmp_path / "out").exists()
