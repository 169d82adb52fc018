"""Addresses, settings and budgets of servers: what they mean, and what is refused in one line."""

import pytest

from udr.errors import ConfigError
from udr_training.answering import WORKER_KEY, Api, Budget, ServerSettings, Spend, read_address, read_settings


def test_an_address_means_completions_unless_it_says_chat() -> None:
    plain = read_address("http://127.0.0.1:8000/v1/?model=NAME")
    assert (plain.url, plain.model, plain.api) == ("http://127.0.0.1:8000/v1", "NAME", Api.COMPLETIONS)
    chat = read_address("https://host/v1?api=chat&model=a/b-c")
    assert (chat.url, chat.model, chat.api) == ("https://host/v1", "a/b-c", Api.CHAT)
    assert str(chat) == "https://host/v1?model=a/b-c&api=chat"
    assert read_address("http://host/v1").model is None
    odd = read_address("http://host/v1?model=a%26b%20c")
    assert odd.model == "a&b c" and read_address(str(odd)) == odd


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("http://host/v1?api=responses", "api= must be one of completions, chat"),
        ("http://host/v1?model=a&model=b", "model= is given twice"),
        ("http://host/v1?model", "must be named like"),
        ("http://user:secret@host/v1?api=chat", "put the key in UDR_LM_KEY"),
    ],
)
def test_invalid_addresses_are_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        read_address(name)
    assert "secret" not in str(raised.value)


def test_the_secrets_of_a_server_go_to_no_other() -> None:
    settings = read_settings(
        ["key=MINE", "header.api-key=$MINE", "query.code=mine", "body.top_p=0.5", "body.api_key=$MINE", "timeout=9"]
    )
    lm = "https://api.host/v1?model=large&api=chat"
    for same in (lm, "https://API.host:443/v2?model=small"):
        assert settings.for_worker(lm, same) is settings
    for other in ("http://api.host/v1", "https://api.host:8000/v1", "https://host/v1"):
        worker = settings.for_worker(lm, other)
        assert (worker.key, worker.headers, worker.query) == (WORKER_KEY, {}, {})
        assert (worker.body, worker.timeout) == ({"top_p": 0.5}, 9)


def test_settings_are_read_from_lines() -> None:
    lines = ["concurrency=3", "timeout=9.5", "body.top_p=0.5", "body.stop=null", 'body.user="me"', "body.note=a b"]
    settings = read_settings([*lines, "header.X-Title=udr", "query.api-version=2026-01-01"])
    assert (settings.concurrency, settings.timeout, settings.attempts) == (3, 9.5, 6)
    assert settings.body == {"top_p": 0.5, "stop": None, "user": "me", "note": "a b"}
    assert settings.asked == {
        "body": settings.body,
        "query": {"api-version": "2026-01-01"},
        "headers": {"x-title": "udr"},
    }
    assert read_settings(()) == ServerSettings()
    assert read_settings(["header.api-key=$KEY"]).asked == ServerSettings().asked == {"body": {}, "query": {}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("concurrency", "must be NAME=VALUE"),
        ("body.=1", "must be NAME=VALUE"),
        ("temperature=1", "unknown name 'temperature'; the names are key, concurrency, .*body.FIELD"),
        ("bodies.a=1", "unknown name 'bodies.a'"),
        ("concurrency=0", "concurrency must be a whole number from 1 to 1024, found '0'"),
        ("concurrency=1.5", "concurrency must be a whole number"),
        ("timeout=nan", "timeout must be a number from 0.1"),
        ("header.api-key=abc", r"header.api-key: put the secret into an environment variable and give its name as \$"),
        ("header.api-key=123", "put the secret into an environment variable"),
        ("header.a b=c", "printable ASCII"),
        ("query.key=abc", r"query.key: put the secret into an environment variable and give its name as \$"),
        ("body.api_key=abc", r"body.api_key: put the secret into an environment variable and give its name as \$"),
    ],
)
def test_invalid_settings_are_refused(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings([line])


def test_secrets_come_from_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UDR_LM_KEY", raising=False)
    settings = read_settings(["key=MY_KEY", "header.api-key=$AZURE"])
    with pytest.raises(ConfigError, match=r"header.api-key: the environment variable AZURE is not set"):
        settings.secret_headers()
    monkeypatch.setenv("AZURE", "s1")
    with pytest.raises(ConfigError, match="key: the environment variable MY_KEY is not set"):
        settings.secret_headers()
    monkeypatch.setenv("MY_KEY", "s2\n")
    assert settings.secret_headers() == {"Authorization": "Bearer s2", "api-key": "s1"}
    assert read_settings(()).secret_headers() == {}
    settings = read_settings(["query.key=$AZURE", "query.api-version=1", "body.api_key=$AZURE", "body.max_tokens=9"])
    assert settings.secret_query() == {"key": "s1", "api-version": "1"}
    assert settings.secret_body() == {"api_key": "s1"} and "s1" not in str(settings.asked)
    assert read_settings(["body.prompt_cache_key=mine", "body.stop=$"]).secret_body() == {}
    with pytest.raises(ConfigError, match=r"query.key: the environment variable NONE is not set"):
        read_settings(["query.key=$NONE"]).secret_query()


def test_costs_are_those_of_a_million_tokens() -> None:
    budget = Budget.read("http://host/v1", 10, 100_000, 0.02, "0.15,0.6")
    spend = Spend(3, 20_000, 10_000)
    assert budget.cost(spend) == pytest.approx(0.003 + 0.006)
    assert budget.shown(spend) == "3 requests, 30,000 tokens, cost 0.009 in the unit of --prices"
    assert Budget().shown(Spend(1, 1)) == "1 request, 1 tokens"
    assert budget.exceeded_by(spend) is None
    assert budget.exceeded_by(Spend(11)) == "--max-requests 10"
    assert budget.exceeded_by(Spend(1, 99_999, 2)) == "--max-tokens-total 100,000"
    assert budget.exceeded_by(Spend(1, 0, 40_000)) == "--max-cost 0.02"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((None, None, 1.0, None), "--max-cost needs --prices"),
        ((None, None, None, "1"), "--prices must be IN,OUT"),
        ((None, None, None, "1,-2"), "--prices must be at least 0"),
        ((-1, None, None, None), "--max-requests must be at least 0, found -1"),
    ],
)
def test_invalid_budgets_are_refused(
    options: tuple[int | None, int | None, float | None, str | None], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Budget.read("http://host/v1", *options)
