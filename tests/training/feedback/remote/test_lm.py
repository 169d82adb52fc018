"""A language model behind a completions server: its requests, its scores, and the servers it refuses."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import Udr
from tests.training.feedback.remote import completions_server as fake
from tests.training.feedback.remote.completions_server import CompletionsServer, Failure, watched
from tests.udr.client.test_deadline import DRIPS
from tests.udr.client.test_deadline import server as dripping
from udr.data import Pool, formatting
from udr.errors import ConfigError, FeedbackError
from udr_training.answering import (
    Budget,
    BudgetError,
    PaidAnswers,
    RequestPolicy,
    ServerLM,
    read_settings,
    retry_after_seconds,
)
from udr_training.feedback import FeedbackStore, Pair, option_values, pair_prompt, score, score_pairs
from udr_training.feedback.packing import Likelihoods, Prompt
from udr_training.feedback.remote import RemoteLM, sanity_check


@pytest.fixture
def server() -> Iterator[CompletionsServer]:
    with watched(fake.running()) as started:
        yield started


@pytest.fixture
def pauses() -> list[float]:
    """The pauses before retries, which take no time."""
    return []


@pytest.fixture
def policy(pauses: list[float]) -> RequestPolicy:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    return RequestPolicy(attempts=3, sleep=sleep)


@pytest.fixture
def lm(server: CompletionsServer, policy: RequestPolicy) -> RemoteLM:
    """The server's model, unchecked."""
    return words(server.url, policy)


def words(url: str, policy: RequestPolicy = RequestPolicy(), commit_prompts: int = 64) -> RemoteLM:  # noqa: B008
    """The model of a server, unchecked."""
    return RemoteLM(ServerLM(f"{url}?model=words", policy=policy), commit_prompts=commit_prompts)


def prompt(parts: list[str], options: list[str]) -> Prompt:
    def tokens(texts: list[str]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(map(ord, text)) for text in texts)

    return Prompt(tokens(parts), tokens(options))


A_B = prompt(["a"], [" b"])


def pairs_of(pool: Pool, count: int) -> list[Pair]:
    return [Pair(pool.task, pool.rows[number % 5], pool.rows[5 + number // 5]) for number in range(count)]


def assert_true(
    likelihoods: Likelihoods, context: str, options: tuple[str, ...], tokenize: Any = fake.tokenize
) -> None:
    expected = [fake.log_likelihood(context, option, tokenize) for option in options]
    assert likelihoods.sums.tolist() == pytest.approx([total for total, _ in expected])
    assert likelihoods.num_tokens == tuple(count for _, count in expected)


# Connecting.


def test_server_with_real_numbers_passes_the_check(server: CompletionsServer) -> None:
    lm = RemoteLM.connect(f"{server.url}?model=words")
    lm.check()
    assert (lm.name, lm.dtype) == (f"{server.url}?model=words", "remote")
    assert sorted(server.prompts) == sorted(sanity_check.TEXTS)
    expected = {"model": "words", "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    assert all(body == expected | {"prompt": body["prompt"]} for body in server.bodies)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("no logprobs", "it returns no log-probabilities of tokens"),
        ("in a template", "tokens follow the prompt, ' assistant: and', instead of one"),
        ("one too few", r"it returns \d+ log-probabilities for \d+ tokens"),
        ("zeros", "all log-probabilities are zero"),
    ],
)
def test_server_without_real_numbers_is_refused(server: CompletionsServer, answer: str, message: str) -> None:
    server.answer = answer
    lm = RemoteLM.connect(f"{server.url}?model=words")
    with pytest.raises(FeedbackError, match=f"model=words returns no usable log-probabilities: .*{message}") as raised:
        lm.check()
    assert "\n" not in str(raised.value)
    # It is asked again each time, so one that is mended passes, and one that breaks does not.
    server.answer = "honest"
    lm.check()
    server.answer = answer
    with pytest.raises(FeedbackError, match=message):
        lm.check()


def test_model_must_be_named_unless_it_is_the_only_one(server: CompletionsServer) -> None:
    named, unnamed = RemoteLM.connect(f"{server.url}/?model=words"), RemoteLM.connect(server.url)
    assert (unnamed.name, unnamed.fingerprint) == (named.name, named.fingerprint)
    assert server.keys == {None}
    for names, message in ((["words", "letters"], "serves 2 models; .*: words, letters"), ([], "0 models; .*: none")):
        server.models = names
        with pytest.raises(ConfigError, match=message):
            RemoteLM.connect(server.url)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("http://", "must be named like http"),
        ("ftp://host/v1", "must be named like http"),
        ("http://host:port/v1", "must be named like http"),
        ("http://host/v1?temperature=1", "must be named like http"),
        ("http://user:secret@host/v1", "put the key in UDR_LM_KEY"),
        ("http://host/v1?model=words&characters=0", "characters= must be a number above 0"),
        ("http://host/v1?model=words&characters=", "characters= must be a number above 0"),
    ],
)
def test_invalid_address_is_refused_without_showing_secrets(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        RemoteLM.connect(name)
    assert "secret" not in str(raised.value)


def test_key_is_sent_and_never_shown(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    monkeypatch.setenv("UDR_LM_KEY", "secret-1\n")
    lm = RemoteLM.connect(server.url)
    assert server.keys == {"Bearer secret-1"}
    server.always = Failure(401)
    with pytest.raises(FeedbackError, match="UDR_LM_KEY") as raised:
        lm.check()
    monkeypatch.setenv("UDR_LM_KEY", "secret\n-1")
    with pytest.raises(ConfigError, match="UDR_LM_KEY contains characters") as refused:
        RemoteLM.connect(server.url)
    assert "secret" not in f"{raised.value} {refused.value} {lm.name} {caplog.text}"


def test_fingerprint_depends_on_address_model_and_limit() -> None:
    names = [("a", "x", None), ("a", "y", None), ("b", "x", None), ("a", "x", 9)]
    fingerprints = [
        RemoteLM(ServerLM(f"http://{host}/v1?model={model}"), limit).fingerprint for host, model, limit in names
    ]
    assert len(set(fingerprints)) == 4
    # As in earlier versions, so that their scores stay valid.
    assert fingerprints[0] == "remote-3f99e9328c078ca1"


def test_limit_of_characters_cuts_only_demonstrations(server: CompletionsServer, pools: dict[str, Pool]) -> None:
    whole = RemoteLM.connect(f"{server.url}?model=words")
    (pair,) = pairs_of(pools["reviews"], 1)
    limit = pair_prompt(whole, pair).length - 10
    lm = RemoteLM.connect(f"{server.url}?model=words&characters={limit}")
    cut = pair_prompt(lm, pair)
    assert (cut.length, cut.lost, cut.options) == (limit, 10, pair_prompt(whole, pair).options)
    assert lm.name.endswith(f"?model=words&characters={limit}")


# Scores.


@pytest.mark.parametrize("answer", ["honest", "with BOS", "offsets of -1", "nothing generated", "without spaces"])
def test_likelihoods_are_the_servers(
    server: CompletionsServer, lm: RemoteLM, pools: dict[str, Pool], answer: str
) -> None:
    server.answer = answer
    pairs = [pair for pool in pools.values() for pair in pairs_of(pool, 2)]
    for pair, likelihoods in zip(pairs, lm.score([pair_prompt(lm, pair) for pair in pairs]), strict=True):
        assert_true(likelihoods, pair.text().before_options, formatting.options(pair.task, pair.query))
    # A token across the boundary belongs to the option.
    options = ("er", "er than bad")
    (likelihoods,) = lm.score([prompt(["good is bett"], list(options))])
    assert likelihoods.num_tokens == (1, 3)
    assert_true(likelihoods, "good is bett", options)


def test_characters_of_several_tokens_do_not_move_the_boundary(server: CompletionsServer, lm: RemoteLM) -> None:
    server.answer = "in bytes"
    context, options = "Caf\u00e9: \U0001f600 gut\nCaf\u00e9:", (" \U0001f600 gut", " gut", "\u00e9")
    (likelihoods,) = lm.score([prompt([context], list(options))])
    assert likelihoods.num_tokens == (3, 1, 1)
    assert_true(likelihoods, context, options, fake.tokenize_ascii)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("not a number", "the log-probability nan"),
        ("no logprobs", "no log-probabilities of tokens"),
        ("no echo", "the tokens do not reach the end of the prompt"),
        ("shortened", "the server truncates prompts or changes them"),
    ],
)
def test_unusable_numbers_stop_scoring(server: CompletionsServer, lm: RemoteLM, answer: str, message: str) -> None:
    server.answer = answer
    words = "the review says that the film is good and that the book is bad and the song is long"
    with pytest.raises(FeedbackError, match=f"likelihood of ' good': .*{message}"):
        lm.score([prompt([words, "\nVerdict:"], [" good"])])


def test_failed_run_keeps_its_scores_and_computes_only_the_rest(
    server: CompletionsServer, pools: dict[str, Pool], tmp_path: Path
) -> None:
    pairs = pairs_of(pools["reviews"], 10)
    lm = words(server.url, RequestPolicy(concurrency=1), commit_prompts=4)

    def open_store() -> FeedbackStore:
        return FeedbackStore(tmp_path / "feedback.sqlite", lm.fingerprint, lm.dtype, "w")

    with open_store() as store, pytest.raises(FeedbackError, match="HTTP 400"):
        # Two options per pair, four pairs per commit: the second commit's first request is refused.
        score_pairs(lm, store, pairs, lambda _: server.failures.append(Failure(400)))
    assert len(server.bodies) == 8 + 1
    with open_store() as store:
        assert len(store) == 4
        server.failures.clear()
        scores = score_pairs(lm, store, pairs)
        assert score_pairs(lm, store, pairs) == scores
    assert len(server.bodies) == 8 + 1 + 12
    for pair in pairs:
        (likelihoods,) = lm.score([pair_prompt(lm, pair)])
        expected = score(pair.task, option_values(pair.task, likelihoods), formatting.gold(pair.task, pair.query))
        assert scores[pair.query.id, pair.demonstration.id] == pytest.approx(expected, abs=1e-5)


# The order and the number of requests.


def test_prompts_are_planned_longest_first_by_shared_prefix() -> None:
    lm = words("http://nowhere/v1", commit_prompts=4)
    cases = [("short", "a"), ("long, long", "b"), ("short", "c" * 9), ("long, long", "d" * 9), ("short", "e")]
    prompts = [prompt(["instruction", demonstration, query], [" x"]) for demonstration, query in cases]
    assert lm.plan(prompts) == [[3, 1, 2, 0], [4]]
    assert lm.plan([]) == []


def test_concurrency_is_limited(server: CompletionsServer) -> None:
    lm = words(server.url, RequestPolicy(concurrency=3))
    server.seconds = 0.05
    lm.score([prompt(["word"], [f" {number}" for number in range(12)])])
    assert server.busiest == 3
    with pytest.raises(ValueError, match="at least 1"):
        RequestPolicy(concurrency=0)


def test_echoes_are_asked_for_at_a_rate(server: CompletionsServer) -> None:
    lm = RemoteLM.connect(f"{server.url}?model=words", read_settings(["requests_per_minute=1200"]))
    started = time.monotonic()
    for number in range(3):
        lm.score([prompt(["a"], [f" {number}", f" {number} b"])])
    # The first of six is sent at once.
    assert time.monotonic() - started >= 5 * 60 / 1200


# Failures.


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([Failure(500), Failure(503)], [0.5, 1.0]),
        ([Failure(0), Failure(0)], [0.5, 1.0]),
        ([Failure(429, headers={"Retry-After": "7"}), Failure(503, headers={"Retry-After": "0"})], [7.0, 1.0]),
        ([Failure(408), Failure(200, '{"error": {"message": "overloaded", "code": 502}}')], [0.5, 1.0]),
    ],
)
def test_passing_failure_is_retried(
    server: CompletionsServer, lm: RemoteLM, pauses: list[float], failures: list[Failure], expected: list[float]
) -> None:
    server.failures = list(failures)
    (likelihoods,) = lm.score([A_B])
    assert_true(likelihoods, "a", (" b",))
    assert pauses == expected
    assert server.prompts == ["a b"] * 3


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("5", 5),
        ("0.5", 0.5),
        ("-5", 0),
        ("nan", 0),
        ("soon", 0),
        ("", 0),
        ("Tue, 03 Feb 2026 10:00:40 GMT", 40),
        ("Tue, 03 Feb 2026 10:00:40 -0000", 40),
        ("Tue, 03 Feb 2026 09:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read(header: str | None, seconds: float) -> None:
    assert retry_after_seconds(header, datetime(2026, 2, 3, 10, tzinfo=UTC)) == seconds


def test_silent_server_is_retried_and_then_fails_and_a_closed_port_is_named(
    server: CompletionsServer, policy: RequestPolicy
) -> None:
    brief = RequestPolicy(attempts=2, timeout_seconds=0.1, sleep=policy.sleep)
    server.failures = [Failure(-1)]
    (likelihoods,) = words(server.url, brief).score([A_B])
    assert likelihoods.num_tokens == (1,) and len(server.bodies) == 2
    server.always = Failure(-1)
    with pytest.raises(FeedbackError, match=r"no response within 0.1 seconds, at attempt 2"):
        words(server.url, brief).score([A_B])
    with fake.running() as stopped:
        url = stopped.url
    with pytest.raises(FeedbackError, match=f"{url}/models: cannot be reached"):
        RemoteLM.connect(url, policy=policy)


def test_a_server_that_drips_is_a_silent_one(policy: RequestPolicy) -> None:
    brief = RequestPolicy(attempts=1, timeout_seconds=0.2, sleep=policy.sleep)
    with dripping(DRIPS["body"]) as url, pytest.raises(FeedbackError, match=r"no response within 0.2 seconds"):
        words(url, brief).score([A_B])


TOO_LONG = '{"message": "This model\'s maximum context length is 512 tokens."}'


@pytest.mark.parametrize(
    ("failure", "attempts", "message"),
    [
        (Failure(500), 3, "HTTP 500: out of order, at attempt 3; check the server"),
        (Failure(502, "<html>bad\ngateway</html>"), 3, "HTTP 502: <html>bad gateway</html>, at"),
        (Failure(200, '{"error": {"message": "overloaded"}}'), 3, "HTTP 200: overloaded, at attempt 3; check"),
        (Failure(0), 3, r"cannot be reached \(.+\), at attempt 3"),
        (
            Failure(429, headers={"Retry-After": "3600"}),
            1,
            "HTTP 429: .*, at attempt 1, which requests a pause of 3600",
        ),
        (Failure(400, TOO_LONG), 1, "a prompt of 3 characters is too long for the model .*512 tokens"),
        (Failure(404, '{"error": {"message": "no model words"}}'), 1, r"refused \(HTTP 404: no model words\); check"),
        (Failure(422, '{"detail": [{"msg": "echo"}]}'), 1, r"refused \(HTTP 422: .*echo"),
        (Failure(403, ""), 1, r"refused \(HTTP 403: Forbidden\)"),
        (Failure(400, "x" * 5000), 1, r"refused \(HTTP 400: x{300}\)"),
        (Failure(200, '{"choices": ['), 1, "the response is not JSON, it begins with '{\"choices\": \\['"),
    ],
)
def test_lasting_failure_ends_after_attempts_and_refusal_at_once(
    server: CompletionsServer, lm: RemoteLM, failure: Failure, attempts: int, message: str
) -> None:
    server.always = failure
    with pytest.raises(FeedbackError, match=f"{server.url}/completions: .*{message}") as raised:
        lm.score([A_B])
    assert "\n" not in str(raised.value)
    assert len(server.bodies) == attempts


def test_what_is_open_is_kept_if_a_request_fails_and_no_other_is_sent(server: CompletionsServer) -> None:
    lm = words(server.url, RequestPolicy(concurrency=2))
    server.seconds, server.failures = 0.1, [Failure(400)]
    prompts = [prompt(["a"], [f" {number}" for number in range(9)])]
    with pytest.raises(FeedbackError, match="HTTP 400"):
        lm.score(prompts)
    # The one beside it; its worker may have begun another one in the meantime.
    assert 2 <= len(server.bodies) <= 3
    assert_true(lm.score(prompts)[0], "a", tuple(f" {number}" for number in range(9)))
    assert len(server.bodies) == 1 + 9


@pytest.mark.parametrize("answer", ["honest", "without spaces"])
def test_no_echo_is_paid_for_twice_whatever_the_budget(
    server: CompletionsServer, pools: dict[str, Pool], tmp_path: Path, answer: str
) -> None:
    server.answer = answer
    pairs = pairs_of(pools["reviews"], 10)

    def scores(budget: Budget) -> list[Likelihoods]:
        with PaidAnswers(tmp_path / "answers.sqlite") as paid:
            lm = RemoteLM.connect(f"{server.url}?model=words", budget=budget, paid=paid)
            return lm.score([pair_prompt(lm, pair) for pair in pairs])

    for most in (5, 12):
        with pytest.raises(BudgetError, match=f"--max-requests {most} is reached: .*; what was answered is kept"):
            scores(Budget(max_requests=most))
        assert len(server.bodies) == most
    for _ in range(2):
        for pair, likelihoods in zip(pairs, scores(Budget()), strict=True):
            assert_true(likelihoods, pair.text().before_options, formatting.options(pair.task, pair.query))
    # One for each option, and one for each context whose options' tokens do not show where they begin.
    assert len(server.prompts) == len(set(server.prompts)) == (20 if answer == "honest" else 30)


def test_an_echo_that_is_unusable_is_asked_for_again(server: CompletionsServer, lm: RemoteLM) -> None:
    prompts = [prompt(["the review says that the film is good and the song long", "\nVerdict:"], [" good"])]
    for server.answer in ("not a number", "shortened", "no echo"):
        with pytest.raises(FeedbackError, match="likelihood of ' good'"):
            lm.score(prompts)
    server.answer = "honest"
    assert_true(lm.score(prompts)[0], "the review says that the film is good and the song long\nVerdict:", (" good",))


def test_commands_score_export_and_count_a_remote_models_pairs(
    udr: Udr, server: CompletionsServer, tasks: Path, reviews: Pool, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    sizes = ["--tasks", "reviews", "--queries", 3, "--candidates", 2, "--out", run]
    for _ in range(2):
        assert udr("feedback", "score", tasks, "--lm", f"{server.url}?model=words", *sizes)[0] == 0
    pairs = [json.loads(line) for line in udr("feedback", "export", run)[1].splitlines()]
    assert len(pairs) == 6
    rows = {row.id: row for row in reviews.rows}
    for exported in pairs:
        pair = Pair(reviews.task, rows[exported["query_id"]], rows[exported["demonstration_id"]])
        assert exported["prompt"] == pair.text().before_options and exported["prompt_tokens"] is None
        expected = [fake.log_likelihood(exported["prompt"], option)[0] for option in exported["options"]]
        assert exported["log_likelihoods"] == pytest.approx(expected, abs=1e-4)
    numbers = json.loads(udr("feedback", "stats", run, "--json")[1])
    assert (numbers["pairs"], numbers["scored"]) == (6, 6)
