"""Criteria: those that predict a person's choices are found and kept, misleading ones dropped, rows scored by them."""

import json
import random
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import write_task
from tests.tiny_models import save_encoder
from tests.training.answering import chat_server as fake
from tests.training.answering.chat_server import ChatServer, Messages
from tests.training.conftest import Udr
from tests.training.feedback.remote.completions_server import watched
from udr.data import parse_task
from udr.errors import DataError
from udr.types import Row
from udr_training.pool.criteria import (
    KNOWN,
    CriteriaJudge,
    Criterion,
    MiningSettings,
    Verdict,
    criteria_score,
    judge,
    lower_bound,
    majority,
    mine,
    random_pairs,
    rank,
    read_verdict,
)

ESSAYS = {
    "name": "essays",
    "family": "texts",
    "kind": "generation",
    "instruction": "Explain.",
    "input": "Question: {question}",
    "output": "Answer: {target}",
    "metric": "rouge_l",
}
TASK = parse_task(ESSAYS)
CHANCE = random.Random(0)
ROWS = [
    Row(id=f"r{n}", input={"question": f"{n}?"}, target=f"depth {CHANCE.random():.4f} length {CHANCE.random():.4f}")
    for n in range(60)
]
"""Rows whose depth and length, independent of each other, stand in them."""


def number(text: str, name: str) -> float:
    (found,) = re.findall(rf"{name} (\d\.\d+)", text)
    return float(found)


def pairs(count: int = 30) -> list[tuple[Row, Row]]:
    """Pairs of which a person prefers the deeper row, whatever its length."""
    pool = [(ROWS[first], ROWS[second]) for first, second in random_pairs(len(ROWS), count, 1)]
    return [(a, b) if number(a.target, "depth") > number(b.target, "depth") else (b, a) for a, b in pool]


def work(text: str) -> str:
    """A worker that judges by what the criterion names; "thorough" is vague at first, and means depth when revised."""
    (criterion,) = re.findall(r"Criterion: (.*)", text)
    first, second = (part.partition("\n\n")[0] for part in re.split(r"Row [AB]:\n", text)[1:])
    if criterion.startswith("place"):
        return "A"
    if criterion.startswith("shy"):
        return "neither"
    a, b = (number(row, "length" if criterion.startswith("length") else "depth") for row in (first, second))
    if criterion == "thorough. It is thorough.":
        # Wrong in a third of the pairs, by what it reads.
        return "AB"[(a < b) ^ (hash((a, b) if a < b else (b, a)) % 10 < 3)]
    return "A" if a > b else "B"


def propose(texts: Sequence[str]) -> list[str]:
    """A manager with good and bad ideas."""
    (text,) = texts
    if text.startswith("A criterion says"):
        return ["It goes into depth."]
    names = "thorough length place shy depth" if "were tried here, and" not in text else "length place"
    found = [{"name": name, "text": f"It is {name}."} for name in names.split()]
    return [f"Here they are:\n```json\n{json.dumps(found)}\n```"]


def asked(texts: Sequence[str]) -> list[str]:
    return list(map(work, texts))


def test_criteria_that_predict_the_preferences_are_kept_and_misleading_ones_dropped() -> None:
    said = list[str]()
    mined = mine(TASK, pairs(), propose, asked, MiningSettings(number=5), said.append)
    kept = {judged.criterion.name: judged for judged in mined.kept}
    assert kept["depth"].agreement == 1 and kept["depth"].decided == 30
    assert kept["depth"].confidence == pytest.approx(30 / (30 + 1.6449**2), abs=1e-4)
    # It was revised, and agrees then; the known ones that filled up are judged by depth as well here.
    assert kept["thorough"].criterion.text == "It goes into depth."
    dropped = {judged.criterion.name: judged for judged in mined.dropped}
    assert dropped.keys() >= {"length", "place", "shy"} and not dropped.keys() & kept.keys()
    # What always prefers a place agrees in half of the pairs, since half are swapped.
    assert (dropped["place"].agreement, dropped["shy"].decided, dropped["shy"].confidence) == (0.5, 0, 0)
    assert mined.agreement == 1 and said[0] == "round 1: 1 kept, 1 to revise, 3 dropped"


def test_known_criteria_fill_up_what_a_manager_does_not_propose() -> None:
    said = list[str]()
    mined = mine(TASK, pairs(), lambda texts: ["I cannot."], asked, MiningSettings(number=3, rounds=1), said.append)
    assert {judged.criterion for judged in mined.kept} == set(KNOWN[:3])
    assert said[0] == "the model proposes 0 of 3 criteria that can be read; known ones fill up"


def test_a_managers_thoughts_are_no_part_of_its_replies() -> None:
    said = list[str]()

    def thinking(texts: Sequence[str]) -> list[str]:
        return [f"Some [of these].\n</think>\n{propose(texts)[0]}"]

    mined = mine(TASK, pairs(), thinking, asked, MiningSettings(number=5), said.append)
    assert {"depth", "thorough"} <= {judged.criterion.name for judged in mined.kept}
    assert {judged.criterion.text for judged in mined.kept} >= {"It goes into depth."}
    assert said[0].startswith("round 1: 1 kept, 1 to revise")


def test_models_that_are_cut_in_their_thoughts_are_said_to_need_more_tokens() -> None:
    said, asked_for = list[str](), list[str]()

    def cut(texts: Sequence[str]) -> list[str]:
        asked_for.extend(texts)
        return ["<think>[A"] * len(texts)

    with pytest.raises(DataError, match=r"0% of 0 pairs; 150 of 150 verdicts cannot be read: .*max_completion_tokens"):
        mine(TASK, pairs(), cut, cut, MiningSettings(number=5), said.append)
    # A model without one verdict is not asked for another round.
    assert len(asked_for) == 1 + 5 * 30 and "the reply is empty: a model that thinks first" in said[0]
    judged = CriteriaJudge(KNOWN[:2], cut, random_pairs(len(ROWS), 40, 0))
    vectors = np.zeros((len(ROWS), 4), np.float32)
    with pytest.raises(DataError, match=r"decide 0 of 40 pairs, .*; 80 of 80 verdicts cannot be read: a model that"):
        criteria_score(TASK, ROWS, vectors, judged)


def test_without_a_criterion_that_agrees_it_says_so() -> None:
    with pytest.raises(
        DataError, match=r"no criterion agrees with the pairs; the best of \d+, '.*', agrees in 50% of 30"
    ):
        mine(TASK, pairs(), lambda texts: ["no"], lambda texts: ["A"] * len(texts))


def test_the_lower_bound_is_wilsons() -> None:
    # Against the equation's roots: (p - x)^2 = z^2 x (1 - x) / n.
    for share, count in ((0.8, 30), (0.5, 10), (1.0, 7)):
        bound = lower_bound(share, count)
        assert (share - bound) ** 2 == pytest.approx(1.6449**2 * bound * (1 - bound) / count) and bound < share
    assert lower_bound(0.0, 0) == 0


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("A", 1),
        ("**B**", -1),
        (" Row A.", 1),
        ("The answer is B, since it is deeper.", -1),
        ("neither", 0),
        ("<think>B?</think>\nA", 1),
        ("Answer: a", 1),
        ("B?\n</think>\nA", 1),
        ("Both are good", Verdict.UNREADABLE),
        ("<think>A", Verdict.UNREADABLE),
        ("", Verdict.UNREADABLE),
    ],
)
def test_verdicts_are_read(text: str, verdict: int) -> None:
    assert read_verdict(text) == verdict


def test_every_second_pair_is_swapped_and_the_majority_decides() -> None:
    always_first = judge(TASK, Criterion("place", "x"), pairs(4), asked)
    assert always_first == [Verdict.FIRST, Verdict.SECOND] * 2
    assert majority([Verdict.FIRST, Verdict.NEITHER, Verdict.NEITHER]) is Verdict.FIRST
    assert majority([Verdict.FIRST, Verdict.SECOND]) is Verdict.NEITHER


def test_rows_are_ranked_by_what_pairs_say_of_their_vectors() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(200, 16)).astype(np.float32)
    utility = vectors[:, 3] / np.linalg.norm(vectors, axis=1)
    better = [(a, b) if utility[a] > utility[b] else (b, a) for a, b in random_pairs(200, 600, 0)]
    values, told = rank(vectors, better)
    assert told > 0.9 and np.corrcoef(values, utility)[0, 1] > 0.9
    assert values.min() == 0 and values.max() == 1
    # Pairs that mean nothing tell nothing of others.
    noise = [pair if draw.random() < 0.5 else pair[::-1] for pair in better]
    assert 0.35 < rank(vectors, noise)[1] < 0.65


def test_pairs_are_different_and_spread_over_the_rows() -> None:
    found = random_pairs(20, 50, 3)
    assert len({frozenset(pair) for pair in found}) == 50
    counts = np.bincount(np.array(found).ravel(), minlength=20)
    assert counts.min() >= 3 and counts.max() <= 7
    assert len(random_pairs(5, 1000, 0)) == 10


@pytest.fixture
def server() -> Iterator[ChatServer]:
    def answer(messages: Messages) -> str:
        text = messages[-1]["content"]
        return work(text) if text.startswith("Two rows") else propose([text])[0]

    with watched(fake.running(answer)) as started:
        yield started


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_task(tmp_path / "tasks", ESSAYS, train=[row.to_json() for row in ROWS])
    lines = [json.dumps({"better": better.id, "worse": worse.id}) + "\n" for better, worse in pairs()]
    (tmp_path / "pairs.jsonl").write_text("".join(lines))
    save_encoder(tmp_path / "encoder")
    return tmp_path


def test_the_commands_mine_criteria_and_score_by_them(udr: Udr, place: Path, server: ChatServer) -> None:
    lm = ["--lm", f"{server.url}?api=chat"]
    mining = ["pool", "criteria", place / "tasks", "--pairs", place / "pairs.jsonl", *lm, "--criteria", "5"]
    status, out, _ = udr(*mining, "--out", place / "criteria.toml", "--json")
    found = json.loads(out)
    assert (status, found["agreement"], found["pairs"]) == (0, 1, 30)
    content = tomllib.loads((place / "criteria.toml").read_text())
    assert [one["name"] for one in content["criteria"]] == [one["name"] for one in found["criteria"]]
    assert {"depth", "thorough"} <= {one["name"] for one in content["criteria"]}
    # Nothing is asked twice.
    sent = len(server.bodies)
    (place / "criteria.toml").rename(place / "first.toml")
    assert udr(*mining, "--out", place / "criteria.toml")[0] == 0 and len(server.bodies) == sent
    assert (place / "first.toml").read_bytes() == (place / "criteria.toml").read_bytes()

    line = ["pool", "score", place / "tasks", "--by", "criteria,length", *lm, "--criteria", place / "criteria.toml"]
    status, out, err = udr(*line, "--label-pairs", 40, "--model", place / "encoder", "--out", place / "scores.jsonl")
    assert status == 0, err
    header, *records = map(json.loads, (place / "scores.jsonl").read_text().splitlines())
    said = header["scores"]["criteria"]
    assert (said["settings"]["pairs"], said["settings"]["decided"], said["flagged"]) == (40, 40, 0)
    assert {record["id"] for record in records} == {row.id for row in ROWS}
    assert all(0 <= record["criteria"] <= 1 for record in records)
    curated = ["pool", "curate", place / "tasks", "--scores", place / "scores.jsonl", "--keep", 0.5]
    assert udr(*curated, "--out", place / "curated")[0] == 0


def test_a_worker_on_another_server_has_its_own_key(
    udr: Udr, place: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UDR_LM_KEY", "first")
    line: list[object] = ["pool", "criteria", place / "tasks", "--pairs", place / "pairs.jsonl", "--criteria", 1]
    line += ["--lm", f"{server.url}?api=chat", "--rounds", 1]
    for key, sent in ((None, None), ("second", "Bearer second")):
        if key:
            monkeypatch.setenv("UDR_WORKER_LM_KEY", key)
        with fake.running(server.answer_of) as other:
            worker = ["--worker-lm", f"{other.url}?api=chat", "--out", place / f"{key}.toml"]
            udr(*line, *worker)
            assert len(other.bodies) == 30 and other.keys == {sent}
    assert server.keys == {"Bearer first"}


def test_what_is_missing_or_does_not_fit_is_named(udr: Udr, place: Path, server: ChatServer) -> None:
    lm = ["--lm", f"{server.url}?api=chat"]
    status, _, err = udr("pool", "score", place / "tasks", "--by", "criteria", *lm, "--out", place / "s.jsonl")
    assert status == 2 and "--by criteria needs --criteria FILE" in err
    bad = place / "bad.jsonl"
    for text, message in (
        ('{"better": "r1", "worse": "x9"}\n', "bad.jsonl:1: field 'worse': 'x9' is no row of the pool"),
        ('{"better": "r1", "worse": "r1"}\n', "bad.jsonl:1: field 'worse': 'r1' is also the better row"),
        ('{"better": "r1"}\n', "bad.jsonl:1: field 'worse': is missing"),
        ("[]\n", 'bad.jsonl:1: must be {"better": ID, "worse": ID}'),
        ('{"better": "r1", "worse": "r2"}\n', "bad.jsonl: has 1 pairs; criteria need at least 10"),
    ):
        bad.write_text(text)
        status, _, err = udr("pool", "criteria", place / "tasks", "--pairs", bad, *lm, "--out", place / "c.toml")
        assert status == 1 and message in err, err
    (place / "c.toml").write_text("x = 1\n")
    line = ["pool", "score", place / "tasks", "--by", "criteria", *lm, "--criteria", place / "c.toml"]
    status, _, err = udr(*line, "--out", place / "s.jsonl")
    assert status == 1 and "c.toml: is no file of criteria; make one with: udr pool criteria --tasks essays" in err
    assert server.bodies == []
