"""The making of the released checkpoint, ``benchmarks/checkpoint.py``, with tiny models; and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from udr.data import open_collection
from udr.files import read_toml
from udr.models import SentenceEncoder

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FROZEN = """
base = "{base}"
seed = 0
allowed = ["MIT"]
share_alike = "None are trained on."

[trained]
colours = "MIT"
reverse = "MIT"

[views.forth]
of = "reverse"
turned = true
family = "order"
kind = "generation"
instruction = "Say the words in their order."
input = "Reversed: {{reversed}}"
output = "Words: {{target}}"
metric = "exact_match"

[held_out.unseen_families]
opinion = ["reviews"]

[held_out.seen_families]

[watched]
tasks = ["colours"]
weights = [0.5, 1.0]
rows = 2

[training]
queries = 10
candidates = 6
iterations = 1
epochs = 1
lora_rank = 2
learning_rate = 5e-2
batch_size = 4
list_length = 4
"""
NAMED = """
[views.named]
of = "colours"
family = "naming"
kind = "generation"
instruction = "Name the colour."
input = "Thing: {thing}"
output = "Colour: {target}"
metric = "bleu"
"""


@pytest.fixture
def checkpoint(
    load_benchmark: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ModuleType:
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    return load_benchmark("checkpoint")


@pytest.fixture
def licensed(tasks: Path, tmp_path: Path) -> Path:
    """The tasks, each with a licence."""
    root = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    for file in root.rglob("task.toml"):
        file.write_text(f'{file.read_text("utf-8")}\n[source]\nlicense = "MIT"\ncitation = "Us, today"\n', "utf-8")
    return root


@pytest.mark.slow
def test_all_parts_make_a_checkpoint_with_a_card(
    checkpoint: ModuleType,
    licensed: Path,
    lm_folder: Path,
    encoder_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("peft")
    # Two test rows do not tell which is best.
    monkeypatch.setattr(checkpoint, "best_weight", lambda means: 0.5)
    frozen, out = tmp_path / "frozen.toml", tmp_path / "out"
    frozen.write_text(FROZEN.format(base=encoder_folder), "utf-8")
    given = [str(licensed), "--out", str(out), "--frozen", str(frozen), "--lm", str(lm_folder), "--dtype", "float32"]
    given += ["--rows", "3", "--label-head", "--views"]
    checkpoint.main([*given, "--parts", "plan"])
    shown = capsys.readouterr().out
    assert (
        "180 pairs" in shown
        and "forth (order), a view of reverse" in shown
        and "held out, unseen families: opinion: reviews" in shown
        and "--dry-run" in shown
    )
    checkpoint.main(given)

    average = json.loads((out / "average.json").read_text("utf-8"))
    assert set(average["means"]) == {"0.0", "0.5", "1.0"} and average["chosen"] == 0.5
    made = json.loads((out / "checkpoint" / "difference.json").read_text("utf-8"))
    assert (made["rank"], made["weight"]) == (2, 0.5)
    own, base = (
        SentenceEncoder.load(str(name), "cpu").encode_queries(["a"]) for name in (out / "checkpoint", encoder_folder)
    )
    assert abs(own - base).max() > 1e-4
    held_out = json.loads((out / "held-out.json").read_text("utf-8"))
    assert set(held_out["values"]) == {"bm25", "base", "checkpoint", "base + head", "checkpoint + head"}
    assert set(held_out["gains"]) == {
        "checkpoint over base",
        "checkpoint over bm25",
        "checkpoint + head over base + head",
    }
    card = (out / "checkpoint" / "README.md").read_text("utf-8")
    assert "| colours | choice | MIT | Us, today |" in card and "| unseen families | opinion | reviews |" in card
    assert "| forth | order | reverse | Say the words in their order. |" in card
    assert "None are trained on." in card and "checkpoint over base" in card
    assert "3 test rows each, answered by" in card
    with pytest.raises(SystemExit, match="not of this checkpoint with these --rows, --lm and --dtype"):
        checkpoint.main([*given, "--parts", "card", "--rows", "2"])

    # By another name of the folder nothing is done again, and what a killed evaluation left does no harm.
    done = {path: path.stat().st_mtime_ns for path in [*out.glob("*/predictions/*/*"), *out.glob("run/model/*.*")]}
    for whole in out.glob("*/predictions/*/bm25.*"):
        left = whole.read_text("utf-8").replace('"bm25"', '"killed"').splitlines()[:2]
        whole.with_name("killed.4-shot.jsonl").write_text("\n".join(left), "utf-8")
    given[given.index(str(out))] = str(licensed / ".." / "out")
    checkpoint.main(given)
    assert {path: path.stat().st_mtime_ns for path in done} == done

    # What was answered elsewhere to the same rows is taken from there.
    figures = tmp_path / "figures.json"
    given += ["--parts", "evaluate", "--untrained", str(figures)]
    settings = {"rows": 3, "answers": str(lm_folder), "dtype": "float32", "shots": 4}
    known = {"settings": settings, "values": {"bm25": {"reviews": {"rows": [100, 100, 100]}}}}
    figures.write_text(json.dumps(known), "utf-8")
    checkpoint.main(given)
    assert json.loads((out / "held-out.json").read_text("utf-8"))["values"]["bm25"]["reviews"] == 100
    figures.write_text(json.dumps({**known, "settings": {**settings, "rows": 4}}), "utf-8")
    with pytest.raises(SystemExit, match="has figures of other settings: rows 4, not 3"):
        checkpoint.main(given)


def test_a_checkpoint_is_better_than_its_base(checkpoint: ModuleType) -> None:
    assert checkpoint.best_weight({0.0: 40.0, 0.5: 41.0, 0.75: 42.5, 1.0: 42.0}) == 0.75
    for own in (39.0, 40.0):
        with pytest.raises(SystemExit, match=r"no weight of the difference is better than the base .* another --out"):
            checkpoint.best_weight({0.0: 40.0, 0.5: own})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('colours = "MIT"', 'colours = "CC0"', "colours has the licence 'MIT', not 'CC0'; colours: 'CC0' is not among"),
        ('opinion = ["reviews"]', 'choice = ["colours"]', "colours is held out and trained on"),
        ('opinion = ["reviews"]', 'words = ["reviews"]', "reverse is of the held-out family words"),
        ('tasks = ["colours"]', 'tasks = ["reviews"]', "reviews is watched, but not trained on"),
        ('family = "order"', 'family = "opinion"', "forth is of the held-out family opinion"),
        ('of = "reverse"', 'of = "reviews"', "forth is a view of reviews, which is not trained on"),
        ("turned = true", "", r"the view forth needs the fields of reverse, or turned = true"),
        (
            '"Reversed: {{reversed}}"',
            '"{{reversed}} {{by}}"',
            "the view forth, which is turned, and reverse need one field",
        ),
    ],
)
def test_what_was_not_frozen_is_refused(
    checkpoint: ModuleType, licensed: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    frozen = tmp_path / "frozen.toml"
    text = FROZEN.replace(old, new).format(base="x")
    frozen.write_text(text, "utf-8")
    with pytest.raises(SystemExit, match=message):
        checkpoint.main(
            [str(licensed), "--out", str(tmp_path / "out"), "--frozen", str(frozen), "--parts", "plan", "--views"]
        )


def test_views_have_the_same_texts_as_their_sources(
    checkpoint: ModuleType, licensed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A turned one swaps field and target, and keeps one row of those with the same field; another drops choices."""
    rows = licensed / "words" / "reverse" / "train.jsonl"
    again = {"id": "again", "input": {"words": "some other words"}, "target": "train0 grass"}
    rows.write_text(f"{rows.read_text('utf-8')}{json.dumps(again)}\n", "utf-8")
    frozen = tmp_path / "frozen.toml"
    named = FROZEN.format(base="x") + NAMED
    frozen.write_text(named, "utf-8")
    given = [str(licensed), "--out", str(tmp_path / "out"), "--frozen", str(frozen), "--parts", "plan"]
    checkpoint.main([*given, "--queries", "20"])
    shown = capsys.readouterr().out
    assert "240 pairs" in shown and "a view of" not in shown
    checkpoint.main([*given, "--views"])

    tasks = open_collection(tmp_path / "out" / "tasks").tasks
    assert set(tasks) == {"colours", "reverse", "forth", "named"}
    assert "license" in (tasks["forth"].path / "task.toml").read_text("utf-8")
    words = {(row.input["words"], row.target) for row in tasks["reverse"].rows("train")}
    turned = [(row.target, row.input["reversed"]) for row in tasks["forth"].rows("train")]
    assert words - set(turned) == {("some other words", "train0 grass")} and len(turned) == len(set(turned)) == 24
    named_rows = tasks["named"].rows("test")
    assert [(row.input, row.target, row.choices) for row in named_rows] == [
        (row.input, row.target, ()) for row in tasks["colours"].rows("test")
    ]


def test_the_frozen_tasks_are_enough_and_apart(checkpoint: ModuleType) -> None:
    """At least eight that are held out, of which three families are never trained on; no licence but those allowed."""
    frozen = read_toml(BENCHMARKS / "checkpoint.toml")
    held_out = checkpoint.held_out(frozen)
    assert len(held_out) == len(set(held_out)) >= 8 and len(frozen["held_out"]["unseen_families"]) >= 3
    assert not set(held_out) & set(frozen["trained"]) and set(frozen["trained"].values()) <= set(frozen["allowed"])
    assert not any("SA" in licence or "NC" in licence or "GPL" in licence for licence in frozen["allowed"])
    assert set(frozen["watched"]["tasks"]) <= set(frozen["trained"])
    # Copies of share-alike or non-commercial data, whatever licence the copy states.
    assert not {"arc_easy", "arc_challenge", "dart", "break_qdmr", "cos_e", "svamp"} & set(frozen["trained"])
