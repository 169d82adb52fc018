"""``udr index``: build, verify and info, by exit code and output."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.tiny_models import save_encoder
from tests.udr.models.test_tokenizer import save_word_tokenizer
from udr.cli import main
from udr.models import SentenceEncoder, load_tokenizer
from udr.store import SearchSettings, read_current
from udr_index import Measured

NONE = SearchSettings()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("model") / "tiny")


def test_build_verify_info(model: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "index"
    build = ["index", "build", str(collection), "--model", str(model), "--out", str(out), "--tasks", "notes, questions"]

    assert main([*build, "--pool", "10", "--seed", "3", "--device", "cpu", "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert built == {
        "version": read_current(out),
        "path": str(out / "versions" / read_current(out)),
        "tasks": {"notes": 10, "questions": 10},
        "encoded": 20,
    }
    assert main([*build, "--pool", "10", "--seed", "3", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.endswith(f"version {built['version']}, 20 demonstrations of 2 tasks, 0 encoded\n")

    assert main(["index", "verify", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: whole\n"
    assert main(["index", "verify", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"whole": True, "findings": []}

    assert main(["index", "info", str(out), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["version"] == built["version"]
    assert (info["encoder"]["name"], info["encoder"]["dimension"]) == (str(model), 32)
    tokenizer = {"name": str(model), "fingerprint": load_tokenizer(str(model)).fingerprint}
    assert (info["tokenizer"], info["dtype"]) == (tokenizer, "float32")
    assert info["tasks"]["notes"] == {"family": "mood", "count": 10, "kind": "flat", "bm25": False, "search": None}
    assert main(["index", "info", str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"tokenizer {model} ({tokenizer['fingerprint']})\n" in shown
    assert "10  mood/notes  flat" in shown


def test_info_says_where_no_tokens_are_counted(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "info", str(index)]) == 0
    assert "\ntokenizer none\n" in capsys.readouterr().out
    assert main(["index", "info", str(index), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokenizer"] is None


def test_every_option_of_a_build_reaches_it(
    model: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "index"
    build = ["index", "build", str(collection), "--model", str(model), "--out", str(out), "--device", "cpu", "--json"]
    assert main([*build, "--pool", "10"]) == 0
    capsys.readouterr()

    tokenizer = save_word_tokenizer(tmp_path / "words")
    options = ["--kind", "IVF2,Flat", "--flat-below", "19", "--bm25", "--threads", "2", "--reuse", str(out)]
    options += ["--tokenizer", str(tokenizer)]
    assert main([*build, *options]) == 0
    built = json.loads(capsys.readouterr().out)
    assert built["encoded"] < 62 - 3 * 9
    assert main(["index", "info", str(out), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["tokenizer"]["name"] == str(tokenizer)
    assert info["tasks"]["reviews"]["kind"] == "flat"
    assert info["tasks"]["questions"] == {
        "family": "topic",
        "count": 24,
        "kind": "IVF2,Flat",
        "bm25": True,
        "search": {"parameters": "nprobe=1", "oversample": 4},
    }
    assert main([*build, "--dtype", "float16"]) == 0
    capsys.readouterr()
    assert main(["index", "info", str(out)]) == 0
    assert "(32 dimensions, cosine, float16, " in capsys.readouterr().out


def test_bench_keeps_what_reaches_a_recall_and_exits_with_3_where_nothing_does(
    model: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "index"
    build = ["index", "build", str(collection), "--model", str(model), "--out", str(out), "--device", "cpu"]
    assert main([*build, "--kind", "IVF2,Flat", "--flat-below", "19"]) == 0
    capsys.readouterr()

    assert main(["index", "bench", str(out), "--recall", "1", "--k", "5", "--fp16", "--json"]) == 0
    measured = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["task"], one["recall"]) for one in measured] == [("notes", 1), ("questions", 1), ("reviews", 1)]
    assert measured[2]["settings"] is None
    assert main(["index", "info", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"]["notes"]["search"] == measured[0]["settings"]

    monkeypatch.setattr(
        sys.modules["udr_index.bench"],
        "measure",
        lambda *_: Measured(task="notes", kind="x", settings=NONE, recall=0.5, milliseconds=1),
    )
    assert main(["index", "bench", str(out), "--tasks", "notes"]) == 2
    capsys.readouterr()
    assert main(["index", "bench", str(out)]) == 3
    shown, err = capsys.readouterr()
    assert "notes  x  recall@10 0.500  1.00 ms" in shown
    assert err == f"udr: error: {out}: recall 0.95 is not reached for notes, notes, notes\n"


def test_verify_compares_vectors_with_the_encoder(
    model: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "index"
    build = ["index", "build", str(collection), "--model", str(model), "--out", str(out), "--device", "cpu"]
    assert main(build) == 0
    encode = SentenceEncoder.encode_demonstrations
    monkeypatch.setattr(SentenceEncoder, "encode_demonstrations", lambda self, texts: -encode(self, texts))
    capsys.readouterr()

    assert main(["index", "verify", str(out)]) == 3
    shown, err = capsys.readouterr()
    assert "partitions/notes/vectors.npy: 16 of 16 vectors are not what the encoder gives now" in shown
    assert err == f"udr: error: {out}: is not whole, 3 findings\n"
    assert main(["index", "verify", str(out), "--sample", "0"]) == 0
    assert main(["index", "verify", str(out), "--sample", "-5"]) == 2


def test_verify_prints_a_line_for_each_finding_and_exits_with_3(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = copy / "versions" / read_current(copy)
    (version / "demonstrations.sqlite").unlink()
    (version / "extra").write_bytes(b"")

    assert main(["index", "verify", str(copy)]) == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"versions/{version.name}/demonstrations.sqlite: is missing",
        f"versions/{version.name}/extra: does not belong to the version",
    ]
    assert err == f"udr: error: {copy}: is not whole, 2 findings\n"

    assert main(["index", "verify", str(copy), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["whole"], len(found["findings"])) == (False, 2)
    assert found["findings"][0] == {"path": f"versions/{version.name}/demonstrations.sqlite", "problem": "is missing"}


def test_a_file_s_name_that_is_no_text_is_printed_escaped(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(os.fsdecode(os.fsencode(copy) + b"/extra\xff")).write_bytes(b"")

    assert main(["index", "verify", str(copy)]) == 3
    assert capsys.readouterr().out == "extra\\udcff: does not belong to the index\n"
    assert main(["index", "verify", str(copy), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["findings"][0]["path"] == "extra\udcff"


def test_verify_of_no_folder_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "verify", str(tmp_path / "none")]) == 3
    assert "no such folder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["build", "/no/such", "--out", "OUT"], 2, "/no/such: no such folder of tasks"),
        (
            ["build", "TASKS", "--out", "OUT", "--tasks", "notes,nope"],
            1,
            "unknown task 'nope'; there are notes, questions",
        ),
        (["build", "TASKS", "--out", "OUT", "--pool", "0"], 2, "at least 1 demonstration a task, found 0"),
        (["build", "TASKS", "--out", "OUT", "--model", "package:nope"], 1, "no installed package 'nope'"),
        (["info", "OUT"], 1, "no index here"),
        (["build", "TASKS", "--out", "OUT", "--tasks", ", "], 2, "a list of names, separated by commas, was expected"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(
    collection: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    names = {"TASKS": str(collection), "OUT": str(tmp_path / "out")}

    assert main(["index", *(names.get(argument, argument) for argument in arguments)]) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("udr: error: ") and message in err
    assert not (tmp_path / "out").exists()
