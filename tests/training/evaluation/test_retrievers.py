"""Retrievers by name: options are those of a retrieval, read strictly, and give what an index with them gives."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service.conftest import served
from tests.service.test_client import forwarding
from tests.training.copy_lm import CopyLM
from tests.udr.models.runner.fake_pool import FakePool
from udr.client import Client
from udr.data import Pool, open_collection, sample
from udr.errors import ConfigError, ServiceError
from udr.models import Scheduler, SentenceEncoder
from udr.models.runner import LoadEncoder
from udr.prompts import Order
from udr.retrieval import Retriever
from udr.store import open_version, write_weights
from udr.types import Json, Row
from udr_index.build import BuildConfig, build
from udr_training.evaluation import EvaluationConfig, evaluate, open_retriever, parse_name, short_names
from udr_training.evaluation.retrievers import LocalRetriever, PoolSource, ServiceRetriever, split_unquoted

LISTED = "filter, max_copy, min_similarity, max_similarity, mode, weight, distinct, diversity, coverage, balance"


@pytest.fixture(scope="module")
def index(tasks: Path, encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of all tasks by the tiny encoder, with BM25 and a label head for the reviews."""
    out = tmp_path_factory.mktemp("indexes") / "built"
    config = BuildConfig(tasks=tasks, out=out, model=str(encoder_folder), bm25=True, label_head=True, export=False)
    build(config, SentenceEncoder.load(str(encoder_folder)))
    return out


def queries(tasks: Path, task: str = "reviews") -> tuple[Pool, list[Row]]:
    folder = open_collection(tasks).tasks[task]
    return folder.pool(), sample(folder.rows("test"), None, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bm25?divresity=0.2", f"unknown option 'divresity'; the options are {LISTED}"),
        ("e?diversity=high", "diversity must be a number, found 'high'"),
        ("e?diversity=nan", "diversity must be a number, found nan"),
        ("e?diversity=2", r"diversity must be from 0 to 1, found 2\.0"),
        ("e?candidates=9.5", "candidates must be a whole number, found '9.5'"),
        ("e?candidates=2", r"candidates must be a whole number, not below k \(4\); found 2"),
        ("e?candidates=9", "candidates is how many are chosen from or explained, so give one of balance"),
        ("e?filter=n = x", "the filter, at character 5: expected a value"),
        ("e?balance=yes", "balance must be true or false, found 'yes'"),
        ("e?balance", "options must be NAME=VALUE, joined by &; found 'balance'"),
        ("e?mode=sparse", "mode must be one of dense, bm25, hybrid; found 'sparse'"),
        ("e?order=best", "order must be one of nearest_last, nearest_first, alternate_labels, shuffle; found 'best'"),
        ("e?distinct=1&distinct=1", "distinct is given twice"),
        ("hybrid?mode=dense", "mode is given twice"),
        ("bm25?diversity=0.5", "diversity weighs the encoder's similarities"),
        ("?diversity=0.5", "there is no name before the options"),
        ("random?balance=true", "random searches nothing, so it takes no options"),
        ("e?explain=true", "an evaluation lacks the option explain, since it changes no demonstration; omit it"),
        ("e?exclude=t1", "lacks the option exclude, since ids are of one task"),
        ('e?filter=shop = "A&balance=true', "the filter, at character"),
    ],
)
def test_invalid_options_are_refused_before_anything_is_loaded(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig(retrievers=(name,))


def test_names_are_parsed_once_and_compared_by_what_they_mean() -> None:
    parsed = parse_name("my/run?label_head=false&diversity=0.2&order=shuffle")
    assert (parsed.source, parsed.order) == ("my/run", Order.SHUFFLE)
    assert parsed.options == {"label_head": False, "diversity": 0.2}
    assert parse_name("hybrid?weight=0.9").options == {"mode": "hybrid", "weight": 0.9}
    with pytest.raises(ConfigError, match=r"the retriever 'e\?diversity=0.20&balance=true' is named twice"):
        EvaluationConfig(retrievers=("e?balance=true&diversity=0.2", "e?diversity=0.20&balance=true"))
    names = ["org/e", "org/e?balance=true", "other/e?mode=hybrid", "bm25"]
    assert list(short_names(names).values()) == ["org/e", "org/e?balance=true", "other/e?mode=hybrid", "bm25"]
    assert EvaluationConfig(retrievers=tuple(names), baseline="other/e?mode=hybrid").compared_with() == names[2]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("random,my run (2),bm25", ["random", "my run (2)", "bm25"]),
        ('e?filter=agent in ["Ann", "Bob"],bm25', ['e?filter=agent in ["Ann", "Bob"]', "bm25"]),
        (r'e?filter=a = "one, \"two\"]", b', [r'e?filter=a = "one, \"two\"]"', " b"]),
        ("a),b", ["a)", "b"]),
        ('a",b', ['a"', "b"]),
        ("", [""]),
    ],
)
def test_names_are_split_outside_quotes_and_brackets(text: str, parts: list[str]) -> None:
    assert split_unquoted(text, ",") == parts


def test_a_filter_may_have_ampersands_and_commas() -> None:
    parsed = parse_name('e?filter=shop = "A&B" and agent in ["Ann", "Bob"]&balance=true')
    assert parsed.options == {"filter": 'shop = "A&B" and agent in ["Ann", "Bob"]', "balance": True}


OPTIONS: list[dict[str, Any]] = [
    {},
    {"mode": "bm25", "min_similarity": 0.5},
    {"mode": "bm25", "distinct": 0.9},
    {"mode": "bm25", "filter": '$target = "neutral"'},
    {"mode": "hybrid"},
    {"mode": "hybrid", "weight": 0.2},
    {"diversity": 0.4, "candidates": 9},
    {"coverage": 0.5, "candidates": 9},
    {"balance": True, "max_copy": 0.99},
    {"distinct": 0.99, "max_similarity": 0.999},
    {"filter": 'n < 7 or $target in ["negative", "so & so"]', "coverage": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_retriever_with_options_finds_what_an_index_finds(
    tasks: Path, index: Path, encoder_folder: Path, options: dict[str, Any]
) -> None:
    pool, rows = queries(tasks)
    texts = {True: "true", False: "false"}
    written = "&".join(f"{name}={texts.get(value, value)}" for name, value in options.items())
    with Retriever.open(index, encoder=SentenceEncoder.load(str(encoder_folder))) as retriever:
        retrievals = [retriever.retrieve("reviews", row.input, 5, label_head=False, **options) for row in rows]
    expected = [[item.id for item in retrieval] for retrieval in retrievals]
    over_pool = open_retriever(f"{encoder_folder}?{written}" if written else str(encoder_folder))
    over_index = open_retriever("&".join(filter(None, [f"{index}?label_head=false", written])))
    for compared in (over_pool, over_index):
        compared.check(pool, rows, 5)
        shown = compared.demonstrations(pool, rows, 5)
        assert [[row.id for row in item.rows] for item in shown] == expected
        assert [item.drawn for item in shown] == [0] * len(rows)
    # Prompts show the most similar last, whatever the order of choice.
    for item, retrieval in zip(shown, retrievals, strict=True):
        nearest = sorted(retrieval[:3], key=lambda found: -found.similarity)
        assert [row.id for row in item.prompt(range(len(item.rows))[:3])] == [found.id for found in reversed(nearest)]


def test_an_index_ranks_with_its_label_head_unless_told_not_to(tasks: Path, index: Path) -> None:
    pool, rows = queries(tasks)
    with Retriever.open(index) as retriever:
        found = [[item.id for item in retriever.retrieve("reviews", row.input, 6)] for row in rows]
    shown = open_retriever(str(index)).demonstrations(pool, rows, 6)
    assert [[row.id for row in item.rows] for item in shown] == found
    plain = open_retriever(f"{index}?label_head=false").demonstrations(pool, rows, 6)
    assert [item.rows for item in plain] != [item.rows for item in shown]


def test_rows_with_choices_are_shown_with_them(tasks: Path, encoder_folder: Path) -> None:
    pool, rows = queries(tasks, "colours")
    (shown, *_) = open_retriever(str(encoder_folder)).demonstrations(pool, rows, 3)
    assert all(row in pool.rows and row.choices for row in shown.rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("balance=true", "balance needs classification tasks, but these are not: colours"),
        ("label_head=true", "task 'colours' has none; run: udr index build --label-head"),
    ],
)
def test_options_that_do_not_fit_a_task_are_refused_before_the_first_answer(
    tasks: Path, index: Path, options: str, message: str
) -> None:
    lm = CopyLM()
    config = EvaluationConfig(retrievers=("random", f"{index}?{options}"))
    with pytest.raises(ConfigError, match=f"retriever .*, colours, row .*: .*{message}"):
        evaluate(open_collection(tasks), lm, config)
    assert lm.asked == 0


def test_an_index_must_hold_the_tasks_and_other_demonstrations_are_told(
    tasks: Path, index: Path, encoder_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = SentenceEncoder.load(str(encoder_folder))
    build(BuildConfig(tasks=tasks, out=tmp_path, names=("reverse",), model=str(encoder_folder), export=False), encoder)
    pool, rows = queries(tasks)
    with pytest.raises(ConfigError, match=r"has no task 'reviews'; it has reverse"):
        open_retriever(str(tmp_path)).check(pool, rows, 3)
    retriever = open_retriever(str(index))
    caplog.clear()
    retriever.check(pool, rows, 3)
    assert caplog.text == ""
    retriever.check(Pool(pool.task, pool.rows[:9]), rows, 3)
    assert "has 24 demonstrations that are not those of the pool, which has 9" in caplog.text


def test_answers_are_asked_for_again_after_writes(
    tasks: Path, index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, lm = Path(shutil.copytree(index, tmp_path / "own")), CopyLM()
    config, collection = EvaluationConfig(retrievers=(str(own),), shots=(1,)), open_collection(tasks, ["reviews"])

    def asked() -> int:
        before = lm.asked
        evaluate(collection, lm, config, output=tmp_path / "out")
        return lm.asked - before

    assert (asked(), asked()) == (4, 0)
    with Retriever.open(own) as retriever:
        retriever.put("reviews", replace(queries(tasks)[0].rows[0], id="new"))
    caplog.clear()
    assert (asked(), asked()) == (4, 0)
    assert "has 25 demonstrations that are not those of the pool, which has 24" in caplog.text
    with Retriever.open(own) as retriever:
        retriever.delete("reviews", "new")
    caplog.clear()
    assert (asked(), asked()) == (4, 0) and "not those of the pool" not in caplog.text


def test_one_evaluation_compares_options_and_its_answers_are_apart(tasks: Path, index: Path, tmp_path: Path) -> None:
    names = ("bm25", "bm25?balance=true", f"{index}?mode=hybrid", f"{index}?order=nearest_first")
    lm, config = CopyLM(), EvaluationConfig(retrievers=names, shots=(2,))
    collection = open_collection(tasks, ["reviews"])
    evaluation = evaluate(collection, lm, config, output=tmp_path)
    assert lm.asked == 4 * 4 and list(evaluation.labels.values()) == [
        *names[:2],
        *(n.removeprefix(f"{index.parent}/") for n in names[2:]),
    ]
    assert len(list((tmp_path / "predictions" / "reviews").iterdir())) == 4
    assert evaluate(collection, lm, config, output=tmp_path).to_json() == evaluation.to_json() and lm.asked == 16
    # The model copies what is shown last: the nearest if it is last, else the next one.
    with Retriever.open(index) as retriever:
        rows = queries(tasks)[1]
        second = [retriever.retrieve("reviews", row.input, 2)[1].target == row.target for row in rows]
    assert evaluation.value(names[3], 2).value == 100 * sum(second) / len(second)


def test_what_searches_by_a_runs_encoder_is_not_untrained(tasks: Path, trained_run: Path, tmp_path: Path) -> None:
    collection = open_collection(tasks, ["reviews"])
    build(BuildConfig(tasks=tasks, out=tmp_path / "built", model=str(trained_run / "model"), export=False))
    mine, run = str(tmp_path / "built"), str(trained_run)
    config = EvaluationConfig(retrievers=("bm25", mine, f"{mine}?mode=bm25", run), shots=(2,), limit=2)
    evaluation = evaluate(collection, CopyLM(), config)
    assert evaluation.runs == (mine, run)
    assert set(evaluation.best_untrained) == {"bm25", f"{mine}?mode=bm25"}


# A running service.


@pytest.mark.parametrize("options", ["", "?mode=hybrid", "?diversity=0.4&order=nearest_first"])
@pytest.mark.parametrize("task", ["reviews", "colours"])
def test_a_service_gives_what_its_index_gives(tasks: Path, index: Path, task: str, options: str) -> None:
    pool, asked = queries(tasks, task)
    expected = open_retriever(f"{index}{options}").demonstrations(pool, asked, 3)
    with Retriever.open(index) as retriever, served(retriever) as service:
        transport = httpx2.MockTransport(forwarding(service))
        name = parse_name(f"http://testserver{options}", 3)
        compared = ServiceRetriever(name, 0, lambda url: Client(url, transport=transport))
        compared.check(pool, asked, 3)
        shown = compared.demonstrations(pool, asked, 3)
        assert compared.identity["version"] == retriever.index_version
        other = Pool(replace(pool.task, instruction="Another."), pool.rows)
        with pytest.raises(ConfigError, match=f"http://testserver: formats task '{task}' by another task.toml"):
            compared.check(other, asked, 3)
    assert [[row.to_json() for row in item.rows] for item in shown] == [
        [row.to_json() for row in item.rows] for item in expected
    ]
    assert [item.prompt(range(2)) for item in shown] == [item.prompt(range(2)) for item in expected]


def test_a_service_is_another_one_after_writes_and_with_other_weights(index: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(index, tmp_path / "own"))

    def identity(retriever: Retriever) -> Mapping[str, Json]:
        with served(retriever) as service:
            transport = httpx2.MockTransport(forwarding(service))
            name = parse_name("http://testserver?mode=hybrid")
            return ServiceRetriever(name, 0, lambda url: Client(url, transport=transport)).identity

    with Retriever.open(own) as retriever:
        identities = [identity(retriever), identity(retriever)]
        assert identities[0] == identities.pop()
        retriever.delete("reviews", [retriever.demonstrations("reviews").rows[0].id])
        identities.append(identity(retriever))
    version = open_version(own)
    write_weights(version.path, version.manifest, {"reviews": 0.9})
    with Retriever.open(own) as retriever:
        identities.append(identity(retriever))
    assert all(identities.count(one) == 1 for one in identities)


def test_a_service_is_named_by_its_url() -> None:
    names = ("http://127.0.0.1:8000", "http://127.0.0.1:8000?mode=bm25", "bm25")
    assert list(short_names(names).values()) == list(names)
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9"):
        open_retriever("http://127.0.0.1:9")


def test_processes_encode_a_large_pool_as_one_does(
    tasks: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, rows = queries(tasks)
    pools = list[FakePool]()

    @contextmanager
    def fake_workers(_: str, load: LoadEncoder, identity: str, *__: object) -> Iterator[Scheduler[Any, Any]]:
        pools.append(FakePool(2, load))
        yield Scheduler(lambda: pools[-1], identity)

    monkeypatch.setattr("udr.models.runner.encoders.open_workers", fake_workers)
    parsed = parse_name(str(encoder_folder))
    found = [
        [shown.rows for shown in LocalRetriever(parsed, source, 0).demonstrations(pool, rows, 5)]
        for source in (PoolSource(parsed, 1, few=23), PoolSource(parsed, 2, few=24), PoolSource(parsed, 2, few=23))
    ]
    assert found[0] == found[1] == found[2] and len(pool) == 24
    assert len(pools) == 1 and pools[0].tickets > 2


def test_fewer_demonstrations_are_chosen_as_if_they_were_the_only_number(
    tasks: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    with (copied / "opinion" / "reviews" / "train.jsonl").open("a", encoding="utf-8") as file:
        for number in range(100):
            text = " ".join(f"w{number * step % 37}" for step in range(1, 9))
            file.write(json.dumps({"id": f"r{number}", "input": {"text": text}, "target": "good"}) + "\n")
    collection, name = open_collection(copied, ["reviews"]), f"{encoder_folder}?diversity=0.9"

    def shown(*shots: int) -> list[list[str]]:
        out = tmp_path / "-".join(map(str, shots))
        evaluate(collection, CopyLM(), EvaluationConfig(retrievers=(name,), shots=shots), output=out)
        (file,) = (out / "predictions" / "reviews").glob("*.2-shot.jsonl")
        return [json.loads(line)["demonstrations"] for line in file.read_text("utf-8").splitlines()[1:]]

    assert shown(2, 40) == shown(2)


def test_what_searches_by_a_trained_encoder_is_known_wherever_it_lies(
    tasks: Path, encoder_folder: Path, trained_run: Path, index: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(trained_run / "model", tmp_path / "mine"))
    config = BuildConfig(tasks=tasks, out=tmp_path / "built", model=str(model), export=False, label_head=False)
    build(config, SentenceEncoder.load(str(model)))
    named = {
        str(trained_run): True,
        str(model): True,
        f"{model}?mode=hybrid": True,
        f"{model}?mode=bm25": False,
        str(tmp_path / "built"): True,
        str(encoder_folder): False,
        str(index): False,
        "bm25": False,
        "random": False,
    }
    assert {name: open_retriever(parse_name(name), 0).trained for name in named} == named
