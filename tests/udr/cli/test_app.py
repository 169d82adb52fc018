"""The command ``udr``: results on stdout, one line of error on stderr, and exit codes."""

import errno
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import NOTES, QUESTIONS, write_task
from tests.tiny_models import save_encoder
from tests.udr.models.test_tokenizer import save_word_tokenizer
from udr import Row, __version__
from udr.cli import GROUP, main
from udr.retrieval import Retriever
from udr.types import Json
from udr_index.build import BuildConfig, build


@dataclass
class Run:
    """Runs ``udr`` and returns status, stdout and stderr."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return status, *self.capsys.readouterr()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def test_retrieve_prints_the_retrieval_as_json_or_text(run: Run, real_index: Path) -> None:
    command = ("retrieve", real_index, "--task", "questions", "--k", 2, "Who sold the lake?")
    status, out, _ = run(*command, "--json")
    with Retriever.open(real_index, device="cpu") as retriever:
        assert (status, json.loads(out)) == (0, retriever.retrieve("questions", "Who sold the lake?", 2).to_json())
    status, out, _ = run(*command)
    assert status == 0
    assert re.fullmatch(r"(  [12]  0\.\d{5}  questions  q\d\d\n     Question: .*\n     Answer type: .*\n){2}", out)


def test_retrieve_accepts_fields_families_exclusions_and_bounds(run: Run, real_index: Path) -> None:
    def ids(*arguments: object) -> list[tuple[str, str]]:
        status, out, _ = run("retrieve", real_index, "--json", *arguments)
        assert status == 0
        return [(item["task"], item["id"]) for item in json.loads(out)["demonstrations"]]

    review = ("--task", "reviews", "--k", 2, "--input", "thing=lamp", "--input", "text=a = b\n{c} 🙂")
    first, second = ids(*review)
    assert ids(*review, "--exclude", first[1])[0] == second
    assert ids("--family", "mood", "--min-similarity", "2", "a day") == []
    assert set(ids("--scope", "all", "--filter", 'n < 1 or $id in ["q01"]', "a day")) == {
        ("reviews", "ra00"),
        ("reviews", "rb00"),
        ("questions", "q01"),
    }
    status, _, err = run("retrieve", real_index, "--task", "notes", "--filter", "n ~ 1", "a day")
    assert status != 0 and "the filter, at character 3: expected one of =, !=" in err
    assert {task for task, _ in ids("--scope", "all", "--k", 62, "a day")} == {"questions", "notes", "reviews"}


def test_explain_prints_a_table_of_decisions_after_the_result(run: Run, real_index: Path) -> None:
    options = ("--task", "notes", "--explain", "--k", 1, "--candidates", 3, "a day")
    _, out, _ = run("retrieve", real_index, *options)
    assert [line[0] for line in out.split("\n\n")[1].splitlines()] == ["+", "-", "-"]
    _, out, err = run("prompt", real_index, "--budget", 500, *options)
    assert out.endswith("\n\nNote: a day\nMood:\n")
    assert [line[0] for line in err.strip().splitlines()] == ["+", "-", "-"]


def test_prompt_prints_a_prompt_within_its_budget(run: Run, real_index: Path) -> None:
    command = ("prompt", real_index, "--task", "questions", "--budget", 300, "--reserve", 20, "Who sold the lake?")
    status, out, _ = run(*command, "--json")
    answer = json.loads(out)
    assert status == 0
    assert set(answer) == {
        *("prompt", "tokens", "tokenizer", "parts"),
        *("demonstrations", "skipped", "index_version", "model"),
    }
    assert len(answer["demonstrations"]) + answer["skipped"] == 8
    assert answer["prompt"].endswith("\n\nQuestion: Who sold the lake?\nAnswer type:")
    # By default the encoder's tokenizer counts: this one counts bytes, and one for BOS.
    assert answer["tokens"] == len(answer["prompt"].encode()) + 1 <= 280
    assert {"id", "task", "similarity", "tokens"} <= set(answer["demonstrations"][0])
    assert run(*command)[1] == answer["prompt"] + "\n"


@pytest.mark.parametrize(
    ("budget", "told"), [(80, "shows 0 of 2 demonstrations: they"), (150, "shows 1 of 2 demonstrations: the others")]
)
def test_a_prompt_tells_of_demonstrations_without_room(run: Run, real_index: Path, budget: int, told: str) -> None:
    command = ("prompt", real_index, "--task", "questions", "--k", 2, "--reserve", 2, "--budget", budget, "Who?")
    _, _, err = run(*command)
    assert err == f"udr: the prompt {told} do not fit --budget {budget}; raise it or lower --reserve 2\n"


@pytest.mark.parametrize("format", ["messages", "records"])
def test_prompt_prints_messages_and_records(run: Run, real_index: Path, format: str) -> None:
    command = ("prompt", real_index, "--task", "questions", "--k", 1, "--budget", 500, "--format", format, "Who?")
    printed = json.loads(run(*command)[1])
    assert json.loads(run(*command, "--json")[1])[format] == printed
    if format == "messages":
        assert [message["role"] for message in printed] == ["system", "user", "assistant", "user"]


def test_prompt_counts_with_the_named_tokenizer(run: Run, real_index: Path, tmp_path: Path) -> None:
    tokenizer = save_word_tokenizer(tmp_path)
    options = ("--k", 3, "--budget", 99, "--tokenizer", tokenizer, "--json")
    answer = json.loads(run("prompt", real_index, "--task", "questions", *options, "Who?")[1])
    # It adds [CLS] and [SEP].
    assert answer["tokens"] == len(re.findall(r"\w+|[^\w\s]+", answer["prompt"])) + 2
    assert len(answer["demonstrations"]) == 3


def test_a_prompt_lists_the_choices_that_the_query_gives(run: Run, tmp_path: Path) -> None:
    keys = {name: value for name, value in QUESTIONS.items() if name != "labels"} | {"kind": "multiple_choice"}
    row: dict[str, Json] = {"id": "1", "input": {"question": "What is green?"}, "target": "sea"}
    row["choices"] = ["sea", "sun"]
    write_task(tmp_path / "tasks", keys, train=[row])
    save_encoder(tmp_path / "model")
    index = tmp_path / "index"
    build(BuildConfig(tasks=tmp_path / "tasks", out=index, model=str(tmp_path / "model"), device="cpu"))
    command = ("prompt", index, "--task", "questions", "--budget", 500, "--list-options", "--input", "question=Red?")
    status, out, err = run(*command, "--input", "choices=rose", "--input", "choices=coal")
    assert (status, err) == (0, "")
    assert "asks for.\nOptions:\n- rose\n- coal\n\nQuestion: What is green?" in out
    for given, found in (((), "its input has no field 'choices'"), (("--input", "choices=rose"), "found 'rose'")):
        status, _, err = run(*command, *given)
        assert status == 1 and f"{found}; give each as --input choices=CHOICE\n" in err


def test_k_may_be_larger_than_the_pool_with_what_was_written(run: Run, real_index: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(real_index, tmp_path / "index"))
    with Retriever.open(index, device="cpu") as retriever:
        retriever.put("notes", [Row(id=f"w{n}", input={"text": f"day {n}"}, target="glad") for n in range(4)])
        expected = retriever.retrieve("notes", "a day", 24).to_json()
        shown = [item.id for item in retriever.retrieve("notes", "a day", 24)]
    common = ("--task", "notes", "--json", "a day")
    assert json.loads(run("retrieve", index, "--k", 24, *common)[1]) == expected and len(set(shown)) == 24
    prompt = json.loads(run("prompt", index, "--k", 24, "--budget", 5000, *common)[1])
    assert {item["id"] for item in prompt["demonstrations"]} == set(shown)
    assert json.loads(run("retrieve", index, "--k", 25, *common)[1]) == expected


INVALID: dict[str, tuple[int, list[str], str]] = {
    "unknown task": (1, ["--task", "nope", "x"], "unknown task 'nope'; the tasks are notes, questions, reviews"),
    "k zero": (1, ["--task", "notes", "--k", "0", "x"], "k must be at least 1, found 0"),
    "weight": (1, ["--task", "notes", "--weight", "0.3", "x"], "error: --weight fuses two rankings, so mode must be"),
    "coverage": (
        1,
        ["--task", "notes", "--coverage", "1.5", "x"],
        r"error: --coverage must be from 0 to 1, found 1\.5",
    ),
    "bound": (1, ["--task", "notes", "--min-similarity", "nan", "x"], "error: --min-similarity must be a number"),
    "filter": (
        1,
        ["--task", "notes", "--filter", "stars >", "x"],
        "error: --filter: the filter, at character 8: expected",
    ),
    "missing field": (1, ["--task", "reviews", "--input", "text=x"], "field 'thing' of task 'reviews' is"),
    "text that is not UTF-8": (1, ["--task", "notes", "\udcff"], "half a surrogate pair"),
    "no scope": (1, ["x"], "give exactly one of --task, --family and --scope; found none"),
    "no query": (2, ["--task", "notes"], "give the query either as TEXT or as --input .*; found neither"),
    "two queries": (2, ["--task", "notes", "--input", "text=x", "x"], "found both"),
    "input without =": (
        2,
        ["--task", "notes", "--input", "text"],
        "FIELD=VALUE, found 'text'; plain text is given after DIR,",
    ),
    "input twice": (2, ["--task", "notes", "--input", "a=b", "--input", "a=c"], "the field 'a' twice"),
    "index and url": (2, ["x", "--url", "http://x"], "omit the index directory with --url"),
    "budget too small": (1, ["prompt", "--task", "notes", "--budget", "5", "x"], "without any demonstration"),
    "unknown tokenizer": (1, ["prompt", "--task", "notes", "--budget", "9", "--tokenizer", "./no", "x"], "./no"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_request_prints_one_line_and_exits_with_its_code(run: Run, real_index: Path, name: str) -> None:
    status, arguments, message = INVALID[name]
    command, *arguments = arguments if arguments[0] == "prompt" else ["retrieve", *arguments]
    code, out, err = run(command, real_index, *arguments)
    assert (code, out) == (status, "")
    assert re.search(message, err)
    assert err.startswith("udr: error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["retrieve"], ["nope"], ["retrieve", "x", "--nope"], ["retrieve", "x", "--k", "many", "y"], ["prompt", "x", "y"]],
)
def test_wrong_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "") and "Traceback" not in err


def test_an_altered_index_exits_with_3(run: Run, real_index: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(real_index, tmp_path / "copy"))
    (next(copy.glob("versions/*/model/model.safetensors"))).write_bytes(b"")
    status, _, err = run("retrieve", copy, "--task", "notes", "x")
    assert status == 3 and "model/model.safetensors: has 0 bytes" in err


def test_a_traceback_is_shown_on_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, err = run("retrieve", "/no/index", "--task", "x", "x")
    assert (status, err.count("\n")) == (1, 1) and "/no/index: no index here" in err
    for arguments in (["--debug", "retrieve"], ["retrieve", "--debug"]):
        assert "Traceback" in run(*arguments, "/no/index", "--task", "x", "x")[2]
    assert "Traceback" not in run("retrieve", "/no/index", "--task", "x", "--", "--debug")[2]
    monkeypatch.setenv("UDR_DEBUG", "1")
    assert "Traceback" in run("retrieve", "/no/index", "--task", "x", "x")[2]


@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        (">&-", 2, "udr: error: standard output is closed, so the result cannot be printed\n"),
        (">/dev/full", 1, "udr: error: standard output: No space left on device; .*\n"),
        ("<&- 2>&-", 0, ""),
    ],
)
def test_standard_streams_may_be_closed_or_full(real_index: Path, redirection: str, status: int, message: str) -> None:
    command = f"{sys.executable} -c 'import sys; from udr.cli import main; sys.exit(main())' index info {real_index}"
    paths = os.pathsep.join(path for path in sys.path if path)
    # Buffered, as it is where nobody has asked for anything else.
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": ""}
    result = subprocess.run(["bash", "-c", f"{command} {redirection}"], capture_output=True, text=True, env=environment)
    assert result.returncode == status and re.fullmatch(message, result.stderr)
    assert ("encoder" in result.stdout) == (status == 0)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, None),
        (PermissionError(errno.EACCES, "no", "/x"), 1, "/x: no; check the permissions, or choose another place"),
        (OSError(errno.ENOSPC, "full", "/x"), 1, "/x: full; free some space and try again; .*is kept"),
        (OSError(errno.EMFILE, "too many"), 1, r"too many; raise the limit of open files \(ulimit -n\)"),
        (OSError("odd"), 1, "odd"),
        (sqlite3.OperationalError("locked"), 1, "unexpected OperationalError: locked; the full report is in .*, and"),
        (ValueError(), 1, "unexpected ValueError: ValueError; the full report is in .*, and --debug shows it"),
    ],
)
def test_interrupts_and_system_errors_have_their_exit_codes(
    run: Run, real_index: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, line: str | None
) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise error

    monkeypatch.setattr(Retriever, "of_version", fail)
    code, out, err = run("retrieve", real_index, "--task", "notes", "x")
    assert (code, out) == (status, "")
    assert line is None or (re.match(f"udr: error: {line}", err) and err.count("\n") == 1)
    if report := re.search("report is in ([^,]*)", err):
        assert "Traceback" in Path(report[1]).read_text("utf-8") and "in fail" in Path(report[1]).read_text("utf-8")
        Path(report[1]).unlink()


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"udr {__version__}\n", "")
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    for command in ("retrieve", "prompt", "index", "serve", "train", "evaluate"):
        assert f"\n  {command} " in out
    assert run("index", "--help")[0] == run("retrieve", "--help")[0] == 0


def test_a_command_that_cannot_be_imported_raises_when_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.cli.app._commands", lambda: [EntryPoint("fly", "no_such_package.cli:fly", GROUP)])
    reason = "the command 'fly' cannot be loaded from no_such_package.cli:fly: No module named 'no_such_package'"
    assert run("fly", "--high", "x") == (2, "", f"udr: error: {reason}\n")
    assert "fly" in run("--help")[1]


def test_the_installed_command_prints_its_help_quickly(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("udr")), "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # About 0.15 s of processor time, unless something heavy is imported.
    assert after.ru_utime - before.ru_utime < 1
    assert "Retrieve the demonstrations" in result.stdout


def test_libraries_draw_no_bars_and_end_without_a_search_for_garbage() -> None:
    # In a process of its own, since tqdm reads its setting once. Transformers converts GGUF files with tqdm.auto.
    program = """
import atexit, gc, sys
from udr.cli import main
atexit.register(lambda: print(gc.get_freeze_count() > 0))
main(["--version"])
import datasets, huggingface_hub, tqdm.auto, transformers
for package in (tqdm, tqdm.auto, datasets.utils, huggingface_hub.utils, transformers.utils.logging):
    assert list(package.tqdm(range(3), desc="Converting")) == [0, 1, 2]
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TQDM_"))}
    # Not even if a variable asks for them.
    environment["TQDM_DISABLE"] = ""
    found = subprocess.run([sys.executable, "-c", program], env=environment, text=True, capture_output=True)
    assert (found.stdout, found.stderr, found.returncode) == (f"udr {__version__}\nTrue\n", "", 0)


def test_it_runs_without_a_home_and_with_few_file_descriptors(real_index: Path) -> None:
    main = "import sys; from udr.cli import main; sys.exit(main(sys.argv[1:]))"
    command = f"ulimit -n 32; {sys.executable} -c '{main}' retrieve {real_index} --task notes 'a dull day' --k 2 --json"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["demonstrations"]) == 2


def test_by_default_a_small_pool_is_returned_whole(run: Run, tmp_path: Path) -> None:
    rows: list[Any] = [{"id": f"n{n}", "input": {"text": f"day {n}"}, "target": "glad"} for n in range(3)]
    write_task(tmp_path / "tasks", NOTES, train=rows)
    save_encoder(tmp_path / "model")
    build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "index", model=str(tmp_path / "model"), device="cpu"))
    status, out, _ = run("retrieve", tmp_path / "index", "--task", "notes", "--json", "a day")
    assert status == 0 and len(json.loads(out)["demonstrations"]) == 3
