"""The command ``udr``, in process and from a shell: results to stdout, one line of error to stderr, exit codes."""

import json
import re
import resource
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import save_encoder
from udr import __version__
from udr.cli import GROUP, main
from udr.retrieval import Retriever
from udr_index.build import BuildConfig, build


@pytest.fixture(scope="module")
def real_index(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index by a tiny encoder in the real format, which travels with it."""
    folder = tmp_path_factory.mktemp("real")
    save_encoder(folder / "model")
    build(BuildConfig(tasks=collection, out=folder / "index", model=str(folder / "model"), device="cpu"))
    shutil.rmtree(folder / "model")
    return folder / "index"


class Run:
    """What a command did."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Run ``udr`` with these arguments and return status, stdout and stderr."""
        status = main([str(argument) for argument in arguments])
        return status, *self._capsys.readouterr()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def test_retrieve_prints_what_the_retriever_returns(run: Run, real_index: Path) -> None:
    status, out, _ = run("retrieve", real_index, "--task", "questions", "--k", 3, "--json", "Who sold the lake?")

    with Retriever.open(real_index, device="cpu") as retriever:
        assert json.loads(out) == retriever.retrieve("questions", "Who sold the lake?", 3).to_json()
    assert status == 0


def test_retrieve_takes_fields_families_exclusions_and_a_bound(run: Run, real_index: Path) -> None:
    fields = ("--input", "thing=lamp", "--input", "text=a = b\n{c} 🙂")
    _, out, _ = run("retrieve", real_index, "--task", "reviews", "--k", 2, "--json", *fields)
    first = json.loads(out)["demonstrations"]
    _, out, _ = run(
        "retrieve", real_index, "--task", "reviews", "--k", 2, "--json", *fields, "--exclude", first[0]["id"]
    )
    assert json.loads(out)["demonstrations"][0]["id"] == first[1]["id"]

    status, out, _ = run("retrieve", real_index, "--family", "mood", "--json", "--min-similarity", "2", "a day")
    assert (status, json.loads(out)["demonstrations"]) == (0, [])
    status, out, _ = run("retrieve", real_index, "--scope", "all", "--k", 62, "--json", "a day")
    assert {one["task"] for one in json.loads(out)["demonstrations"]} == {"questions", "notes", "reviews"}


def test_retrieve_is_readable_without_json(run: Run, real_index: Path) -> None:
    status, out, _ = run("retrieve", real_index, "--task", "questions", "--k", 2, "Who sold the lake?")

    lines = out.splitlines()
    assert status == 0
    assert len(lines) == 6
    assert lines[0].split()[0] == "1" and lines[0].split()[2] == "questions"
    assert lines[1].startswith("     Question: ")


def test_prompt_prints_a_prompt_within_its_budget(run: Run, real_index: Path) -> None:
    budget = ("--budget", "300", "--reserve", "20")
    status, out, _ = run("prompt", real_index, "--task", "questions", "--k", 8, *budget, "--json", "Who sold the lake?")

    answer = json.loads(out)
    assert status == 0
    assert set(answer) == {"prompt", "tokens", "demonstrations", "index_version", "model"}
    assert answer["prompt"].endswith("\n\nQuestion: Who sold the lake?\nAnswer type:")
    # The tiny encoder's tokenizer, which is the default, counts bytes and one for BOS.
    assert answer["tokens"] == len(answer["prompt"].encode()) + 1 <= 280
    assert {"id", "task", "similarity", "tokens"} <= set(answer["demonstrations"][0])
    _, text, _ = run("prompt", real_index, "--task", "questions", "--k", 8, *budget, "Who sold the lake?")
    assert text == answer["prompt"] + "\n"


def test_prompt_prints_messages(run: Run, real_index: Path) -> None:
    arguments = (
        "prompt",
        real_index,
        "--task",
        "questions",
        "--k",
        1,
        "--budget",
        "500",
        "--format",
        "messages",
        "Who?",
    )
    _, out, _ = run(*arguments)

    messages = json.loads(out)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    _, out, _ = run(*arguments[:-1], "--json", "Who?")
    assert json.loads(out)["messages"] == messages


def test_prompt_counts_with_the_tokenizer_that_is_named(run: Run, real_index: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))

    _, out, _ = run(
        *(
            "prompt",
            real_index,
            "--task",
            "questions",
            "--k",
            3,
            "--budget",
            99,
            "--tokenizer",
            tmp_path,
            "--json",
            "Who?",
        )
    )

    answer = json.loads(out)
    assert answer["tokens"] == len(answer["prompt"].split())
    assert len(answer["demonstrations"]) == 3


BAD: dict[str, tuple[int, list[str], str]] = {
    "unknown task": (
        1,
        ["retrieve", "DIR", "--task", "nope", "x"],
        "unknown task 'nope'; there are notes, questions, reviews",
    ),
    "k zero": (1, ["retrieve", "DIR", "--task", "notes", "--k", "0", "x"], "k must be from 1 to 20"),
    "k above the pool": (1, ["retrieve", "DIR", "--task", "notes", "--k", "21", "x"], "k must be from 1 to 20"),
    "missing field": (
        1,
        ["retrieve", "DIR", "--task", "reviews", "--input", "text=x"],
        "field 'thing' of task 'reviews' is",
    ),
    "plain text for two fields": (
        1,
        ["retrieve", "DIR", "--task", "reviews", "x"],
        "fields 'thing', 'text', but plain text",
    ),
    "text of 100,000 characters": (1, ["retrieve", "DIR", "--task", "notes", "x" * 100_000], "the limit is 32768"),
    "text that is not UTF-8": (1, ["retrieve", "DIR", "--task", "notes", "\udcff"], "half a surrogate pair"),
    "no scope": (1, ["retrieve", "DIR", "x"], "give exactly one of task, family and scope; found none"),
    "no query": (
        2,
        ["retrieve", "DIR", "--task", "notes"],
        "give the query either as TEXT or as --input .*; found neither",
    ),
    "two queries": (2, ["retrieve", "DIR", "--task", "notes", "--input", "text=x", "x"], "found both"),
    "input without =": (
        2,
        ["retrieve", "DIR", "--task", "notes", "--input", "text"],
        "must be FIELD=VALUE, found 'text'",
    ),
    "input twice": (
        2,
        ["retrieve", "DIR", "--task", "notes", "--input", "a=b", "--input", "a=c"],
        "the field 'a' twice",
    ),
    "no index": (1, ["retrieve", "/no/such/index", "--task", "notes", "x"], "/no/such/index: no index here"),
    "budget too small": (1, ["prompt", "DIR", "--task", "notes", "--budget", "5", "x"], "without any demonstration"),
    "unknown tokenizer": (1, ["prompt", "DIR", "--task", "notes", "--budget", "9", "--tokenizer", "./no", "x"], "./no"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_gets_one_line_and_an_exit_code(run: Run, real_index: Path, name: str) -> None:
    status, arguments, message = BAD[name]

    found, out, err = run(*[str(real_index) if argument == "DIR" else argument for argument in arguments])

    assert (found, out) == (status, "")
    assert re.search(message, err)
    assert err.startswith("udr: error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["retrieve"], ["nope"], ["retrieve", "x", "--nope"], ["retrieve", "x", "--k", "many", "y"], ["prompt", "x", "y"]],
)
def test_wrong_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    status, out, err = run(*arguments)

    assert (status, out) == (2, "")
    assert "Traceback" not in err


def test_an_altered_index_exits_with_3(run: Run, real_index: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(real_index, tmp_path / "copy"))
    (next(copy.glob("versions/*/model/model.safetensors"))).write_bytes(b"")

    status, _, err = run("retrieve", copy, "--task", "notes", "x")

    assert status == 3
    assert "model/model.safetensors: has 0 bytes" in err


def test_a_traceback_is_shown_only_when_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in run("retrieve", "/no/index", "--task", "x", "x")[2]
    monkeypatch.setenv("UDR_DEBUG", "1")
    assert "Traceback" in run("retrieve", "/no/index", "--task", "x", "x")[2]


def test_an_interrupt_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any, **settings: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Retriever, "open", interrupt)

    assert run("retrieve", "x", "--task", "x", "x")[0] == 130


def test_what_the_system_refuses_gets_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **settings: Any) -> None:
        raise PermissionError(13, "Permission denied", "/shut/x")

    monkeypatch.setattr(Retriever, "open", refuse)

    assert run("retrieve", "x", "--task", "x", "x") == (
        1,
        "",
        "udr: error: [Errno 13] Permission denied: '/shut/x'\n",
    )


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"udr {__version__}\n", "")
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    for command in ("retrieve", "prompt", "index", "serve", "train", "evaluate"):
        assert f"\n  {command} " in out
    assert run("index", "--help")[0] == run("retrieve", "--help")[0] == 0


def test_a_command_that_cannot_be_imported_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.cli.app._commands", lambda: [EntryPoint("fly", "no_such_package.cli:fly", GROUP)])

    status, out, err = run("fly", "--high", "x")

    assert (status, out) == (2, "")
    assert err == (
        "udr: error: the command 'fly' cannot be loaded from no_such_package.cli:fly: "
        "No module named 'no_such_package'\n"
    )
    assert "fly" in run("--help")[1]


def test_the_installed_command_helps_within_a_moment(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("udr")), "--help"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    # 0.2 s; this bound says that nothing heavy is imported. Its own time: a busy machine has it wait for the other.
    assert after.ru_utime - before.ru_utime < 1
    assert "Retrieve the demonstrations" in shown.stdout
