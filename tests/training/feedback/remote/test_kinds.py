"""Feedback by the answers of a server: probes that refuse, scores of each kind, and no answer paid for twice."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.training.answering import chat_server as fake
from tests.training.answering.chat_server import ChatServer, Messages
from tests.training.conftest import Udr, assert_refused
from tests.training.feedback.remote.completions_server import Failure, watched
from udr.data import Pool, formatting, open_collection
from udr_training.answering import PromptSettings, ServerLM
from udr_training.config import FeedbackConfig, ScoringConfig
from udr_training.feedback import FeedbackStore, Pair, TrainingTask, pair_score, score_pairs
from udr_training.feedback.remote import (
    ChatLogprobs,
    MetricScorer,
    RankScorer,
    listings,
    read_numbers,
)
from udr_training.feedback.scoring import as_likelihoods


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with watched(fake.running(talk)) as started:
        started.top = likeliest
        yield started


def word_of(messages: Messages) -> str | None:
    """The word that a probe asks to repeat."""
    asked = re.fullmatch(r"Word: (\w+)\nRepeated:", messages[-1]["content"])
    return asked.group(1) if asked else None


def talk(messages: Messages) -> str:
    """Repeats words, names the examples that share most words with the query, and copies the last demonstration."""
    if word := word_of(messages):
        return word
    if "You choose examples" not in messages[0]["content"]:
        return fake.copied(messages)
    listed, query = messages[-1]["content"].split("[Query]\n")
    examples = re.findall(r"\[(E\d+)\]\n(.*?)(?=\n\n|\Z)", listed, re.DOTALL)
    common = {label: len(set(text.split()) & set(query.split())) for label, text in examples}
    return ", ".join(sorted(common, key=lambda label: -common[label])[:3])


def likeliest(messages: Messages) -> dict[str, float]:
    """0.6 for the first letters of the answer, 0.3 for other beginnings of answers."""
    answer = talk(messages)
    others = {"good": "bad", "bad": "good"}
    return {answer[:3]: 0.6, others.get(answer, "xx")[:2]: 0.3, "The": 0.08}


def command(tasks: Path, server: ChatServer, kind: str, out: Path, *more: object) -> list[object]:
    sizes: list[object] = ["--queries", 6, "--candidates", 4, "--out", out]
    return ["feedback", "score", tasks, "--lm", f"{server.url}?model=m&api=chat", "--kind", kind, *sizes, *more]


def exported(udr: Udr, out: Path) -> dict[tuple[str, str], float]:
    lines = [json.loads(line) for line in udr("feedback", "export", out)[1].splitlines()]
    return {(line["query_id"], line["demonstration_id"]): line["score"] for line in lines}


def test_chat_logprobs_give_the_gold_options_share(
    udr: Udr, tasks: Path, reviews: Pool, server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    assert udr(*command(tasks, server, "chat-logprobs", out, "--tasks", "reviews"))[0] == 0
    # Two questions of the probe, and one per pair: the first letters of the labels differ, so one token is enough.
    assert len(server.bodies) == 2 + 24 and {body["max_tokens"] for body in server.bodies[2:]} == {1}
    rows = {row.id: row for row in reviews.rows}
    for (query, demonstration), score in exported(udr, out).items():
        right = rows[query].target == rows[demonstration].target
        assert score == pytest.approx((0.6 if right else 0.3) / 0.9, abs=1e-5)
    assert "chat-logprobs: 10.0 % of the probability is outside" in caplog.text
    assert "outside in 0 of 24 pairs" in caplog.text


def test_answers_without_alternatives_are_counted_and_scoring_goes_on(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = list[Messages]()

    def top(messages: Messages) -> dict[str, float]:
        asked.append(messages)
        return {} if len(asked) in (7, 9) else likeliest(messages)

    server.top = top
    arguments = command(tasks, server, "chat-logprobs", tmp_path / "run", "--tasks", "reviews")
    assert udr(*arguments, "--lm-set", "concurrency=1")[0] == 0
    assert "chat-logprobs: 2 of 24 answers list no alternatives (top_logprobs), and give" in caplog.text
    # Two labels, of which nothing is known.
    scores = list(exported(udr, tmp_path / "run").values())
    assert sum(score == pytest.approx(0.5, abs=1e-5) for score in scores) == 2 and len(scores) == 24


def test_metric_gives_the_metric_of_the_answer(
    udr: Udr, tasks: Path, reviews: Pool, server: ChatServer, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert udr(*command(tasks, server, "metric", out))[0] == 0
    assert len(server.bodies) == 2 + 3 * 24
    rows = {row.id: row for row in reviews.rows}
    scores = {pair: score for pair, score in exported(udr, out).items() if pair[0] in rows}
    assert len(scores) == 24
    for (query, demonstration), score in scores.items():
        assert score == pytest.approx(float(rows[query].target == rows[demonstration].target), abs=1e-5)


def test_samples_are_asked_apart_and_averaged(udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path) -> None:
    counts: dict[str, int] = {}

    def answer(messages: Messages) -> str:
        if word := word_of(messages):
            return word
        key = json.dumps(messages)
        counts[key] = counts.get(key, 0) + 1
        return "good" if counts[key] == 1 else "bad" if counts[key] == 2 else "neither"

    server.answer_of = answer
    arguments = command(tasks, server, "metric", tmp_path / "run", "--tasks", "reviews", "--set", "feedback.samples=3")
    assert_refused(udr(*arguments), 2, "needs answers that differ; add --lm-set body.temperature=0.7")
    assert udr(*arguments, "--lm-set", "body.temperature=0.7", "--lm-set", "concurrency=1")[0] == 0
    assert set(counts.values()) == {3}
    assert list(exported(udr, tmp_path / "run").values()) == pytest.approx([1 / 3] * 24, abs=1e-5)


def test_rank_gives_the_places_in_listings(udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path) -> None:
    out = tmp_path / "run"
    sizes = ["--tasks", "reviews", "--set", "feedback.listed=4", "--set", "feedback.shuffles=2"]
    assert udr(*command(tasks, server, "rank", out, *sizes))[0] == 0
    # Four questions of the probe, then two shuffles of one listing per query.
    assert len(server.bodies) == 4 + 6 * 2
    scores = exported(udr, out)
    by_query: dict[str, list[float]] = {}
    for (query, _), score in scores.items():
        by_query.setdefault(query, []).append(score)
    # Three of four are named in each listing.
    for values in by_query.values():
        assert sum(values) == pytest.approx(1 + 2 / 3 + 1 / 3, abs=1e-4)
    listed = server.asked[-1][-1]["content"]
    assert listed.startswith("Task: Say whether the review is good or bad.\n\n[E1]\nReview: ")
    assert re.search(r"\[Query\]\nReview: .*\nVerdict: (good|bad)\n\nThe 3 most helpful of 4:\Z", listed)


@pytest.mark.parametrize("kind", ["metric", "chat-logprobs"])
def test_scores_of_answers_read_by_older_rules_are_made_anew(
    tasks: Path, server: ChatServer, tmp_path: Path, kind: str
) -> None:
    address = f"{server.url}?model=m&api=chat"
    config = ScoringConfig(feedback=FeedbackConfig(lm=address, kind=kind))
    task = TrainingTask.sample(open_collection(tasks).tasks["reviews"], config)
    demonstrations = [row for row in task.pool.rows if row not in task.queries[:2]][:4]
    pairs = task.pairs({query.id: tuple(row.id for row in demonstrations) for query in task.queries[:2]})
    scorer = {"metric": MetricScorer, "chat-logprobs": ChatLogprobs}[kind](ServerLM(address), PromptSettings())
    # The server copies the demonstration's label; with chat-logprobs by 0.6 of 0.9.
    right = {True: 1.0, False: 0.0} if kind == "metric" else {True: 0.6 / 0.9, False: 0.3 / 0.9}
    expected = {
        (pair.query.id, pair.demonstration.id): right[pair.query.target == pair.demonstration.target] for pair in pairs
    }
    with FeedbackStore(tmp_path / "scores", scorer.fingerprint, scorer.dtype, "w") as store:
        # Older scores have keys of the prompt alone.
        store.put(
            {
                Pair(pair.task, pair.query, pair.demonstration).text().key: as_likelihoods(pair.task, pair.query, 0.5)
                for pair in pairs
            }
        )
        assert score_pairs(scorer, store, pairs) == pytest.approx(expected, abs=1e-5)
        sent = len(server.bodies)
        assert score_pairs(scorer, store, pairs) == pytest.approx(expected, abs=1e-5) and len(server.bodies) == sent


def test_candidates_of_a_later_iteration_are_ranked_beside_the_others(
    tasks: Path, server: ChatServer, tmp_path: Path
) -> None:
    address = f"{server.url}?model=m&api=chat"
    config = ScoringConfig(feedback=FeedbackConfig(lm=address, kind="rank"))
    task = TrainingTask.sample(open_collection(tasks).tasks["reviews"], config)
    queries = task.queries[:3]
    few, more = (
        {query.id: tuple(row.id for row in task.pool.rows if row.id != query.id)[:count] for query in queries}
        for count in (4, 5)
    )

    def scores(file: str, candidates: dict[str, tuple[str, ...]]) -> dict[tuple[str, str], float]:
        scorer = RankScorer(ServerLM(address), PromptSettings())
        with FeedbackStore(tmp_path / file, scorer.fingerprint, scorer.dtype, "w") as store:
            return score_pairs(scorer, store, task.pairs(candidates))

    first, alone = scores("shared", few), scores("alone", more)
    # A listing of four and then one of five, not of the fifth alone, whose score would be 1; the first ones stay.
    later = scores("shared", more)
    assert later == alone and later != first
    for query in queries:
        # Three of five are named in each listing.
        values = [score for (own, _), score in later.items() if own == query.id]
        assert len(values) == 5 and sum(values) == pytest.approx(1 + 2 / 3 + 1 / 3, abs=1e-4)
    sent = len(server.bodies)
    assert scores("shared", few) == first and scores("shared", more) == later and len(server.bodies) == sent


@pytest.mark.parametrize("kind", ["metric", "rank"])
def test_queries_with_equal_inputs_and_other_targets_have_their_own_scores(
    tasks: Path, server: ChatServer, tmp_path: Path, kind: str
) -> None:
    address = f"{server.url}?model=m&api=chat"
    if kind == "metric":
        # Wrong for either.
        server.answer_of = lambda messages: word_of(messages) or "neither"
    copied = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    (path,) = copied.rglob("reviews/train.jsonl")
    first = json.loads(path.read_text("utf-8").splitlines()[0])
    twin = {**first, "id": "twin", "target": {"good": "bad", "bad": "good"}[first["target"]]}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(twin) + "\n")
    config = ScoringConfig(feedback=FeedbackConfig(lm=address, kind=kind))
    task = TrainingTask.sample(open_collection(copied).tasks["reviews"], config)
    ids = tuple(row.id for row in task.pool.rows if row.id not in (first["id"], "twin"))[:4]

    def scores(file: str, *queries: str) -> dict[tuple[str, str], float]:
        scorer = {"metric": MetricScorer, "rank": RankScorer}[kind](ServerLM(address), PromptSettings())
        with FeedbackStore(tmp_path / file, scorer.fingerprint, scorer.dtype, "w") as store:
            return score_pairs(scorer, store, task.pairs(dict.fromkeys(queries, ids)))

    own, other = scores("own", first["id"]), scores("other", "twin")
    assert scores("shared", first["id"], "twin") == own | other
    if kind == "metric":
        assert [*own.values(), *other.values()] == pytest.approx([0] * 8, abs=1e-5)
    else:
        # Three of four are named in each listing.
        assert [sum(values.values()) for values in (own, other)] == pytest.approx([2, 2], abs=1e-4)


@pytest.mark.parametrize("lines", [1, 2])
def test_answers_to_a_query_are_read_alike_whatever_the_candidate(
    tasks: Path, server: ChatServer, tmp_path: Path, lines: int
) -> None:
    copied = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    (path,) = copied.rglob("reverse/train.jsonl")
    first, second, *rest = map(json.loads, path.read_text("utf-8").splitlines())
    second["target"] = "\n".join([second["target"]] * lines)
    path.write_text("".join(json.dumps(row) + "\n" for row in (first, second, *rest)))
    server.answer_of = lambda messages: word_of(messages) or f"{first['target']}\n\nI hope this helps."
    address = f"{server.url}?model=m&api=chat"
    config = ScoringConfig(feedback=FeedbackConfig(lm=address, kind="metric"))
    task = TrainingTask.sample(open_collection(copied).tasks["reverse"], config)
    scorer = MetricScorer(ServerLM(address), PromptSettings())
    with FeedbackStore(tmp_path / "scores", scorer.fingerprint, scorer.dtype, "w") as store:
        scores = score_pairs(scorer, store, task.pairs({first["id"]: (second["id"], rest[0]["id"])}))
    assert list(scores.values()) == [2 - lines] * 2


@pytest.mark.parametrize("kind", ["chat-logprobs", "metric", "rank"])
def test_a_refused_prompt_is_named_by_its_rows(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path, kind: str
) -> None:
    server.failures = [*[None] * (4 if kind == "rank" else 2), Failure(400, '{"error": "filtered"}')]
    arguments = command(tasks, server, kind, tmp_path / "run", "--tasks", "reviews", "--lm-set", "concurrency=1")
    status, _, err = udr(*arguments)
    rows = r"with candidates (\S+, ){3}\S+" if kind == "rank" else r"after \S+"
    assert status == 1 and re.search(rf"task 'reviews', query '\S+' {rows}: http.*HTTP 400: filtered", err), err


@pytest.mark.parametrize(
    ("budget", "what"),
    [(40, "the known texts by which http.* is tried do not fit"), (90, "demonstration 'reviews-.*' does not fit")],
)
def test_a_budget_without_room_is_named_as_the_command_takes_it(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path, budget: int, what: str
) -> None:
    arguments = command(tasks, server, "metric", tmp_path / "run", "--tasks", "reviews")
    status, _, err = udr(*arguments, "--set", f"feedback.budget={budget}")
    assert status == 1 and re.search(rf"{what} .* {budget} tokens \(.* --set feedback.budget=N\); raise it", err), err


@pytest.mark.parametrize("kind", ["metric", "chat-logprobs"])
def test_context_that_a_budget_leaves_out_is_counted(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    arguments = command(tasks, server, kind, tmp_path / "run", "--tasks", "reviews", "--context", 6)
    assert udr(*arguments, "--set", "feedback.budget=180")[0] == 0
    # Each demonstration is a turn of its own.
    shown = [sum(message["role"] == "assistant" for message in messages) for messages in server.asked[2:]]
    fewer = sum(count < 7 for count in shown)
    assert 0 < fewer and f"{kind}: {fewer} of 24 prompts leave out demonstrations of --context" in caplog.text


@pytest.mark.parametrize("kind", ["metric", "rank"])
def test_answers_that_are_cut_are_counted(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    def answer(messages: Messages) -> str:
        said = talk(messages)
        if "Review:" not in messages[-1]["content"]:
            return said
        server.finish = "length"
        return f"<think>{said}"

    server.answer_of = answer
    assert (
        udr(*command(tasks, server, kind, tmp_path / "run", "--tasks", "reviews", "--lm-set", "concurrency=1"))[0] == 0
    )
    assert re.search(rf"{kind}: (\d+) of \1 answers .*were cut; a model that thinks first needs more", caplog.text)


def test_an_unreadable_answer_gives_the_mean_of_the_query(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = set[str]()

    def answer(messages: Messages) -> str:
        query = messages[-1]["content"].rpartition("[Query]")[2]
        if query in listed or "Review:" not in query:
            return talk(messages)
        listed.add(query)
        return "none"

    server.answer_of = answer
    sizes = ["--tasks", "reviews", "--lm-set", "concurrency=1"]
    for setting in ("listed=2", "picked=1", "shuffles=1"):
        sizes += ["--set", f"feedback.{setting}"]
    assert udr(*command(tasks, server, "rank", tmp_path / "run", *sizes))[0] == 0
    by_query: dict[str, list[float]] = {}
    for (query, _), score in exported(udr, tmp_path / "run").items():
        by_query.setdefault(query, []).append(score)
    assert [sorted(values) for values in by_query.values()] == [pytest.approx([0, 0.5, 0.5, 1], abs=1e-5)] * 6
    assert "rank: 6 of 12 answers name no example, and are left out" in caplog.text
    assert "rank: 12 candidates have no other answer, and get the mean of their query" in caplog.text


@pytest.mark.parametrize("kind", ["chat-logprobs", "metric", "rank"])
def test_a_killed_scoring_asks_only_the_rest_and_a_finished_one_nothing(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path, kind: str
) -> None:
    arguments = command(tasks, server, kind, tmp_path / "run", "--tasks", "reviews", "--prices", "1,1")
    assert_refused(udr(*arguments, "--max-requests", 11), 1, "--max-requests 11 is reached")
    assert udr(*arguments)[0] == 0
    asked = [json.dumps(body) for body in server.bodies]
    assert len(asked) == len(set(asked)) > 11
    assert udr(*arguments)[0] == 0 and len(server.bodies) == len(asked)
    numbers = json.loads(udr("feedback", "stats", tmp_path / "run", "--json")[1])
    assert (numbers["pairs"], numbers["scored"]) == (24, 24) and numbers["tokens"] > 0


def test_kinds_share_a_file_of_scores_and_keep_their_own(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path
) -> None:
    shared = tmp_path / "scores.sqlite"
    for kind in ("metric", "chat-logprobs"):
        run = command(tasks, server, kind, tmp_path / kind, "--tasks", "reviews", "--feedback", shared)
        assert udr(*run)[0] == 0
    assert set(exported(udr, tmp_path / "metric").values()) != set(exported(udr, tmp_path / "chat-logprobs").values())
    assert (tmp_path / "scores-answers.sqlite").is_file()


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "chat-logprobs",
            lambda server: setattr(server, "top", None),
            "it returns no log-probabilities of alternatives",
        ),
        (
            "chat-logprobs",
            lambda server: setattr(server, "top", lambda messages: {"x": 0.5, "y": 0.4}),
            "but its first token 'x'",
        ),
        (
            "chat-logprobs",
            lambda server: setattr(server, "top", lambda messages: {talk(messages)[:2]: 0.5, "y": 0.5}),
            r"all log-probabilities are -0.69",
        ),
        (
            "chat-logprobs",
            lambda server: setattr(server, "top", lambda messages: {talk(messages)[:2]: 0.9, "y": 0.8}),
            "add up to 1.70",
        ),
        (
            "chat-logprobs",
            lambda server: setattr(server, "top", lambda messages: {talk(messages)[:2]: 0.9}),
            "it lists 1 alternatives of a token",
        ),
        (
            "metric",
            lambda server: setattr(server, "answer_of", lambda messages: ""),
            "writes no answer: the answer ends by",
        ),
        (
            "metric",
            lambda server: setattr(server, "answer_of", lambda messages: "<think>Let me see"),
            "a model that thinks first needs more tokens",
        ),
        (
            "rank",
            lambda server: setattr(server, "answer_of", lambda messages: "<think>E1 or E2"),
            "writes no answer when it is asked for labels; use --kind metric; a model that thinks first",
        ),
        (
            "metric",
            lambda server: setattr(server, "answer_of", lambda messages: "Sure! How can I help?"),
            "does not follow demonstrations: asked to repeat 'market', it writes 'Sure! How can I help?'",
        ),
        ("rank", lambda server: setattr(server, "answer_of", lambda messages: "E1, E2"), "names E1+E2, E1+E2, E1+E2"),
        ("rank", lambda server: setattr(server, "answer_of", lambda messages: "all of them"), "names no labels"),
        ("rank", lambda server: setattr(server, "answer_of", lambda messages: "1, 2"), "it writes '1, 2'"),
    ],
)
def test_probes_refuse_what_cannot_work(
    udr: Udr,
    tasks: Path,
    server: ChatServer,
    tmp_path: Path,
    kind: str,
    change: Callable[[ChatServer], None],
    message: str,
) -> None:
    change(server)
    arguments = command(tasks, server, kind, tmp_path / "run", "--tasks", "reviews")
    assert_refused(udr(*arguments), 1, message)
    assert len(server.bodies) <= 4


@pytest.mark.parametrize("kind", ["chat-logprobs", "metric", "rank"])
def test_a_server_that_was_mended_is_asked_again(
    udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path, kind: str
) -> None:
    arguments = command(tasks, server, kind, tmp_path / "run", "--tasks", "reviews")
    server.answer_of, server.top = lambda messages: "1", lambda messages: {"1": 0.5, "2": 0.4}
    assert udr(*arguments)[0] == 1
    server.answer_of, server.top = talk, likeliest
    assert udr(*arguments)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "rank"], "--kind (feedback.kind) 'rank' needs the address of a server"),
        (
            ["--lm", "http://host/v1?api=chat"],
            "needs a server that echoes prompts, but http://host/v1?api=chat is a chat",
        ),
        (["--lm", "http://host/v1", "--kind", "chat-logprobs"], "needs a chat server; add &api=chat"),
        (["--lm", "http://host/v1?api=chat", "--kind", "chat-logprobs"], "but task 'reverse' generates texts"),
        (["--kind", "votes"], "must be one of likelihood, completions-echo, chat-logprobs, metric, rank"),
        (["--lm", "LM", "--lm-set", "concurrency=2"], "is for the address of a server"),
        (["--lm", "LM", "--max-cost", "1", "--prices", "1,1"], "--max-cost needs the address of a server as --lm"),
        (
            ["--lm", "http://host/v1", "--set", "feedback.lm=LM", "--max-requests", "1"],
            "--max-requests needs the address",
        ),
        (
            ["--set", "feedback.lm=http://host/v1", "--device", "cuda"],
            "--device has no effect without a language model in",
        ),
        (
            ["--lm", "http://host/v1?api=chat", "--kind", "rank", "--context", "2"],
            "--context (feedback.context) has no effect with --kind (feedback.kind) 'rank'; omit it: it is for likeli",
        ),
        (["--set", "candidates.later=new"], "candidates.later=new is for the later iterations of udr train; omit it"),
        (["--set", "feedback.kind=outcomes"], "asks no language model; use udr feedback import"),
    ],
)
def test_kinds_that_do_not_fit_are_refused_before_anything_is_sent(
    udr: Udr, tasks: Path, lm_folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    given = [argument.replace("LM", str(lm_folder)) for argument in arguments]
    assert_refused(udr("feedback", "score", tasks, "--out", tmp_path / "run", *given), 2, message)


def test_a_server_may_be_named_by_settings(udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path) -> None:
    settings = [f"feedback.lm={server.url}?model=m&api=chat", "feedback.kind=metric"]
    arguments = ["feedback", "score", tasks, "--out", tmp_path / "run", "--max-requests", 0]
    refused = udr(*arguments, *(part for setting in settings for part in ("--set", setting)))
    assert_refused(refused, 1, "--max-requests 0 is reached")


def test_a_completions_server_must_echo(udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path) -> None:
    sizes = ["--tasks", "reviews", "--queries", 3, "--candidates", 2, "--out", tmp_path / "run"]
    arguments = ["feedback", "score", tasks, "--lm", f"{server.url}?model=m", "--kind", "completions-echo", *sizes]
    assert udr(*arguments, "--lm-set", "body.user=me")[0] == 0
    assert all(body["echo"] and body["user"] == "me" for body in server.bodies)
    # Three texts of the sanity check, then the options of each pair; a call that has nothing to score sends nothing.
    sent = len(server.bodies)
    assert sent == 3 + 3 * 2 * 2
    assert udr(*arguments, "--lm-set", "body.user=me", "--max-requests", sent)[0] == 0 and len(server.bodies) == sent


def test_a_budget_on_echoes_keeps_what_was_answered(udr: Udr, tasks: Path, server: ChatServer, tmp_path: Path) -> None:
    sizes = ["--tasks", "reviews", "--queries", 6, "--candidates", 4, "--out", tmp_path / "run"]
    arguments = ["feedback", "score", tasks, "--lm", f"{server.url}?model=m", *sizes]
    for most in (11, 22):
        assert_refused(udr(*arguments, "--max-requests", most), 1, f"--max-requests {most} is reached: spent {most}")
        assert len(server.bodies) == most
    # Each call that scores tries the server again: it may have been started with other options.
    server.answer = "zeros"
    assert_refused(udr(*arguments), 1, "all log-probabilities are zero")
    server.answer = "honest"
    assert udr(*arguments)[0] == 0
    prompts = server.prompts
    assert len(prompts) == 4 * 3 + 6 * 4 * 2 and len(set(prompts)) == 3 + 6 * 4 * 2


def test_a_training_learns_from_answers(
    udr: Udr, tasks: Path, server: ChatServer, encoder_folder: Path, tmp_path: Path
) -> None:
    settings = ["train.validation=0.2", "train.list_length=4", "train.batch_size=4"]
    arguments: list[object] = ["train", tasks, "--tasks", "reviews", "--out", tmp_path / "run", "--kind", "metric"]
    arguments += [
        "--lm",
        f"{server.url}?model=m&api=chat",
        "--model",
        encoder_folder,
        "--queries",
        8,
        "--candidates",
        5,
    ]
    arguments += ["--iterations", 1, "--epochs", 1, *(part for setting in settings for part in ("--set", setting))]
    assert_refused(udr(*arguments, "--dry-run"), 2, "answers of feedback.kind 'metric' may cost money")
    echo = [*arguments, "--kind", "completions-echo", "--lm", f"{server.url}?model=m", "--dry-run"]
    for limit in (["--max-requests", 9], ["--max-cost", 1, "--prices", "1,1"]):
        assert_refused(udr(*echo, *limit), 2, "--dry-run keeps no answer that a budget could count")
    assert server.bodies == []
    assert_refused(udr(*arguments, "--max-requests", 20), 1, "--max-requests 20 is reached")
    status, _, err = udr(*arguments)
    assert status == 0 and (tmp_path / "run" / "manifest.json").is_file()
    assert len(server.bodies) == 2 + 8 * 5
    assert "a server's answers may cost money" in err


@pytest.mark.parametrize("score", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("task", ["reviews", "colours", "reverse"])
def test_any_score_is_a_share_of_likelihoods(tasks: Path, task: str, score: float) -> None:
    pool = open_collection(tasks).tasks[task].pool()
    query, demonstration = pool.rows[:2]
    likelihoods = as_likelihoods(pool.task, query, score)
    assert len(likelihoods.sums) == len(formatting.targets(pool.task, query))
    assert pair_score(Pair(pool.task, query, demonstration), likelihoods) == pytest.approx(score, abs=2e-6)


def test_listings_show_each_candidate_once_per_shuffle() -> None:
    names = [f"d{number}" for number in range(23)]
    shown = list(listings(names, 10, 3, 4, "q"))
    assert len(shown) == 4 * 2 and {len(listing.candidates) for listing in shown} == {11, 12}
    assert sorted(n for listing in shown for n in listing.candidates) == sorted([*range(23)] * 4)
    assert shown == list(listings(names, 10, 3, 4, "q")) != list(listings(names, 10, 3, 4, "r"))
    assert [listing.picked for listing in listings(["a", "b"], 10, 3, 1, "q")] == [1]
    # None is listed alone.
    for count in range(2, 9):
        sizes = [len(listing.candidates) for listing in listings(names[:count], 2, 1, 1, "q")]
        assert sum(sizes) == count and min(sizes) >= 2


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("E3, E1, E2", [3, 1]),
        ("Examples [E2] and e2, then **E4**.", [2, 4]),
        ("<think>E1 or E3?</think>E4", [4]),
        ("<think>E1 or E3", []),
        ("E7 and E0 and E5", []),
        ("none", []),
        # What is restated, and numbers of a list.
        ("The 2 most helpful of 4: E3, E1", [3, 1]),
        ("1. Example E3\n2. Example E4", [3, 4]),
        ("1. 3\n2. 4; CASE1, E12", []),
    ],
)
def test_numbers_are_read(text: str, numbers: list[int]) -> None:
    assert read_numbers(text, 4, 2) == numbers
