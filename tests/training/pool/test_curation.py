"""Curating a pool: which rows go, what is written, and which files of scores are refused."""

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from tests.fakes import NOTES, write_task
from tests.tiny_models import save_encoder
from udr.cli import main
from udr.data import open_collection, parse_task
from udr.errors import ConfigError, DataError, VerificationError
from udr.files import read_text
from udr.types import Row
from udr_training.pool import Choice, Score, choose, read_scores, write_curated, write_scores

ROWS = [Row(id=f"r{number}", input={"text": f"day {number}"}, target="glad") for number in range(5)]


def scored(*values: float, below: float = 0, name: str = "labels", notes: dict[int, str] | None = None) -> Score:
    return Score(name=name, meaning="A number.", values=values, flagged_below=below, notes=notes or {})


def test_without_a_share_exactly_the_flagged_rows_go() -> None:
    scores = [
        scored(0.5, -0.1, 0.9, 0, 0.3, notes={1: "sad is likelier"}),
        scored(1, 1, 0, 1, 1, below=1, name="copies"),
    ]
    choice = choose(ROWS, scores)
    assert [row.id for row in choice.kept] == ["r0", "r3", "r4"]
    assert [(one.id, one.reason, one.score) for one in choice.dropped] == [
        ("r1", "labels: sad is likelier", -0.1),
        ("r2", "copies", 0),
    ]


@pytest.mark.parametrize(
    ("keep", "kept"), [(1.0, "01234"), (0.8, "0234"), (0.7, "0234"), (0.6, "023"), (0.4, "03"), (0.01, "3")]
)
def test_a_share_drops_flagged_rows_first_then_those_with_the_lowest_places(keep: float, kept: str) -> None:
    """Places by the first: 0.6, 0.4, 1.0, 0.8, 0.2; by the second, which flags r1: 1.0, 0.2, 0.6, 1.0, 0.6."""
    choice = choose(ROWS, [scored(3, 2, 5, 4, 1), scored(20, -1, 10, 20, 10, name="tens")], keep)
    assert "".join(row.id[1] for row in choice.kept) == kept


def test_a_share_out_of_range_and_a_pool_of_flagged_rows_are_refused() -> None:
    for keep in (0, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="--keep must be above 0 and at most 1, found"):
            choose(ROWS, [scored(*[1.0] * 5)], keep)
    with pytest.raises(DataError, match="every row is flagged"):
        choose(ROWS, [scored(*[-1.0] * 5)])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    rows: list[Any] = [
        {
            "id": f"n{n}",
            "input": {"text": f"{'bright' if n % 2 else 'dark'} day {n}."},
            "target": "glad" if n % 2 else "sad",
        }
        for n in range(30)
    ]
    rows += [{**rows[4], "id": "again"}, {"id": "cut", "input": {"text": "bright day in the gard"}, "target": "glad"}]
    write_task(folder / "tasks", NOTES, train=rows, test=rows[:2])
    (folder / "tasks" / "mood" / "family.toml").write_text('instruction = "Give the mood."\n')
    save_encoder(folder / "encoder")
    return folder


def test_the_commands_score_a_pool_and_write_a_new_one(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, out = tmp_path / "scores.jsonl", tmp_path / "new" / "tasks"
    before = {path: path.read_bytes() for path in (place / "tasks").rglob("*.*")}
    assert main(["pool", "score", str(place / "tasks"), "--out", str(scores), "--model", str(place / "encoder")]) == 0
    assert "copies: 1 of 32 rows flagged" in capsys.readouterr().out
    header = json.loads(scores.read_text().splitlines()[0])
    assert header["task"] == "notes" and list(header["scores"]) == ["labels", "copies", "length"]
    assert {said["better"] for said in header["scores"].values()} == {"higher"}

    copies = tmp_path / "copies.jsonl"
    options = ["--tasks", "notes", "--by", "copies,length"]
    assert main(["pool", "score", str(place / "tasks"), *options, "--out", str(copies)]) == 0
    capsys.readouterr()
    line = ["pool", "curate", str(place / "tasks"), "--scores", str(copies), "--out", str(out), "--json"]
    assert main(line) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == {
        "folder": str(out / "mood" / "notes"),
        **{"rows": 32, "kept": 30, "dropped": 2, "reasons": {"copies": 1, "length": 1}, "lost_labels": []},
    }
    task = open_collection(out).tasks["notes"]
    assert [row.id for row in task.rows("train")] == [f"n{n}" for n in range(30)]
    for name in ("mood/family.toml", "mood/notes/task.toml", "mood/notes/test.jsonl"):
        assert (out / name).read_bytes() == (place / "tasks" / name).read_bytes()
    assert list(map(json.loads, (task.path / "dropped.jsonl").read_text().splitlines())) == [
        {"id": "again", "reason": "copies: a copy of n4", "score": 0.0},
        {"id": "cut", "reason": "length: text ends without a mark, unlike most", "score": round(1 / 32, 6)},
    ]
    assert before == {path: path.read_bytes() for path in (place / "tasks").rglob("*.*")}
    assert main(line) == 2 and "exists; name another file, or remove it" in capsys.readouterr().err


def test_labels_that_lose_all_rows_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[Any] = [
        {"id": row.id, "input": row.input, "target": "sad" if number == 3 else "glad"}
        for number, row in enumerate(ROWS)
    ]
    write_task(tmp_path / "tasks", NOTES, train=rows)
    folder, scores = open_collection(tmp_path / "tasks").tasks["notes"], tmp_path / "scores.jsonl"
    write_scores(scores, folder.task, folder.rows("train"), [scored(3, 4, 5, 1, 2)])
    line = ["pool", "curate", str(tmp_path / "tasks"), "--scores", str(scores), "--keep", "0.8"]
    assert main([*line, "--out", str(tmp_path / "new"), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["lost_labels"] == ["sad"]
    assert "no row is kept of 1 of 2 labels, 'sad'; see dropped.jsonl" in said.err


def test_a_new_collection_has_the_family_that_another_folder_describes(tmp_path: Path) -> None:
    """Its queries of the whole family read the same instruction."""
    tasks = tmp_path / "tasks"
    row: dict[str, Any] = {"id": "a", "input": {"text": "a day"}, "target": "glad"}
    for place, name in (("one", "others"), ("two", "notes")):
        write_task(tmp_path / place, {**NOTES, "name": name}, train=[row])
        shutil.copytree(tmp_path / place / "mood", tasks / place)
    (tasks / "one" / "family.toml").write_text('instruction = "Say \\"how\\" it feels."\n')
    before = open_collection(tasks)
    folder = before.tasks["notes"]

    written = write_curated(folder, Choice(tuple(folder.rows("train")), ()), tmp_path / "new")

    assert open_collection(tmp_path / "new").families == before.families == {"mood": folder.family}
    assert (folder.family.instruction, written.name) == ('Say "how" it feels.', "notes")


def test_what_is_made_of_private_files_is_private(place: Path, tmp_path: Path) -> None:
    tasks = Path(shutil.copytree(place / "tasks", tmp_path / "tasks"))
    folder = open_collection(tasks).tasks["notes"]
    folder.file("train").chmod(0o600)
    # As in a cache of DVC; the copy can be changed.
    folder.file("test").chmod(0o440)
    made = write_curated(folder, choose(folder.rows("train"), [scored(-1, *[1.0] * 31)]), tmp_path / "out")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()}
    assert modes["train.jsonl"] == modes["dropped.jsonl"] == 0o600
    assert modes["test.jsonl"] & 0o607 == 0o600


def test_scores_are_read_as_they_were_written(place: Path, tmp_path: Path) -> None:
    folder, path = open_collection(place / "tasks").tasks["notes"], tmp_path / "scores.jsonl"
    rows = folder.rows("train")
    score = Score(
        name="labels",
        meaning="A number.",
        values=tuple(number / 7 for number in range(len(rows))),
        flagged_below=0.5,
        notes={2: "a\u2028b"},
        settings={"folds": 5},
    )
    write_scores(path, folder.task, rows, [score])
    assert read_scores(path, folder.task, rows) == (score,)
    # Of the same rows in another order, each has its own.
    assert read_scores(path, folder.task, rows[::-1])[0].values == score.values[::-1]

    with pytest.raises(
        DataError, match=r"has scores of other rows than those of the task 'notes'.*\(32 rows then, 31 now"
    ):
        read_scores(path, folder.task, rows[1:])
    text = read_text(path)
    path.write_text(text.replace("0.142", "0.242"))
    with pytest.raises(
        VerificationError, match="its lines are not those that were written; make it again with: udr pool"
    ):
        read_scores(path, folder.task, rows)
    path.write_text(text.replace('"task": "notes"', '"task": "news"'))
    with pytest.raises(DataError, match="has scores of the task 'news', not of 'notes'; run: udr pool score"):
        read_scores(path, folder.task, rows)
    path.write_text("[1]\n")
    with pytest.raises(DataError, match=r"scores.jsonl:1: is no file of scores; make one with: udr pool score"):
        read_scores(path, folder.task, rows)


def test_scores_as_parquet_are_those_of_jsonl(tmp_path: Path) -> None:
    task = parse_task(NOTES)
    scores = (scored(0.1, -0.25, 1, 0.3, 1 / 3, notes={1: "sad is likelier"}), scored(1, 0, 1, 1, 1, name="copies"))
    for name in ("scores.jsonl", "scores.parquet"):
        write_scores(tmp_path / name, task, ROWS, scores)
        assert read_scores(tmp_path / name, task, ROWS) == scores
    table = pyarrow.parquet.read_table(tmp_path / "scores.parquet")
    assert table.column_names == ["id", "labels", "labels_note", "copies", "copies_note"]
    assert table.column("labels").to_pylist() == list(scores[0].values)
    pyarrow.parquet.write_table(table.slice(1), tmp_path / "scores.parquet")
    with pytest.raises(VerificationError, match="its lines are not those that were written"):
        read_scores(tmp_path / "scores.parquet", task, ROWS)
    pyarrow.parquet.write_table(table.replace_schema_metadata(), tmp_path / "scores.parquet")
    with pytest.raises(DataError, match="is no file of scores"):
        read_scores(tmp_path / "scores.parquet", task, ROWS)
    (tmp_path / "scores.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_scores(tmp_path / "scores.parquet", task, ROWS)
