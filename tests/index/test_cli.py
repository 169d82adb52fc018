"""``udr index``: build, verify and info, by exit code and output."""

import json
import shutil
from pathlib import Path

import pytest

from tests.tiny_models import save_encoder
from udr import cli
from udr.store import read_current


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def copy(index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index, tmp_path / "copy"))


def test_build_verify_info(model: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "index"
    build = ["index", "build", str(collection), "--model", str(model), "--out", str(out), "--tasks", "notes,questions"]

    assert cli.main([*build, "--pool", "10", "--seed", "3", "--device", "cpu", "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert built == {
        "version": read_current(out),
        "path": str(out / "versions" / read_current(out)),
        "tasks": {"notes": 10, "questions": 10},
        "encoded": 20,
    }
    assert cli.main([*build, "--pool", "10", "--seed", "3", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.endswith(f"version {built['version']}, 20 demonstrations of 2 tasks, 0 encoded\n")

    assert cli.main(["index", "verify", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: whole\n"
    assert cli.main(["index", "verify", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"whole": True, "findings": []}

    assert cli.main(["index", "info", str(out), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["version"] == built["version"]
    assert (info["encoder"]["name"], info["encoder"]["dimension"]) == (str(model), 32)
    assert info["tasks"]["notes"] == {"family": "mood", "count": 10, "kind": "flat"}
    assert cli.main(["index", "info", str(out)]) == 0
    assert "10  mood/notes  flat" in capsys.readouterr().out


def test_verify_prints_a_line_for_each_finding_and_exits_with_3(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = copy / "versions" / read_current(copy)
    (version / "demonstrations.sqlite").unlink()
    (version / "extra").write_bytes(b"")

    assert cli.main(["index", "verify", str(copy)]) == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"versions/{version.name}/demonstrations.sqlite: is missing",
        f"versions/{version.name}/extra: does not belong to the version",
    ]
    assert err == f"udr: error: {copy}: is not whole, 2 findings\n"

    assert cli.main(["index", "verify", str(copy), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["whole"], len(found["findings"])) == (False, 2)
    assert found["findings"][0] == {"path": f"versions/{version.name}/demonstrations.sqlite", "problem": "is missing"}


def test_verify_of_no_folder_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["index", "verify", str(tmp_path / "none")]) == 3
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

    assert cli.main(["index", *(names.get(argument, argument) for argument in arguments)]) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("udr: error: ") and message in err
    assert not (tmp_path / "out").exists()
