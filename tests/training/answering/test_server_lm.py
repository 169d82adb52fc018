"""A server's model that answers: each question once, within a budget, whatever the server does."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training.answering import chat_server as fake
from tests.training.answering.chat_server import ChatServer
from tests.training.feedback.remote.completions_server import Failure, watched
from udr.errors import ArtifactError, ConfigError, FeedbackError
from udr.models import Message
from udr_training.answering import (
    Budget,
    BudgetError,
    PaidAnswers,
    Question,
    ReplyError,
    RequestPolicy,
    ServerLM,
    read_reply,
    read_settings,
)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with watched(fake.running(lambda messages: messages[-1]["content"].upper())) as started:
        yield started


@pytest.fixture
def paid(tmp_path: Path) -> Iterator[PaidAnswers]:
    with PaidAnswers(tmp_path / "answers.sqlite") as opened:
        yield opened


async def _no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


FAST = RequestPolicy(attempts=3, sleep=_no_pause)


def chat(server: ChatServer, paid: PaidAnswers, *lines: str, **options: Any) -> ServerLM:
    """The server's chat model."""
    return ServerLM(f"{server.url}?api=chat", read_settings(lines), paid=paid, **options)


def question(text: str, **fields: Any) -> Question:
    return Question((Message(role="user", content=text),), 9, fields)


def texts(lm: ServerLM, *asked: str) -> list[str]:
    return [reply.text for reply in lm.ask([question(text) for text in asked])]


def test_questions_are_asked_in_parallel_and_answered_in_order(server: ChatServer, paid: PaidAnswers) -> None:
    server.seconds = 0.02
    lm, done = chat(server, paid, "concurrency=3"), list[int]()
    asked = [question(f"word {number}") for number in range(12)]
    assert [reply.text for reply in lm.ask(asked, done.append)] == [f"WORD {number}" for number in range(12)]
    assert (server.busiest, len(server.bodies), done[-1]) == (3, 12, 12) and done == sorted(done)
    body = server.bodies[0]
    assert body == {"model": "talker", "messages": body["messages"], "max_tokens": 9, "temperature": 0}
    assert lm.spent == "12 requests, 48 tokens"


def test_texts_are_asked_of_a_completions_server(server: ChatServer, paid: PaidAnswers) -> None:
    lm = ServerLM(f"{server.url}?model=m", paid=paid)
    (reply,) = lm.ask([Question("a b", 5, {"stop": ["\n"]})])
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("A B", 2, 2)
    assert server.bodies == [{"model": "m", "prompt": "a b", "max_tokens": 5, "temperature": 0, "stop": ["\n"]}]
    assert server.num_lists == 0


def test_settings_replace_and_remove_fields(
    server: ChatServer, paid: PaidAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER", "secret-2")
    lines = ["key=OTHER", "body.temperature=null", "body.max_completion_tokens=50", "body.max_tokens=null"]
    lm = chat(server, paid, *lines, "query.api-version=1")
    lm.ask([question("a")])
    assert server.bodies[0].keys() == {"model", "messages", "max_completion_tokens"}
    assert server.queries == ["api-version=1"] and server.keys == {"Bearer secret-2"}
    assert lm.fingerprint != chat(server, paid).fingerprint and "secret" not in lm.name


def test_secrets_in_query_and_body_are_sent_and_not_shown(
    server: ChatServer, paid: PaidAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", "secret-3")
    lm = chat(server, paid, "query.key=$MINE", "body.api_key=$MINE", policy=FAST)
    lm.ask([question("a")])
    assert (server.queries[-1], server.bodies[0]["api_key"]) == ("key=secret-3", "secret-3")
    # Another key is no other question.
    monkeypatch.setenv("MINE", "secret-4")
    chat(server, paid, "query.key=$MINE", "body.api_key=$MINE").ask([question("a")])
    assert len(server.bodies) == 1
    server.always = Failure(200, "no JSON")
    with pytest.raises(FeedbackError, match="the response is not JSON, it begins with 'no JSON'") as raised:
        lm.ask([question("b")])
    assert "secret" not in str(raised.value)


def test_no_question_is_asked_twice(server: ChatServer, paid: PaidAnswers, tmp_path: Path) -> None:
    done = list[int]()
    asked = [question(text) for text in ("a", "b", "a")]
    assert [reply.text for reply in chat(server, paid, "concurrency=1").ask(asked, done.append)] == ["A", "B", "A"]
    assert done == [2, 3]
    assert texts(chat(server, paid), "b", "c") == ["B", "C"]
    with PaidAnswers(tmp_path / "answers.sqlite") as again:
        assert texts(chat(server, again), "a", "b", "c") == ["A", "B", "C"]
        assert again.spend == paid.spend
    assert [messages[0]["content"] for messages in server.asked] == ["a", "b", "c"]
    # Other settings and other samples are other questions; the rate is none.
    chat(server, paid, "concurrency=1").ask([question("a")])
    assert len(server.bodies) == 3
    chat(server, paid, "body.top_p=0.5").ask([question("a")])
    chat(server, paid).ask([Question(question("a").prompt, 9, sample=1)])
    assert len(server.bodies) == 5
    # A router may choose who answers by a header; which key is sent changes nothing.
    for line, sent in (("header.X-Provider=a", 6), ("header.x-provider=a", 6), ("header.X-Provider=b", 7)):
        chat(server, paid, line).ask([question("a")])
        assert len(server.bodies) == sent
    assert chat(server, paid, "header.X-Provider=a").fingerprint != chat(server, paid).fingerprint


def test_an_answered_question_sends_nothing_not_even_for_the_models_name(server: ChatServer, paid: PaidAnswers) -> None:
    texts(chat(server, paid), "a")
    assert server.num_lists == 1
    assert texts(chat(server, paid), "a") == ["A"]
    assert (server.num_lists, len(server.bodies)) == (1, 1)
    server.models = ["another"]
    assert texts(chat(server, paid), "a") == ["A"]
    with pytest.raises(ConfigError, match=r"answers.sqlite has answers of talker, but .* now serves another"):
        texts(chat(server, paid), "b")
    server.models = ["talker", "another"]
    with pytest.raises(ConfigError, match=r"serves 2 models; name one with .*: talker, another"):
        texts(chat(server, paid), "b")


def test_a_server_without_a_list_of_models_is_asked_without_a_name(
    server: ChatServer, paid: PaidAnswers, caplog: pytest.LogCaptureFixture
) -> None:
    server.models = None
    assert texts(chat(server, paid), "a") == ["A"]
    assert "model" not in server.bodies[0]
    assert "has no list of models; it is asked without a model's name" in caplog.text


def test_a_list_of_models_that_fails_says_how_to_do_without_it(server: ChatServer, paid: PaidAnswers) -> None:
    # As transformers serve does without a cache of the hub.
    server.models_fail = True
    with pytest.raises(FeedbackError, match=r"/v1/models: HTTP 500: no cache.*; no list is needed with \?model=NAME"):
        texts(chat(server, paid, policy=FAST), "a")
    assert texts(ServerLM(f"{server.url}?api=chat&model=talker", read_settings(()), paid=paid), "a") == ["A"]


def test_a_failure_keeps_what_is_open_and_sends_no_more(server: ChatServer, paid: PaidAnswers) -> None:
    server.seconds, server.failures = 0.05, [Failure(400)]
    lm = chat(server, paid, "concurrency=4")
    asked = [f"word {number}" for number in range(40)]
    with pytest.raises(FeedbackError, match="HTTP 400"):
        texts(lm, *asked)
    # Those that were open were answered and kept; a worker may have begun another one in the meantime.
    assert 4 <= len(server.bodies) <= 7
    assert texts(lm, *asked)[-1] == "WORD 39"
    assert len(server.bodies) == 1 + 40


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (Failure(200, "<html>"), "the response is not JSON"),
        (Failure(200, '{"choices": [{"message": {"con'), "the response is not JSON"),
        (Failure(200, "{}"), "the response is not an answer"),
        (Failure(200, '{"choices": [{"delta": {}}]}'), "the response has no answer"),
        (Failure(200, '{"choices": [{"message": {"content": 5}}]}'), "the answer must be a text, found int"),
        (
            Failure(500),
            "at attempt 3; check the server, then run the same command: what was answered is kept",
        ),
        (Failure(400, '{"error": "maximum context length is 9"}'), "a prompt of 1 characters is too long .*--budget N"),
    ],
)
def test_broken_responses_are_one_line_and_nothing_is_kept_of_them(
    server: ChatServer, paid: PaidAnswers, failure: Failure, message: str
) -> None:
    server.always = failure
    lm = chat(server, paid, policy=FAST)
    with pytest.raises(FeedbackError, match=message) as raised:
        texts(lm, "a")
    assert "\n" not in str(raised.value)
    server.always = None
    assert texts(lm, "a") == ["A"]


def test_a_storm_of_refusals_is_waited_out(server: ChatServer, paid: PaidAnswers) -> None:
    server.storm, server.storm_size = 0.1, 4
    lm = chat(server, paid, "concurrency=8", "attempts=2")
    asked = [f"word {number}" for number in range(24)]
    assert texts(lm, *asked) == [text.upper() for text in asked]
    # Many more refusals than attempts; each pause holds back those that wait, too.
    assert 2 < server.refused <= 8 * 24 / 4


def test_a_refusal_holds_back_new_requests(server: ChatServer, paid: PaidAnswers) -> None:
    pauses = list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    server.failures = [Failure(429, headers={"Retry-After": "60"})]
    lm = chat(server, paid, policy=RequestPolicy(concurrency=1, attempts=1, sleep=sleep))
    texts(lm, "a", "b")
    assert pauses[0] == 60.0 and 59 < pauses[1] <= 60
    assert len(server.bodies) == 3


def test_a_server_with_too_many_requests_is_given_minutes_and_then_the_error_names_the_rate(
    server: ChatServer, paid: PaidAnswers
) -> None:
    pauses = list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    lm = chat(server, paid, policy=RequestPolicy(concurrency=1, attempts=2, sleep=sleep))
    # It does not say when; those that follow wait as well.
    server.failures = [Failure(429) for _ in range(5)]
    assert texts(lm, "a", "b") == ["A", "B"] and pauses[:5] == [0.5, 1, 2, 4, 8] and 7 < pauses[5] <= 8
    pauses.clear()
    server.always = Failure(429)
    with pytest.raises(FeedbackError, match=r"HTTP 429: .*; check your quota, or give --lm-set requests_per_minute=N"):
        texts(chat(server, paid, policy=RequestPolicy(concurrency=1, attempts=2, sleep=sleep)), "c")
    assert 120 <= sum(pauses) <= 180


def test_requests_are_sent_at_a_rate(server: ChatServer, paid: PaidAnswers) -> None:
    pauses = list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    # A rate so low that a busy machine changes nothing.
    policy = RequestPolicy(concurrency=1, requests_per_minute=1, sleep=sleep)
    lm = chat(server, paid, policy=policy)
    texts(lm, *"ab")
    texts(lm, *"cd")
    # The first request is the list of models; no later one, of whatever call, is sent at once.
    assert len(pauses) == 4 and all(60 * (n - 1) < pause <= 60 * n for n, pause in enumerate(pauses, start=1))
    # Also after a pause that the server requests, until which the next two wait.
    server.failures = [Failure(429, headers={"Retry-After": "300"})]
    texts(chat(server, paid, policy=policy), *"efg")
    assert 240 < pauses[-2] < pauses[-1]


@pytest.mark.parametrize(
    ("budget", "most", "message"),
    [
        (Budget(max_requests=5), 5, "--max-requests 5 is reached: spent 5 requests"),
        # Each question reserves 1 + 16 tokens of a prompt and 9 of an answer, and takes 2.
        (Budget(max_tokens=36), 6, "--max-tokens-total 36 has 24 left, and the next .* up to 26 tokens: spent"),
        (
            Budget(max_cost=36e-6, prices=(1, 1)),
            6,
            "--max-cost 3.6e-05 has 2.4e-05 left, and .* up to 2.6e-05 in the unit of --prices: .*cost 1.2e-05 in the",
        ),
        (Budget(max_requests=0), 0, "--max-requests 0 is reached: spent 0 requests"),
    ],
)
def test_budgets_are_never_exceeded_and_hold_over_calls(
    server: ChatServer, paid: PaidAnswers, budget: Budget, most: int, message: str
) -> None:
    asked = [chr(ord("a") + number) for number in range(20)]
    for _ in range(2):
        with pytest.raises(BudgetError, match=message):
            texts(chat(server, paid, budget=budget), *asked)
        assert len(server.bodies) == most
    assert texts(chat(server, paid), *asked) == [text.upper() for text in asked]
    assert len(server.bodies) == 20


def test_a_budget_of_tokens_needs_answers_of_limited_length(server: ChatServer, paid: PaidAnswers) -> None:
    for budget in (Budget(max_tokens=1000), Budget(max_cost=1, prices=(1, 1))):
        for removed in ("null", "-1"):
            with pytest.raises(ConfigError, match=f"need a limit .*={removed} takes it away; give .*_completion_token"):
                chat(server, paid, f"body.max_tokens={removed}", budget=budget)
        lm = chat(server, paid, "body.max_tokens=null", "body.max_completion_tokens=900", budget=budget)
        assert texts(lm, "a") == ["A"]
    assert texts(chat(server, paid, "body.max_tokens=null", budget=Budget(max_requests=9)), "b") == ["B"]


def test_all_answers_of_a_request_count_towards_a_budget(server: ChatServer, paid: PaidAnswers) -> None:
    # A prompt of 1 + 16 tokens, and three answers of 9.
    with pytest.raises(BudgetError, match="may cost up to 44 tokens"):
        texts(chat(server, paid, "body.n=3", budget=Budget(max_tokens=43)), "a")
    server.usage = False
    texts(chat(server, paid, "body.n=3", budget=Budget(max_tokens=44)), "a")
    assert (paid.spend.prompt_tokens, paid.spend.completion_tokens) == (1, 3)


def test_commands_that_share_a_file_pay_for_no_answer_twice_and_share_a_budget(
    server: ChatServer, tmp_path: Path
) -> None:
    server.seconds = 0.002
    words = [f"word {number}" for number in range(40)]

    def run(first: int, budget: Budget, name: str) -> list[str]:
        with PaidAnswers(tmp_path / f"{name}.sqlite") as paid:
            lm = chat(server, paid, "concurrency=2", budget=budget)
            return [text for start in range(first, 40, 5) for text in texts(lm, *words[start : start + 5])]

    with ThreadPoolExecutor() as pool:
        both = [pool.submit(run, 0, Budget(max_requests=40), "same") for _ in range(2)]
        assert [sorted(one.result()) for one in both] == [sorted(word.upper() for word in words)] * 2
        assert len(server.bodies) == 40
        both = [pool.submit(run, first, Budget(max_requests=11), "other") for first in (0, 20)]
        assert all("--max-requests 11 is reached" in str(one.exception()) for one in both)
    assert len(server.bodies) == 40 + 11


def test_no_error_promises_to_keep_answers_in_memory(server: ChatServer) -> None:
    lost = "no answer was kept, since there is no output directory"
    with pytest.raises(BudgetError, match=f"1 is reached: spent 1 request, 2 tokens; {lost}; raise it"):
        texts(ServerLM(f"{server.url}?api=chat", budget=Budget(max_requests=1)), "a", "b")
    server.always = Failure(500)
    with pytest.raises(FeedbackError, match=f"run the same command: {lost}"):
        texts(ServerLM(f"{server.url}?api=chat", policy=FAST), "a")


def test_attempts_that_fail_count_as_requests(server: ChatServer, paid: PaidAnswers) -> None:
    server.always = Failure(500)
    lm = chat(server, paid, budget=Budget(max_requests=2), policy=FAST)
    with pytest.raises(BudgetError, match="2 is reached by attempts that failed, the last with: HTTP 500: "):
        texts(lm, "a")
    assert len(server.bodies) == 2 and lm.spent == "2 requests, 0 tokens"


def test_a_budget_that_failures_used_up_says_so(server: ChatServer, paid: PaidAnswers) -> None:
    server.failures = [Failure(503)]
    lm = chat(server, paid, budget=Budget(max_requests=2), policy=FAST)
    with pytest.raises(
        BudgetError, match=r"spent 2 requests, \d tokens, 1 of them failed, the last with: HTTP 503: .*; what"
    ):
        texts(lm, "a", "b")


def test_a_refusal_names_the_variable_of_the_key(
    server: ChatServer, paid: PaidAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "wrong")
    monkeypatch.setenv("OPENAI_API_KEY", "never sent")
    monkeypatch.delenv("UDR_LM_KEY", raising=False)
    for lines, message in (
        ((), "no key was sent, since UDR_LM_KEY is not set, .*: --lm-set key=OPENAI_API_KEY$"),
        (("key=MY_KEY",), "check .* and the key in MY_KEY$"),
        (("header.api-key=$MY_KEY",), "check .* and the key in UDR_LM_KEY$"),
    ):
        server.failures = [Failure(401)]
        lm = chat(server, paid, *lines)
        with pytest.raises(FeedbackError, match=f"refused .HTTP 401.*; {message}"):
            texts(lm, "z")


@pytest.mark.parametrize("status", [400, 422])
def test_a_prompt_that_a_server_refuses_is_named_by_its_row(server: ChatServer, paid: PaidAnswers, status: int) -> None:
    server.failures = [Failure(status, '{"error": "filtered"}') for _ in range(2)]
    for about, named in (("task 't', row 'r1'", "task 't', row 'r1'"), ("", "the prompt that ends with 'x{60}'")):
        with pytest.raises(FeedbackError, match=rf"^{named}: .*refused .*filtered.*; if it refuses only this one"):
            chat(server, paid).ask([replace(question("y" + "x" * 90), about=about)])


def test_a_response_without_an_answer_is_shown_and_named_by_its_row(server: ChatServer, paid: PaidAnswers) -> None:
    # As a gateway says that its filter blocks a prompt.
    blocked = Failure(200, '{"choices": [], "prompt_feedback": {"block_reason": "SAFETY"}}')
    for about, named in (("task 't', row 'r1'", "task 't', row 'r1'"), ("", "the prompt that ends with 'x{60}'")):
        server.failures = [blocked]
        with pytest.raises(FeedbackError, match=rf"^{named}: http.*: the response is not an answer; .*") as raised:
            chat(server, paid).ask([replace(question("y" + "x" * 90), about=about)])
        assert f"it begins with {blocked.body}; if only this prompt gets such a response" in str(raised.value)


def test_tokens_are_estimated_where_the_server_counts_none(server: ChatServer, paid: PaidAnswers) -> None:
    server.usage = False
    texts(chat(server, paid), "abcdef")
    assert (paid.spend.prompt_tokens, paid.spend.completion_tokens, paid.spend.estimated) == (2, 2, 1)


def test_a_slow_server_is_a_failure_after_the_timeout(server: ChatServer, paid: PaidAnswers) -> None:
    server.always = Failure(-1)
    with pytest.raises(FeedbackError, match=r"no response within 0.1 seconds, at attempt 1"):
        texts(chat(server, paid, "timeout=0.1", "attempts=1"), "a")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"no database, but more than a hundred bytes of something else " * 9)
    with pytest.raises(ArtifactError, match="cannot be used as a file of answers: file is not a database"):
        PaidAnswers(path).get(b"key")


def reply_of(content: object, logprobs: Sequence[Any] = ()) -> Any:
    return {"choices": [{"message": {"content": content}, "logprobs": {"content": list(logprobs)}}]}


def test_replies_are_read_in_the_forms_of_servers() -> None:
    assert read_reply(reply_of(None)).text == ""
    assert read_reply(reply_of([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])).text == "ab"
    top = [{"token": "b", "logprob": -9.0}, {"token": "a", "logprob": 0.0004}, {"token": "c", "logprob": -float("inf")}]
    reply = read_reply(reply_of("a", [{"token": "a", "logprob": 0.0, "top_logprobs": top}]))
    assert (reply.tokens, reply.top) == (("a",), ((("a", 0.0), ("b", -9.0), ("c", -9999.0)),))
    assert type(reply).from_json(reply.to_json()) == reply
    for value in (0.5, float("nan"), None, "x"):
        with pytest.raises(ReplyError, match="log-probabilities of at most 0"):
            read_reply(reply_of("a", [{"token": "a", "top_logprobs": [{"token": "a", "logprob": value}]}]))
