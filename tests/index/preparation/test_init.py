"""``udr init``: a messy table from the command to an index, the questions on a terminal, and what is refused."""

import json
import os
import pty
import random
import resource
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.index.builds import REPOSITORY, tree
from tests.index.preparation.conftest import write_csv, write_excel
from tests.tiny_models import save_encoder
from tests.udr.cli.test_app import Run
from udr.data import Kind, open_collection
from udr.errors import DataError
from udr.files import parse_toml
from udr.installation import install_extra
from udr.retrieval import Retriever
from udr_index.preparation import KINDS, InitConfig, prepare, read_table
from udr_index.quality import CheckConfig, check

WORDS = [f"word{n}" for n in range(300)]
LABELS = ["billing"] * 6 + ["shipping"] * 3 + ["access"]


def messy(number: int = 120) -> str:
    """A table with a conflict, copies, near-duplicates, a rare label, a long row, and rows that are none."""
    draw = random.Random(0)
    lines = ["Ticket ID;Subject, short;Ticket Body;Category;Agent"]
    for n in range(number):
        body = " ".join(draw.choices(WORDS, k=12))
        lines.append(f'T{n};Ticket {n};"{body}; it""s\n für dich";{LABELS[n % 10]};ann')
        if n % 20 == 0:
            # A near-duplicate: the same words, and one more.
            lines.append(f'N{n};Ticket {n};"{body}; it""s\n für dich please";{LABELS[n % 10]};bob')
    lines += [lines[1].replace("T0;", "D0;"), lines[3].replace("T1;", "C1;").replace("billing", "access"), "", ";;;;"]
    lines += [f"R0;rare;{'long ' * 300};other;ann", "M0;no target;text;;ann"]
    return "\n".join(lines) + "\n"


FLAGS = ("--input", "Subject, short", "--input", "Ticket Body", "--target", "Category", "--id", "Ticket ID")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_csv(tmp_path, messy(), "Support Tickets.csv", "cp1252")


def test_a_messy_table_becomes_a_task_that_passes_its_check(run: Run, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "my tasks"
    status, printed, _ = run("init", table, "--out", out, *FLAGS)

    assert status == 0
    folder = out / "support-tickets" / "support-tickets"
    assert set(tree(out)) == {
        f"support-tickets/support-tickets/{n}" for n in ("task.toml", "train.jsonl", "test.jsonl")
    }
    lines = printed.replace(str(folder), "FOLDER").splitlines()
    assert lines[:9] == [
        'Support Tickets.csv: CSV, columns separated by semicolons, cells quoted by "; probably windows-1252, as in '
        "'für'; if letters look wrong, give --encoding; 130 rows",
        "Support Tickets.csv: 128 rows kept",
        "Support Tickets.csv: left out 2: blank lines (line 258, 259)",
        "Support Tickets.csv: left out 1: repeats of an earlier row (line 254)",
        "Support Tickets.csv: left out 1: rows without a target (line 261)",
        "Support Tickets.csv: 1 row has more than 1000 characters (the longest 1533, id R0); an encoder reads only the "
        "beginning: see encoder_input",
        "Support Tickets.csv: 1 label has no test row, for lack of rows that differ enough: 'other'",
        "Support Tickets.csv: 25 test rows tell only gains of about 18 points or more from chance; to see a gain of "
        "the usual size, about 5 points, takes about 300; that takes more rows than this table has",
        "FOLDER: 103 rows in train.jsonl, 25 in test.jsonl, each label in the same proportion; 14 rows nearly repeat "
        "another, and such rows lie in one file",
    ]
    assert lines[9] == "FOLDER: 4 labels: billing 78, shipping 36, access 13, other 1"
    assert any("conflicting_targets: 2 rows share 1 input" in line and "T1 = C1" in line for line in lines)
    assert any("label_skew: 1 label is rare: 'other' has 1 row, where labels have 26" in line for line in lines)
    assert lines[-3:] == [
        "Next: edit the instruction in FOLDER/task.toml, then run",
        f"  udr index build '{out}' --out {tmp_path}/my-index",
        f"  udr serve {tmp_path}/my-index",
    ]
    assert run("tasks", "check", out)[0] == 0


def test_rows_are_split_by_label_with_near_duplicates_on_one_side(run: Run, table: Path, tmp_path: Path) -> None:
    run("init", table, "--out", tmp_path / "tasks", *FLAGS)
    task = open_collection(tmp_path / "tasks").tasks["support-tickets"]
    train, test = task.rows("train"), task.rows("test")

    assert task.task.fields == ("Subject, short", "Ticket Body")
    assert train[0].metadata == {"Agent": "ann"} and train[0].input["Ticket Body"].endswith('it"s\n für dich')  # type: ignore[union-attr]
    counts = Counter(row.target for row in [*train, *test])
    held = Counter(row.target for row in test)
    assert counts == {"billing": 78, "shipping": 36, "access": 13, "other": 1}
    # Of 25 rows, 15.2, 7.0, 2.5 and 0.2; the remainder of access is the largest.
    assert held == {"billing": 15, "shipping": 7, "access": 3}
    ids = {row.id for row in test}
    for near in (f"{n}" for n in range(0, 120, 20)):
        assert (f"T{near}" in ids) == (f"N{near}" in ids)
    assert ("T1" in ids) == ("C1" in ids)


def test_equal_tables_give_equal_folders_and_another_seed_another_split(run: Run, table: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run("init", table, "--out", tmp_path / name, *FLAGS, "--seed", seed)[0] == 0
    first, second, third = (tree(tmp_path / name) for name in "abc")
    assert first == second != third


def test_the_task_becomes_an_index_that_answers(run: Run, table: Path, tmp_path: Path) -> None:
    names = ("--name", "tickets", "--family", "help", "--test-rows", "10")
    model = save_encoder(tmp_path / "model")
    run("init", table, "--out", tmp_path / "tasks", *FLAGS, *names, "--model", model, "--device", "cpu")

    status, out, _ = run("index", "build", tmp_path / "tasks", "--model", model, "--out", tmp_path / "index")

    rows = open_collection(tmp_path / "tasks").tasks["tickets"].rows("train")
    assert status == 0 and f"{len(rows)} demonstrations of 1 task" in out
    with Retriever.open(tmp_path / "index", device="cpu") as retriever:
        query = {"Subject, short": "Ticket 5", "Ticket Body": "a word"}
        assert {item.target for item in retriever.retrieve("tickets", query, 99)} <= {*LABELS, "other"}


# Few letters, so that many rows are copies, conflicts or near.
TEXT = st.text("ab !\u00df\u4e2d\u0301", max_size=5)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(TEXT, TEXT, st.sampled_from(["x", "X ", "y", ""]), TEXT), max_size=25),
    st.sampled_from(sorted(KINDS)),
)
def test_whatever_is_written_passes_the_check(rows: list[tuple[str, ...]], kind: str) -> None:
    rows += [("one", "a", "x", "i"), ("two", "b", "y", "j")]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.jsonl"
        path.write_text("".join(json.dumps(dict(zip("abcd", row, strict=True))) + "\n" for row in rows), "utf-8")
        choices = ("a", "b", "c") if KINDS[kind] is Kind.MULTIPLE_CHOICE else ()
        columns: dict[str, Any] = {"inputs": ("a", "b"), "target": "c", "id": "d", "choices": choices}
        config = InitConfig(table=path, out=Path(folder) / "out", kind=KINDS[kind], test_rows=1, **columns)
        try:
            prepared = prepare(config, read_table(path))
        except DataError as error:
            assert choices and "rows have no two different choices" in str(error)
            return
        report = check(CheckConfig(tasks=Path(folder) / "out"))

    assert report.passed() and report.findings == prepared.report.findings
    assert report.num_rows + sum(map(len, prepared.conversion.left_out.values())) == len(rows)


def test_json_tells_the_same(run: Run, table: Path, tmp_path: Path) -> None:
    status, out, _ = run("init", table, "--out", tmp_path / "tasks", *FLAGS, "--json")
    printed = json.loads(out)

    assert status == 0 and list(printed) == "folder format task train test left_out notices findings".split()
    assert (printed["train"], printed["test"], printed["left_out"]["blank lines"]) == (103, 25, [258, 259])
    assert {finding["kind"] for finding in printed["findings"]} == {"conflicting_targets", "label_skew"}


def test_similar_labels_are_told_once_with_the_option_that_merges_them(run: Run, tmp_path: Path) -> None:
    path = write_csv(tmp_path, "text,label\none,Yes\ntwo,yes\nthree,yes\nfour,no\n")
    flags = ("--input", "text", "--target", "label", "--test-rows", 0)
    _, printed, _ = run("init", path, "--out", tmp_path / "kept", *flags)
    run("init", path, "--out", tmp_path / "merged", *flags, "--merge-labels")

    (told,) = [line for line in printed.splitlines() if "differ only in case" in line]
    assert told.endswith("differ only in case, spaces or Unicode form; --merge-labels makes them one")
    assert f"To change rows, edit the files in {tmp_path / 'kept'}" in printed and "again with --replace" in printed
    assert open_collection(tmp_path / "merged").tasks["table"].task.labels == ("no", "yes")


def test_excel_and_few_rows_are_taken(run: Run, tmp_path: Path) -> None:
    path = write_excel(tmp_path / "cases.xlsx", one=[["text", "n"], ["a", 1], ["b", 2], ["c", 1]])
    status, out, _ = run("init", path, "--out", tmp_path, "--input", "text", "--target", "n")

    assert status == 0 and "3 rows in train.jsonl, none held out" in out
    assert sorted(tree(tmp_path / "cases")) == ["cases/task.toml", "cases/train.jsonl"]
    assert open_collection(tmp_path).tasks["cases"].task.labels == ("1", "2")


def test_a_file_whose_name_is_no_utf8_is_taken(run: Run, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv"))
    path.write_text("text,label\none,x\ntwo,y\n", "utf-8")
    assert run("init", path, "--out", tmp_path / "tasks", "--input", "text", "--target", "label")[0] == 0
    source = parse_toml((tmp_path / "tasks" / "caf" / "caf" / "task.toml").read_text("utf-8"))["source"]
    assert source["file"] == "caf\\xe9.csv"


def test_a_folder_or_a_task_of_that_name_is_refused(run: Run, table: Path, tmp_path: Path) -> None:
    run("init", table, "--out", tmp_path / "tasks", *FLAGS)
    before = tree(tmp_path)
    status, _, err = run("init", table, "--out", tmp_path / "tasks", *FLAGS)
    assert status == 2 and "tasks/support-tickets/support-tickets: exists; add --replace to make it anew" in err
    status, _, err = run("init", table, "--out", tmp_path / "tasks", *FLAGS, "--family", "other")
    assert status == 2 and "is a task named 'support-tickets' already; choose another --name" in err
    assert tree(tmp_path) == before
    assert run("init", table, "--out", tmp_path / "tasks", *FLAGS, "--family", "other", "--name", "more")[0] == 0
    assert run("tasks", "check", tmp_path / "tasks")[0] == 0


REFUSED = {
    "columns": (
        ("--input", "x", "--target", "Category"),
        "--input: there is no column 'x'; the columns are 'Ticket ID'",
    ),
    "kind": (("--kind", "sorting"), "--kind must be classification, generation or choices, found 'sorting'"),
    "test rows": ((*FLAGS, "--test-rows", "128"), "--test-rows must be from 0 to 127"),
    "no target": (("--input", "Ticket Body"), "missing: --target; for example --input subject,body --target category"),
    "encoding": ((*FLAGS, "--encoding", "utf-8"), "--encoding utf-8 does not fit"),
}


def test_a_task_is_replaced_as_a_whole_and_nothing_else_is(run: Run, table: Path, tmp_path: Path) -> None:
    request = ("init", table, "--out", tmp_path / "tasks", *FLAGS, "--replace")
    run(*request)
    before = tree(tmp_path)
    folder = tmp_path / "tasks" / "support-tickets" / "support-tickets"
    (folder / "train.jsonl").write_text("", "utf-8")
    assert run(*request)[0] == 0 and tree(tmp_path) == before
    (folder / "notes.txt").touch()
    status, _, err = run(*request)
    assert status == 2 and "holds more than udr init writes (notes.txt); remove that, or choose" in err


def test_a_column_that_looks_like_ids_is_proposed(run: Run, tmp_path: Path) -> None:
    rows = "text,label,id,Case No.\none,yes,1,7\ntwo,no,1,8\n"
    flags = ("--input", "text", "--target", "label")
    _, printed, _ = run("init", write_csv(tmp_path, rows), "--out", tmp_path / "tasks", *flags)
    told = "table.csv: rows are named by their line numbers; --id 'Case No.' names them by that column"
    assert told in printed.splitlines() and "again with --replace" in printed
    _, printed, _ = run("init", tmp_path / "table.csv", "--out", tmp_path / "tasks", *flags, "--replace", "--id", "id")
    assert "line numbers" not in printed


@pytest.mark.parametrize("name", REFUSED)
def test_an_error_leaves_nothing_behind(name: str, run: Run, table: Path, tmp_path: Path) -> None:
    flags, message = REFUSED[name]
    status, _, err = run("init", table, "--out", tmp_path / "tasks", *flags)
    assert status == 2 and message in err and err.count("udr: error:") == 1
    assert list(tmp_path.iterdir()) == [table]


@pytest.mark.parametrize(("module", "does"), [("chardet", "tells encodings apart"), ("tomli_w", "writes task.toml")])
def test_a_missing_package_is_named_with_its_extra(
    module: str, does: str, run: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    status, _, err = run("init", table, "--out", tmp_path / "tasks", *FLAGS)
    assert status == 1 and f"{does}, is not installed; run: {install_extra('index')}" in err
    assert list(tmp_path.iterdir()) == [table]


def test_nothing_is_asked_without_a_terminal(table: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from udr.cli import main; raise SystemExit(main())", "init", str(table)]
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "index")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        command, input="1\n", capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )

    assert done.returncode == 2 and "missing: --input, --target, --out; for example" in done.stderr
    assert "the columns are 'Ticket ID', 'Subject, short', 'Ticket Body', 'Category', 'Agent'" in done.stderr


def test_an_error_of_the_disk_names_the_file_that_was_to_be(run: Run, tmp_path: Path) -> None:
    # Each of other words, so that rows are held out.
    rows = "".join(f"{' '.join(f'w{n}x{m}' for m in range(20))},{'ab'[n % 2]}\n" for n in range(400))
    table, before = write_csv(tmp_path, f"text,label\n{rows}", "t.csv"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        status, _, err = run("init", table, "--out", tmp_path / "tasks", "--input", "text", "--target", "label")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 1 and f"{tmp_path}/tasks/t/t/train.jsonl: File too large; raise the limit of a file's size" in err
    assert not (tmp_path / "tasks").exists()


def converse(folder: Path, arguments: list[str], answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Run ``udr`` on a pseudo-terminal; after each text that it shows, type the answer. Return status and output."""
    command = [sys.executable, "-c", "from udr.cli import main; raise SystemExit(main())", *arguments]
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "index")])
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "TERM": "dumb", "COLUMNS": "200"},
    )
    os.close(slave)
    shown, read_to, until = "", 0, time.monotonic() + 120
    try:
        while time.monotonic() < until:
            if answers and (found := shown.find(answers[0][0], read_to)) >= 0:
                read_to = found + len(answers[0][0])
                os.write(master, answers.pop(0)[1].encode() + b"\n")
            if not select.select([master], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(master, 65536)
            except OSError:
                # Linux tells the end of a terminal so.
                break
            if not data:
                break
            shown += data.decode()
        return process.wait(timeout=30), shown.replace("\r\n", "\n")
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_terminal_is_asked_for_what_is_missing(run: Run, table: Path, tmp_path: Path) -> None:
    # An answer that does not fit is asked for again.
    answers = [
        *(("(--input):", "2, Tiket Body"), ("(--input):", "Subject, short")),
        *(("(--target):", "2"), ("(--target):", "category"), ("(--target):", "4")),
        *(("(--kind) [classification]:", ""), ("(--id) [-]:", "Ticket ID"), ("(--out) [tasks]:", "")),
    ]
    status, shown = converse(tmp_path, ["init", table.name], answers)

    assert status == 0, shown
    assert "   2  Subject, short  Ticket 0\n" in shown
    assert "there is no column 'Tiket Body'; did you mean 'Ticket Body'?" in shown
    assert "the model reads the column 'Subject, short' already" in shown
    assert "did you mean 'Category'?" in shown
    run("init", table, "--out", tmp_path / "flags", *FLAGS[:2], *FLAGS[4:])
    assert tree(tmp_path / "tasks") == tree(tmp_path / "flags")


def test_a_terminal_is_asked_for_choices_and_an_end_writes_nothing(tmp_path: Path) -> None:
    write_csv(tmp_path, "question,A,B,answer\none?,red,blue,A\ntwo?,red,blue,B\n", "quiz.csv")
    start = [("(--input):", "1"), ("(--target):", "answer"), ("(--kind) [classification]:", "choices")]
    # Ctrl-D, at the beginning of a line.
    status, shown = converse(tmp_path, ["init", "quiz.csv"], [*start, ("(--choices):", "\x04")])
    assert status == 1 and shown.rstrip().endswith("Aborted!") and not (tmp_path / "tasks").exists()

    end = [("(--choices):", "A,3"), ("(--id) [-]:", ""), ("(--out) [tasks]:", "more")]
    status, shown = converse(tmp_path, ["init", "quiz.csv"], [*start, *end])

    assert status == 0, shown
    assert [row.target for row in open_collection(tmp_path / "more").tasks["quiz"].rows("train")] == ["red", "blue"]


def test_a_terminal_is_not_asked_if_nothing_is_missing_or_a_flag_is_wrong(table: Path, tmp_path: Path) -> None:
    status, shown = converse(tmp_path, ["init", table.name, "--out", "tasks", *FLAGS], [])
    assert status == 0 and "Columns of" not in shown
    status, shown = converse(tmp_path, ["init", table.name, "--input", "Subject, Long"], [])
    assert status == 2 and "there is no column 'Subject'; did you mean" in shown and "Columns of" not in shown


def test_check_of_a_table_points_to_init(run: Run, table: Path) -> None:
    status, _, err = run("tasks", "check", table)
    assert status == 2
    assert f"is a file, not a folder of tasks; make a task of it with: udr init '{table}' --out tasks" in err
