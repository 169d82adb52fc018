"""A language model behind a completions server: what it is asked, what it is refused for, and its scores."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path

import pytest

from tests.training.feedback.remote.completions_server import (
    CompletionsServer,
    Failure,
    cut_finely,
    log_likelihood,
    running,
)
from udr.cli import main
from udr.data import Pool, formatting
from udr.errors import ConfigError, FeedbackError
from udr_training.feedback import FeedbackStore, Pair, option_values, pair_prompt, pair_text, score, score_pairs
from udr_training.feedback.packing import Prompt
from udr_training.feedback.remote import PROMPTS, Patience, RemoteLM, asked_pause, sanity_check


@pytest.fixture
def server() -> Iterator[CompletionsServer]:
    before = threading.active_count()
    with running() as started:
        yield started
    assert threading.active_count() == before


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UDR_LM_KEY", raising=False)


class Slept:
    """Waits in no time, and remembers for how long."""

    def __init__(self) -> None:
        self.seconds = list[float]()

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def remote(
    server: CompletionsServer,
    slept: Slept | None = None,
    *,
    concurrency: int = 8,
    timeout_seconds: float = 60.0,
    attempts: int = 3,
) -> RemoteLM:
    """The server's model, unprobed."""
    patience = Patience(
        concurrency=concurrency, timeout_seconds=timeout_seconds, attempts=attempts, sleep=slept or Slept()
    )
    return RemoteLM(server.url, "words", patience=patience)


def prompt(lm: RemoteLM, parts: list[str], options: list[str]) -> Prompt:
    return Prompt(tuple(map(lm.tokens, parts)), tuple(map(lm.tokens, options)))


def pairs_of(pool: Pool, count: int) -> list[Pair]:
    return [Pair(pool.task, pool.rows[number % 5], pool.rows[5 + number // 5]) for number in range(count)]


# The probe, over the network.


def test_a_server_that_gives_real_numbers_is_taken(server: CompletionsServer) -> None:
    lm = RemoteLM.connect(f"{server.url}?model=words")
    assert lm.name == f"{server.url}?model=words"
    assert lm.dtype == "remote"
    assert sorted(server.prompts) == sorted(sanity_check.TEXTS)
    wanted = {"model": "words", "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    assert all(body == wanted | {"prompt": body["prompt"]} for body in server.asked)


@pytest.mark.parametrize("answer", ["with BOS", "without offsets", "without spaces", "in bytes", "nothing generated"])
def test_real_numbers_are_taken_however_the_server_shows_its_tokens(server: CompletionsServer, answer: str) -> None:
    server.answer = answer
    RemoteLM.connect(f"{server.url}?model=words")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("no logprobs", "it returns no log-probabilities of tokens"),
        ("no echo", "it does not echo the prompt"),
        ("other tokens", "it does not echo the prompt"),
        ("in a template", "tokens follow the prompt, ' assistant: and', where one was asked for"),
        ("one too few", r"it returns \d+ log-probabilities for \d+ tokens"),
        ("zeros", "all log-probabilities are zero"),
        ("chance", "as of a blind guess"),
        ("by word", "no language model's, or chance"),
        ("early", "one place too early"),
        ("early, first left", "one place too early"),
        ("late", "token ' pencil' has the log-probability None"),
        ("late, none missing", "one place too late"),
        ("of other text", "they are not the prompt's"),
        ("not a number", "has the log-probability nan"),
        ("infinite", "has the log-probability -inf"),
        ("above one", "has the log-probability 0.2"),
    ],
)
def test_a_server_whose_numbers_mean_nothing_is_refused(server: CompletionsServer, answer: str, message: str) -> None:
    server.answer = answer
    with pytest.raises(FeedbackError, match=f"model=words gives no usable log-probabilities: .*{message}") as raised:
        RemoteLM.connect(f"{server.url}?model=words")
    assert "\n" not in str(raised.value)


# Names and keys.


def test_the_only_model_needs_no_name(server: CompletionsServer) -> None:
    named, unnamed = RemoteLM.connect(f"{server.url}/?model=words"), RemoteLM.connect(server.url)
    assert unnamed.name == named.name
    assert unnamed.fingerprint == named.fingerprint


def test_one_of_several_models_must_be_named(server: CompletionsServer) -> None:
    server.models = ["words", "letters"]
    with pytest.raises(ConfigError, match=r"serves 2 models; name one with \?model=NAME: words, letters"):
        RemoteLM.connect(server.url)
    server.models = []
    with pytest.raises(ConfigError, match=r"serves 0 models; .*: none"):
        RemoteLM.connect(server.url)


@pytest.mark.parametrize("name", ["http://", "ftp://host/v1", "http://host:port/v1", "http://host/v1?temperature=1"])
def test_what_is_no_address_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a remote language model is named like http"):
        RemoteLM.connect(name)


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="put the key into UDR_LM_KEY") as raised:
        RemoteLM.connect("http://user:secret@host/v1")
    assert "secret" not in str(raised.value)


def test_the_key_is_sent_and_never_shown(
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
    with pytest.raises(ConfigError, match="UDR_LM_KEY holds characters") as refused:
        RemoteLM.connect(server.url)
    assert "secret" not in f"{raised.value} {refused.value} {lm.name} {caplog.text}"


def test_no_key_is_sent_where_there_is_none(server: CompletionsServer) -> None:
    RemoteLM.connect(server.url)
    assert server.keys == {None}


def test_the_fingerprint_tells_addresses_and_models_apart() -> None:
    names = [("http://a/v1", "x"), ("http://a/v1", "y"), ("http://b/v1", "x")]
    fingerprints = [RemoteLM(url, model).fingerprint for url, model in names]
    assert len(set(fingerprints)) == 3
    assert all(fingerprint.startswith("remote-") for fingerprint in fingerprints)
    assert fingerprints[0] == RemoteLM("http://a/v1", "x").fingerprint


# Scores.


@pytest.mark.parametrize(
    "answer",
    ["honest", "with BOS", "without offsets", "offsets of -1", "end listed", "nothing generated", "without spaces"],
)
def test_likelihoods_are_the_servers_own(server: CompletionsServer, pools: dict[str, Pool], answer: str) -> None:
    server.answer = answer
    lm = remote(server)
    pairs = [pair for pool in pools.values() for pair in pairs_of(pool, 4)]
    scored = lm.score([pair_prompt(lm, pair) for pair in pairs])
    for pair, likelihoods in zip(pairs, scored, strict=True):
        options = formatting.options(pair.task, pair.query)
        expected = [log_likelihood(pair_text(pair), option) for option in options]
        assert likelihoods.sums.tolist() == pytest.approx([total for total, _ in expected])
        assert likelihoods.num_tokens == tuple(count for _, count in expected)


def test_characters_that_are_no_tokens_move_no_boundary(server: CompletionsServer) -> None:
    server.answer = "in bytes"
    lm = remote(server)
    context, options = "Caf\u00e9: \U0001f600 gut\nCaf\u00e9:", [" \U0001f600 gut", " gut", "\u00e9"]
    (scored,) = lm.score([prompt(lm, [context], options)])
    expected = [log_likelihood(context, option, cut_finely) for option in options]
    assert scored.sums.tolist() == pytest.approx([total for total, _ in expected])
    assert scored.num_tokens == tuple(count for _, count in expected) == (3, 1, 1)


def test_a_token_across_the_boundary_is_the_options(server: CompletionsServer) -> None:
    lm = remote(server)
    (scored,) = lm.score([prompt(lm, ["good is bett"], ["er", "er than bad"])])
    expected = [log_likelihood("good is bett", option) for option in ("er", "er than bad")]
    assert scored.sums.tolist() == pytest.approx([total for total, _ in expected])
    assert scored.num_tokens == (1, 3)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("not a number", "the log-probability nan"),
        ("infinite", "the log-probability -inf"),
        ("vLLM's infinite", "the log-probability -9999.0"),
        ("above one", "the log-probability 0.2"),
        ("null", "the log-probability None"),
        ("no logprobs", "no log-probabilities of tokens"),
        ("no echo", "the tokens do not reach the end of the prompt"),
        ("shortened", "the server shortens prompts or changes them"),
    ],
)
def test_unusable_numbers_end_a_run(server: CompletionsServer, answer: str, message: str) -> None:
    lm = remote(server)
    server.answer = answer
    words = "the review says that the film is good and that the book is bad and the song is long"
    with pytest.raises(FeedbackError, match=f"asked for the likelihood of ' good': .*{message}"):
        lm.score([prompt(lm, [words, "\nVerdict:"], [" good"])])


def test_scores_are_stored_and_a_run_that_failed_computes_only_the_rest(
    server: CompletionsServer, pools: dict[str, Pool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("udr_training.feedback.remote.lm.PROMPTS", 4)
    pairs = pairs_of(pools["reviews"], 10)
    lm = remote(server, concurrency=1)

    def opened() -> FeedbackStore:
        return FeedbackStore(tmp_path / "feedback.sqlite", lm.fingerprint, lm.dtype, "w")

    with opened() as store, pytest.raises(FeedbackError, match="HTTP 400"):
        # Two options a pair, four pairs a commit: the second commit's first request is refused.
        score_pairs(lm, store, pairs, lambda _: server.failures.append(Failure(400)))
    assert len(server.asked) == 8 + 1
    with opened() as store:
        assert len(store) == 4
        server.failures.clear()
        scores = score_pairs(lm, store, pairs)
        assert len(server.asked) == 8 + 1 + 12
        assert score_pairs(lm, store, pairs) == scores
    assert len(server.asked) == 8 + 1 + 12
    for pair in pairs:
        (likelihoods,) = lm.score([pair_prompt(lm, pair)])
        expected = score(pair.task, option_values(pair.task, likelihoods), formatting.gold(pair.task, pair.query))
        assert scores[pair.query.id, pair.demonstration.id] == pytest.approx(expected, abs=1e-5)


# The order and the number of requests.


def test_prompts_are_planned_longest_first_by_what_they_share() -> None:
    lm = RemoteLM("http://nowhere/v1", "words")
    cases = [("short", "a"), ("long, long", "b"), ("short", "c" * 9), ("long, long", "d" * 9), ("short", "e")]
    planned = lm.plan([prompt(lm, ["instruction", shown, query], [" x"]) for shown, query in cases])
    assert planned == [[3, 1, 2, 0, 4]]


def test_plans_hold_every_prompt_once_in_commits_of_one_size() -> None:
    lm = RemoteLM("http://nowhere/v1", "words")
    prompts = [prompt(lm, ["same", str(number % 7), str(number)], [" x"]) for number in range(2 * PROMPTS + 5)]
    planned = lm.plan(prompts)
    assert list(map(len, planned)) == [PROMPTS, PROMPTS, 5]
    order = [number for numbers in planned for number in numbers]
    assert sorted(order) == list(range(len(prompts)))
    shown = [prompts[number].parts[1] for number in order]
    assert sum(one != other for one, other in pairwise(shown)) == 6
    assert lm.plan([]) == []


def test_requests_go_by_demonstration(server: CompletionsServer, pools: dict[str, Pool], tmp_path: Path) -> None:
    pool = pools["reviews"]
    pairs = [Pair(pool.task, query, shown) for query in pool.rows[:4] for shown in pool.rows[5:8]]
    lm = remote(server, concurrency=1)
    with FeedbackStore(tmp_path / "feedback.sqlite", lm.fingerprint, lm.dtype, "w") as store:
        score_pairs(lm, store, pairs)
    shown = [prompt.split("\n\n")[1] for prompt in server.prompts]
    assert len(shown) == 24
    assert sum(one != other for one, other in pairwise(shown)) == 2


def test_no_more_requests_are_under_way_than_allowed(server: CompletionsServer) -> None:
    lm = remote(server, concurrency=3)
    server.seconds = 0.01
    lm.score([prompt(lm, ["word"], [f" {number}" for number in range(12)])])
    assert server.busiest == 3


# Failures.


def test_a_full_server_is_asked_again_when_it_says(server: CompletionsServer) -> None:
    slept = Slept()
    lm = remote(server, slept)
    server.failures = [Failure(429, headers={"Retry-After": "7"}), Failure(429, headers={"Retry-After": "0"})]
    (scored,) = lm.score([prompt(lm, ["a"], [" b"])])
    assert scored.sums.tolist() == pytest.approx([log_likelihood("a", " b")[0]])
    assert slept.seconds == [7.0, 1.0]
    assert server.prompts == ["a b"] * 3


def test_a_retry_may_be_asked_for_by_date(server: CompletionsServer) -> None:
    slept = Slept()
    lm = remote(server, slept)
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    server.failures = [Failure(503, headers={"Retry-After": later})]
    lm.score([prompt(lm, ["a"], [" b"])])
    assert len(slept.seconds) == 1 and 20 < slept.seconds[0] <= 30


def test_a_retry_that_is_asked_for_too_late_is_not_waited_for(server: CompletionsServer) -> None:
    slept = Slept()
    server.always = Failure(429, headers={"Retry-After": "3600"})
    lm = remote(server, slept)
    with pytest.raises(FeedbackError, match=r"HTTP 429: out of order, at attempt 1, which wants .* in 3600 seconds"):
        lm.score([prompt(lm, ["a"], [" b"])])
    assert slept.seconds == []


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("5", 5),
        ("0.5", 0.5),
        ("-5", 0),
        ("nan", 0),
        ("soon", 0),
        ("Tue, 03 Feb 2026 10:00:40 GMT", 40),
        ("Tue, 03 Feb 2026 10:00:40 -0000", 40),
        ("Tue, 03 Feb 2026 09:00:00 GMT", 0),
    ],
)
def test_what_a_retry_after_asks_for(header: str | None, seconds: float) -> None:
    assert asked_pause(header, datetime(2026, 2, 3, 10, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("failure", [Failure(500), Failure(503), Failure(0)])
def test_a_passing_failure_is_tried_again_with_growing_pauses(server: CompletionsServer, failure: Failure) -> None:
    slept = Slept()
    lm = remote(server, slept)
    server.failures = [failure, failure]
    (scored,) = lm.score([prompt(lm, ["a"], [" b"])])
    assert scored.sums.tolist() == pytest.approx([log_likelihood("a", " b")[0]])
    assert slept.seconds == [0.5, 1.0]
    assert len(server.asked) == 3


def test_a_slow_answer_is_given_up_and_asked_for_again(server: CompletionsServer) -> None:
    lm = remote(server, timeout_seconds=0.3)
    server.failures = [Failure(-1)]
    (scored,) = lm.score([prompt(lm, ["a"], [" b"])])
    assert scored.num_tokens == (1,)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (Failure(500), "HTTP 500: out of order, at attempt 3; see to the server"),
        (Failure(502, "<html>bad\ngateway</html>"), "HTTP 502: <html>bad gateway</html>, at attempt 3"),
        (Failure(0), r"cannot be reached \(.+\), at attempt 3"),
    ],
)
def test_a_lasting_failure_ends_after_some_attempts(server: CompletionsServer, failure: Failure, message: str) -> None:
    server.always = failure
    lm = remote(server)
    with pytest.raises(FeedbackError, match=f"{server.url}/completions: {message}"):
        lm.score([prompt(lm, ["a"], [" b"])])
    assert len(server.asked) == 3


def test_a_silent_server_is_given_up(server: CompletionsServer) -> None:
    server.always = Failure(-1)
    lm = remote(server, timeout_seconds=0.2, attempts=1)
    with pytest.raises(FeedbackError, match=r"no answer within 0.2 seconds, at attempt 1"):
        lm.score([prompt(lm, ["a"], [" b"])])


def test_a_server_that_is_not_there_is_named() -> None:
    with running() as gone:
        url = gone.url
    with pytest.raises(FeedbackError, match=f"{url}/models: cannot be reached"):
        RemoteLM.connect(url, Patience(attempts=2, sleep=Slept()))


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            Failure(400, '{"message": "This model\'s maximum context length is 512 tokens."}'),
            "a prompt of 3 characters is too long for the model .*512 tokens",
        ),
        (Failure(404, '{"error": {"message": "no model words"}}'), r"refused \(HTTP 404: no model words\); check"),
        (Failure(422, '{"detail": [{"msg": "echo"}]}'), r"refused \(HTTP 422: .*echo"),
        (Failure(403, ""), r"refused \(HTTP 403: Forbidden\)"),
        (Failure(400, "x" * 5000), r"refused \(HTTP 400: x{300}\)"),
        (Failure(200, '{"choices": ['), "the answer is no JSON, it begins '{\"choices\": \\['"),
    ],
)
def test_a_refusal_is_final_and_says_what_the_server_said(
    server: CompletionsServer, failure: Failure, message: str
) -> None:
    slept = Slept()
    server.always = failure
    lm = remote(server, slept)
    with pytest.raises(FeedbackError, match=message) as raised:
        lm.score([prompt(lm, ["a"], [" b"])])
    assert "\n" not in str(raised.value)
    assert slept.seconds == []
    assert len(server.asked) == 1


def test_what_is_under_way_is_given_up_when_one_request_fails_for_good(server: CompletionsServer) -> None:
    lm = remote(server, concurrency=2, timeout_seconds=60)
    server.failures = [Failure(-1), Failure(400)]
    with pytest.raises(FeedbackError, match="HTTP 400"):
        lm.score([prompt(lm, ["a"], [f" {number}" for number in range(9)])])
    assert len(server.asked) == 2


def test_patience_asks_at_least_once() -> None:
    with pytest.raises(ValueError, match="at least"):
        Patience(attempts=0)


def test_a_limit_of_characters_cuts_demonstrations_and_nothing_else(
    server: CompletionsServer, pools: dict[str, Pool]
) -> None:
    pool = pools["reviews"]
    whole = RemoteLM.connect(f"{server.url}?model=words")
    pair = Pair(pool.task, pool.rows[0], pool.rows[1])
    limit = pair_prompt(whole, pair).length - 10
    lm = RemoteLM.connect(f"{server.url}?model=words&characters={limit}")
    cut = pair_prompt(lm, pair)
    assert (cut.length, cut.lost) == (limit, 10)
    assert cut.options == pair_prompt(whole, pair).options
    assert lm.fingerprint != whole.fingerprint
    assert lm.name.endswith(f"?model=words&characters={limit}")


@pytest.mark.parametrize("characters", ["0", "-3", "many", ""])
def test_a_limit_that_is_no_number_is_refused(characters: str) -> None:
    with pytest.raises(ConfigError, match="characters= must be a number above 0"):
        RemoteLM.connect(f"http://127.0.0.1:9/v1?model=words&characters={characters}")


def test_the_commands_score_export_and_count_a_remote_models_pairs(
    tasks: Path, pools: dict[str, Pool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    sizes = ["--tasks", "reviews", "--queries", "3", "--candidates", "2", "--out", run]
    with running() as server:
        for _ in range(2):
            assert main(["feedback", "score", str(tasks), "--lm", f"{server.url}?model=words", *sizes]) == 0
    capsys.readouterr()
    assert main(["feedback", "export", run]) == 0
    pairs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(pairs) == 6
    rows = {row.id: row for row in pools["reviews"].rows}
    for exported in pairs:
        pair = Pair(pools["reviews"].task, rows[exported["query_id"]], rows[exported["demonstration_id"]])
        assert exported["prompt"] == pair_text(pair) and exported["prompt_tokens"] is None
        expected = [log_likelihood(exported["prompt"], option)[0] for option in exported["options"]]
        assert exported["log_likelihoods"] == pytest.approx(expected, abs=1e-4)
    assert main(["feedback", "stats", run, "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert (numbers["pairs"], numbers["scored"]) == (6, 6)
