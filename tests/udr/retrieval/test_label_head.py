"""Retrieval with a label head: the similarity plus alpha times the probability of each row's label, by brute force."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tests.fakes import HashEncoder
from tests.index.builds import WORDS, build_index, replace_once, write_moods
from tests.udr.search.test_faiss_gpu import FakeGpuFaiss
from udr.cli import main
from udr.data import encoder_demonstration, encoder_query, input_text, open_collection, row_query, sample_by
from udr.errors import InvalidInputError
from udr.prompts import PromptBuilder
from udr.retrieval import RetrievalRequest, Retriever
from udr.search import ExactSearch, FaissGpu, LabelledSearch, Vectors
from udr.store import SearchSettings, open_searcher, open_version, write_settings
from udr.types import Row
from udr_index.versions.live import compact

QUERIES = [
    "river mill tower a merry lake castle road",
    "grey field island forest",
    "harbour",
    "dull castle bright road",
]
KINDS = [{}, {"dtype": "float16"}, {"kind": "IVF4,SQ8"}, {"kind": "IVF4,PQ6x4"}, {"kind": "HNSW16"}]

Rows = list[tuple[str, float, float]]


class Oracle:
    """Every row's similarity and ranking score, from scikit-learn's model of the same vectors."""

    def __init__(self, tasks: Path, index: Path) -> None:
        encoder, folder = HashEncoder(), open_collection(tasks).tasks["notes"]
        stamp = open_version(index).manifest.partitions["notes"].label_head
        assert stamp is not None
        self.task, self.rows = folder.task, sorted(folder.pool().rows, key=lambda row: row.id)
        fitted = [self.rows[n] for n in sample_by(range(len(self.rows)), None, 0, str)]
        queries = encoder.encode_queries([row_query(self.task, row) for row in fitted]).astype(np.float64)
        self.model = LogisticRegression(C=stamp.strength, max_iter=1000)
        self.model.fit(queries, [row.target for row in fitted])
        self.vectors = encoder.encode_demonstrations([encoder_demonstration(self.task, row) for row in self.rows])
        self.alpha = stamp.alpha

    def ranked(self, text: str) -> Rows:
        """All rows as (id, similarity, ranking score), in the order of the result."""
        found = self._scored(text, [(row.id, row.target) for row in self.rows], self.vectors)
        return sorted(found, key=lambda item: (-item[2], item[0]))

    def scored(self, text: str, put: Mapping[str, tuple[str, str]]) -> Rows:
        """The same of rows put later, by their ids: (target, text)."""
        rows = [Row(id=id, input={"text": own}, target=target) for id, (target, own) in put.items()]
        vectors = HashEncoder().encode_demonstrations([encoder_demonstration(self.task, row) for row in rows])
        return self._scored(text, [(row.id, row.target) for row in rows], vectors)

    def _scored(self, text: str, rows: Sequence[tuple[str, str]], vectors: Vectors) -> Rows:
        query = encoder_query(self.task.instruction, input_text(self.task, {"text": text}))
        (vector,) = HashEncoder().encode_queries([query]).astype(np.float64)
        (shares,) = self.model.predict_proba(vector[None])
        chance = dict(zip(self.model.classes_, shares, strict=True))
        similarities = vectors.astype(np.float64) @ vector
        return [
            (id, round(float(near), 5), round(float(near + self.alpha * chance.get(target, 0)), 5))
            for (id, target), near in zip(rows, similarities, strict=True)
        ]


def shown(retrieval: Any) -> Rows:
    return [(item.id, item.similarity, item.ranking_score) for item in retrieval]


def assert_equal(found: Rows, expected: Rows, tolerance: float = 2e-5) -> None:
    """The same numbers; and the same ids, where no other row is as near as the regression's last step."""
    np.testing.assert_allclose([row[1:] for row in found], [row[1:] for row in expected], atol=tolerance, rtol=0)
    apart = np.abs(np.diff([row[2] for row in expected], prepend=9, append=-9)) > 2 * tolerance
    for n, (mine, other) in enumerate(zip(found, expected, strict=True)):
        if apart[n] and apart[n + 1]:
            assert mine[0] == other[0]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moods(tmp_path_factory.mktemp("moods"))


@pytest.fixture(scope="module")
def index(tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("index") / "out"
    build_index(tasks, out, bm25=True)
    return out


@pytest.fixture(scope="module")
def retriever(index: Path) -> Iterator[Retriever]:
    with Retriever.open(index, encoder=HashEncoder()) as opened:
        yield opened


@pytest.fixture(scope="module")
def oracle(tasks: Path, index: Path) -> Oracle:
    return Oracle(tasks, index)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_results_equal_brute_force(tasks: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """Approximate kinds as well, if they look at every list or candidate."""
    build_index(tasks, tmp_path / "index", **options)
    version = open_version(tmp_path / "index")
    if "kind" in options:
        parameters = "efSearch=512" if "HNSW" in options["kind"] else "nprobe=4"
        write_settings(version.path, version.manifest, {"notes": SearchSettings(parameters=parameters, oversample=64)})
    oracle = Oracle(tasks, tmp_path / "index")
    tolerance = 1e-3 if "dtype" in options else 2e-5
    with Retriever.open(tmp_path / "index", encoder=HashEncoder()) as retriever:
        for text in QUERIES:
            expected = oracle.ranked(text)
            assert_equal(shown(retriever.retrieve("notes", text, 8)), expected[:8], tolerance)
            plain = sorted(((id, similarity) for id, similarity, _ in expected), key=lambda row: (-row[1], row[0]))
            without = retriever.retrieve("notes", text, 8, label_head=False)
            assert all(item.ranking_score is None for item in without)
            np.testing.assert_allclose(
                [item.similarity for item in without], [row[1] for row in plain[:8]], atol=tolerance, rtol=0
            )


@pytest.mark.parametrize("fp16", [False, True])
@pytest.mark.parametrize("kind", ["flat", "IVF4,Flat"])
def test_a_gpu_ranks_as_the_cpu(tasks: Path, tmp_path: Path, kind: str, fp16: bool) -> None:
    build_index(tasks, tmp_path / "index", kind=kind)
    version, settings = (
        open_version(tmp_path / "index"),
        SearchSettings(parameters="nprobe=4" if kind != "flat" else ""),
    )
    queries, gpu = HashEncoder().encode_queries(QUERIES), FaissGpu(0, FakeGpuFaiss())
    on_cpu, on_gpu = (open_searcher(version, "notes", settings, device, fp16=fp16) for device in (None, gpu))
    assert isinstance(on_cpu, LabelledSearch) and isinstance(on_gpu, LabelledSearch)
    chances = on_cpu.head.probabilities(queries)
    for expected, found in (
        (on_cpu.search(queries, 7), on_gpu.search(queries, 7)),
        (on_cpu.search_with_head(queries, chances, 7), on_gpu.search_with_head(queries, chances, 7)),
    ):
        assert np.array_equal(expected[1], found[1])
        # In half the memory, rows that tie at the end may be others.
        assert fp16 or np.array_equal(expected[0], found[0])
    assert not np.array_equal(on_gpu.search(queries, 7)[0], on_gpu.search_with_head(queries, chances, 7)[0])


def test_searchers_that_know_no_head_are_searched_exactly(index: Path, retriever: Retriever) -> None:
    version, request = open_version(index), RetrievalRequest(task="notes", input=QUERIES[0], k=9)
    with Retriever(version, HashEncoder(), {"notes": ExactSearch(version.vectors("notes"))}) as opened:
        assert opened.retrieve_batch([request]) == retriever.retrieve_batch([request])


def test_several_at_once_are_as_alone(retriever: Retriever) -> None:
    requests = [
        RetrievalRequest(task="notes", input=text, k=5, label_head=head) for text in QUERIES for head in (None, False)
    ]
    alone = [retriever.retrieve("notes", r.input, 5, label_head=r.label_head) for r in requests]
    assert retriever.retrieve_batch(requests) == alone


@pytest.mark.parametrize("text", QUERIES)
def test_bounds_use_the_similarity(retriever: Retriever, oracle: Oracle, text: str) -> None:
    """The next ones replace what a bound drops, however deep they are."""
    every = oracle.ranked(text)
    similarities = sorted(similarity for _, similarity, _ in every)
    low, high = similarities[len(every) // 3] + 5e-6, similarities[-20] + 5e-6
    above = [row for row in every if row[1] >= low]
    assert_equal(shown(retriever.retrieve("notes", text, 150, min_similarity=low)), above)
    assert_equal(shown(retriever.retrieve("notes", text, 4, min_similarity=low)), above[:4])
    below = [row for row in every if row[1] <= high]
    assert_equal(shown(retriever.retrieve("notes", text, 6, max_similarity=high)), below[:6])
    first = [row[0] for row in every[:3]]
    assert_equal(shown(retriever.retrieve("notes", text, 4, exclude=first)), every[3:7])


def test_near_copies_and_diversity_compare_the_encoder_s_vectors(retriever: Retriever, oracle: Oracle) -> None:
    text, units = QUERIES[0], oracle.vectors.astype(np.float64)
    at = {row.id: number for number, row in enumerate(oracle.rows)}
    distinct = retriever.retrieve("notes", text, 12, distinct=0.8)
    kept: list[str] = []
    for id, _, _ in shown(retriever.retrieve("notes", text, 160)):
        if all(round(float(units[at[id]] @ units[at[other]]), 5) < 0.8 for other in kept):
            kept.append(id)
    assert [item.id for item in distinct] == kept[:12]

    candidates = shown(retriever.retrieve("notes", text, 50))
    chosen: list[str] = []
    for _ in range(5):
        worth = {
            id: round(0.5 * score - 0.5 * max(float(units[at[id]] @ units[at[other]]) for other in chosen), 5)
            if chosen
            else score
            for id, _, score in candidates
            if id not in chosen
        }
        chosen.append(max(worth, key=lambda id: worth[id]))
    diverse = retriever.retrieve("notes", text, 5, diversity=0.5)
    assert [item.id for item in diverse] == chosen


def test_rounds_take_the_best_of_each_label(retriever: Retriever, oracle: Oracle) -> None:
    every, target = oracle.ranked(QUERIES[0]), {row.id: row.target for row in oracle.rows}
    first = {label: [row for row in every if target[row[0]] == label][:4] for label in ("glad", "sad")}
    balanced = retriever.retrieve("notes", QUERIES[0], 8, balance=True)
    expected = sorted((row for rows in first.values() for row in rows), key=lambda row: -row[2])
    assert_equal(sorted(shown(balanced), key=lambda row: -row[2]), expected)


def test_a_hybrid_search_fuses_the_head_s_ranking(retriever: Retriever) -> None:
    dense = [item.id for item in retriever.retrieve("notes", QUERIES[0], 100)]
    words = [item.id for item in retriever.retrieve("notes", QUERIES[0], 100, mode="bm25")]
    sums = {
        id: sum(1 / (61 + ranking.index(id)) for ranking in (dense, words) if id in ranking) for id in {*dense, *words}
    }
    hybrid = retriever.retrieve("notes", QUERIES[0], 5, mode="hybrid")
    assert [item.id for item in hybrid] == sorted(sums, key=lambda id: (-sums[id], id))[:5]
    assert all(item.ranking_score is None for item in hybrid)


def test_wider_searches_use_the_similarity_alone(retriever: Retriever) -> None:
    scopes: list[dict[str, Any]] = [{"family": "mood"}, {"scope": "all"}]
    for scope in scopes:
        assert all(item.ranking_score is None for item in retriever.retrieve(input=QUERIES[0], k=3, **scope))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "notes", "mode": "bm25"}, "mode 'bm25' does not use one"),
        ({"family": "mood"}, "share no scale, so it needs a task"),
        ({"scope": "all"}, "share no scale, so it needs a task"),
        ({"task": "notes", "label_head": 1}, "label_head must be true, false or absent, found 1"),
    ],
    ids=str,
)
def test_a_head_that_cannot_rank_is_refused_if_asked_for(
    retriever: Retriever, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        retriever.retrieve(input="x", **{"label_head": True, **options})


def test_an_explanation_says_what_the_head_added(retriever: Retriever, oracle: Oracle) -> None:
    explained = retriever.retrieve("notes", QUERIES[0], 3, explain=True).decisions
    scores = [decision.ranking_score for decision in explained]
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    for decision in explained:
        assert decision.ranking_score is not None
        added = float(decision.reason.split("the label head added ")[1].split(" for ")[0])
        assert added == pytest.approx(decision.ranking_score - decision.similarity, abs=2e-5)
    assert "the label head" not in str(retriever.retrieve("notes", "x", 3, explain=True, label_head=False).decisions)


def test_a_prompt_shows_the_best_last(retriever: Retriever) -> None:
    class Words:
        def count(self, text: str) -> int:
            return len(text.split())

    retrieval = retriever.retrieve("notes", QUERIES[0], 6)
    prompt = PromptBuilder(Words(), 1000).build(retriever.tasks["notes"], QUERIES[0], retrieval)
    assert [item.id for item in prompt.demonstrations] == [item.id for item in retrieval][::-1]
    assert [item.ranking_score for item in prompt.demonstrations] == [item.ranking_score for item in retrieval][::-1]


def test_retrieval_loads_no_scikit_learn(index: Path) -> None:
    code = (
        "import sys; from tests.fakes import HashEncoder; from udr.retrieval import Retriever\n"
        f"retriever = Retriever.open({str(index)!r}, encoder=HashEncoder())\n"
        "assert retriever.retrieve('notes', 'a merry lake', 2)[0].ranking_score\n"
        "print(json.dumps(sorted(sys.modules))) if (json := __import__('json')) else None"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parents[3])
    assert not {name.partition(".")[0] for name in json.loads(done.stdout)} & {"sklearn", "scipy"}


def test_the_command_shows_both_numbers(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(tasks, tmp_path / "index")
    monkeypatch.setattr("udr.models.SentenceEncoder.load", lambda *_, **__: HashEncoder())
    monkeypatch.setattr("udr.retrieval.retriever.retriever.encoder_name", lambda *_, **__: "fake-hash")
    command = ["retrieve", str(tmp_path / "index"), "a merry lake", "--task", "notes", "--k", "2"]
    assert main([*command, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["demonstrations"][0]
    assert main(command) == 0
    assert (
        f"  1  {first['similarity']:.5f}  {first['ranking_score']:.5f}  notes  {first['id']}" in capsys.readouterr().out
    )
    assert main([*command, "--json", "--no-label-head"]) == 0
    assert "ranking_score" not in capsys.readouterr().out


def test_rows_put_later_rank_by_the_head_until_a_new_build(tasks: Path, tmp_path: Path) -> None:
    """A label that the head does not know adds nothing, until a compaction fits the head again."""
    own, out = Path(shutil.copytree(tasks, tmp_path / "tasks")), tmp_path / "index"
    replace_once(next(own.rglob("task.toml")), '"sad"', '"sad", "calm"')
    build_index(own, out)
    oracle, (text, *_) = Oracle(own, out), QUERIES
    put = {f"calm{n}": ("calm", f"{text} {word}") for n, word in enumerate(WORDS)} | {
        "glad": ("glad", f"{text} bright")
    }
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        retriever.put("notes", [{"id": id, "input": {"text": of}, "target": t} for id, (t, of) in put.items()])
        expected = sorted(oracle.ranked(text) + oracle.scored(text, put), key=lambda item: (-item[2], item[0]))
        found = retriever.retrieve("notes", text, 30)
    assert_equal(shown(found), expected[:30])
    calm = [item for item in found if item.target == "calm"]
    assert calm and all(item.ranking_score == item.similarity for item in calm)
    assert compact(out, HashEncoder()).refitted == ("notes",)
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        calm = [item for item in retriever.retrieve("notes", text, 30) if item.target == "calm"]
    assert calm and all((item.ranking_score or 0) > item.similarity for item in calm)
