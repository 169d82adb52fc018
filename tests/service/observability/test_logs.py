"""Logs: one line per record, whatever it holds, and nothing that a log must not hold."""

import io
import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udr.errors import ArtifactError, InvalidInputError
from udr.retrieval import RetrievalRequest
from udr_service.observability import LogFormat, LogLevel, configure, exception_text, request_id

LOG = logging.getLogger("udr_service.test")
FOREIGN = logging.getLogger("somebody.else")
SECRET = "what the client wrote"
INJECTED = 'x\n{"level": "error"}\r\nudr: forged\u2028\u0085\x1b[31m\x00"\\'
TEXTS = st.text() | st.just(INJECTED) | st.just("half \ud800")


class Output(io.StringIO):
    """Where a test logs to. Made in the test, not in a fixture: this removes pytest's own handlers from the test, whose
    reports of lone surrogates pytest-xdist cannot serialise."""

    def __init__(self, format: LogFormat = LogFormat.JSON, level: LogLevel = LogLevel.INFO) -> None:
        super().__init__()
        configure(level, format, self)

    def record(self) -> dict[str, Any]:
        """Return the only record."""
        (line,) = self.getvalue().splitlines()
        return json.loads(line)  # type: ignore[no-any-return]


def test_a_record_has_time_level_logger_message_and_extra_keys() -> None:
    output, before = Output(), datetime.now(UTC)
    extra = {"index_version": "v1", "rows": 7, "share": 0.5, "whole": True}
    # A name with an underscore is of a package that marks every record, not of the caller.
    LOG.warning("kept %d of %s", 3, "them", extra={**extra, "_package_time": 1})
    record = output.record()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
    # Milliseconds are truncated, not rounded.
    assert -0.002 < (datetime.fromisoformat(record.pop("time")) - before).total_seconds() < 60
    assert record == {"level": "warning", "logger": "udr_service.test", "message": "kept 3 of them", **extra}


@given(TEXTS)
def test_json_is_one_line_that_reads_back(message: str) -> None:
    output = Output()
    LOG.info("%s", message, extra={"given": message})
    assert output.getvalue().isascii() and output.getvalue().endswith("}\n")
    record = output.record()
    assert (record["message"], record["given"]) == (message, message)


@given(TEXTS)
def test_text_is_one_printable_line(message: str) -> None:
    output = Output(LogFormat.TEXT)
    LOG.info("%s", message, extra={"given": message})
    assert output.getvalue().endswith("\n") and output.getvalue()[:-1].isprintable()
    output = Output(LogFormat.TEXT)
    LOG.warning("caf\xe9\nclosed", extra={"rows": 7, "who": "a b", "stages": {"encode": 1.5}})
    assert output.getvalue().partition("Z ")[2] == (
        'warning udr_service.test caf\xe9\\nclosed rows=7 who="a b" stages={"encode": 1.5}\n'
    )


def test_extra_keys_are_made_safe() -> None:
    request = RetrievalRequest(input=SECRET, scope="all", k=1)
    withheld = ["input", "query", "text", "texts", "prompt", "key", "Authorization", "headers", "body"]
    output = Output()
    LOG.info(
        "x",
        extra={
            **dict.fromkeys(["time", "level", "logger"], "forged"),
            **dict.fromkeys(withheld, SECRET),
            "around": dict.fromkeys(withheld, SECRET),
            "request": request,
            "raw": SECRET.encode(),
            "deep": {"a": [request, float("nan")]},
            "none": None,
        },
    )
    record = output.record()
    assert SECRET not in output.getvalue() and "forged" not in output.getvalue()
    for name in withheld:
        assert record[name] == record["around"][name] == "<withheld>"
    assert (record["request"], record["raw"]) == ("<RetrievalRequest>", "<bytes>")
    assert record["deep"] == {"a": ["<RetrievalRequest>", "nan"]} and "none" not in record


def failing(text: str) -> None:
    raise ValueError(f"cannot encode {text}\nat all")


def failure(*errors: Exception) -> Exception:
    """Return the first of these, caused by the next, and so on, down to a foreign error that was raised."""
    try:
        failing(SECRET)
    except ValueError as foreign:
        cause: Exception = foreign
    for error in reversed(errors):
        error.__cause__ = cause
        cause = error
    return cause


def test_an_exception_shows_where_it_was_raised_and_no_foreign_message() -> None:
    """The message of a foreign error may quote the text that was being encoded."""
    output = Output()
    LOG.error("request %s failed", "r1", exc_info=failure())
    record = output.record()
    assert (record["message"], record["level"]) == ("request r1 failed", "error")
    assert record["exception"].startswith("ValueError\n") and SECRET not in output.getvalue()
    assert "in failing\n" in record["exception"] and "test_logs.py" in record["exception"]
    output = Output(LogFormat.TEXT)
    LOG.error("failed", exc_info=failure(ArtifactError("bad\nudr: forged")))
    first, second, *others = output.getvalue().splitlines()
    assert first.endswith(" error udr_service.test failed") and second == "    udr.errors.ArtifactError: bad"
    assert all(line.startswith("    ") and SECRET not in line for line in others)


def heads(error: BaseException) -> list[str]:
    text = exception_text(error)
    assert SECRET not in text
    return [line for line in text.splitlines() if not line.startswith(" ")]


def test_messages_are_shown_if_they_are_about_files_and_not_requests() -> None:
    error = failure(ArtifactError("no manifest"), OSError(28, "No space left"), InvalidInputError(SECRET))
    assert heads(error) == [
        "udr.errors.ArtifactError: no manifest",
        "caused by OSError: [Errno 28] No space left",
        "caused by udr.errors.InvalidInputError",
        "caused by ValueError",
    ]


def test_exception_groups_and_circular_causes_are_followed_once() -> None:
    group = ExceptionGroup(SECRET, [failure(), KeyError(SECRET)])
    assert heads(group) == ["ExceptionGroup", "caused by ValueError", "caused by KeyError"]
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert heads(first) == ["ValueError", "caused by KeyError"]


def test_foreign_records_show_their_first_line_only() -> None:
    """Asyncio puts the repr of what failed, message and all, below its first line."""
    output, error = Output(), failure()
    FOREIGN.error("Task exception was never retrieved\nfuture: %r", error, exc_info=error, extra={"scope": SECRET})
    record = output.record()
    assert record["message"] == "Task exception was never retrieved"
    assert set(record) == {"time", "level", "logger", "message", "exception"} and SECRET not in output.getvalue()


@pytest.mark.parametrize("level", LogLevel)
def test_the_level_is_ours_and_others_log_warnings_and_above(level: LogLevel) -> None:
    output, levels = Output(level=level), list(LogLevel)
    wanted = levels[levels.index(level) :]
    for name in ("udr.retrieval.retriever", "udr_service.test", "somebody.else", "udrx"):
        for each in levels:
            logging.getLogger(name).log(logging.getLevelNamesMapping()[each.upper()], "x")
        logged = [json.loads(line)["level"] for line in output.getvalue().splitlines()]
        ours = name.startswith(("udr.", "udr_service"))
        assert logged == [each for each in wanted if ours or each in ("warning", "error")]
        output.truncate(output.seek(0))


def test_configure_replaces_the_stream_and_defaults_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = Output(), Output()
    LOG.info("once")
    assert first.getvalue() == "" and second.record()["message"] == "once"
    configure(LogLevel.INFO, LogFormat.JSON)
    LOG.info("there")
    out, err = capsys.readouterr()
    assert out == "" and json.loads(err)["message"] == "there"


def test_invalid_request_ids_are_replaced() -> None:
    for header in ("a", "A-z_0.9", "x" * 128, "3f2a-1"):
        assert request_id(header) == header
    invalid = [None, "", "x" * 129, "a b", "a\n", "a\r\nSet-Cookie: x", "é", "a/b", "a:b", "\x00"]
    ids = {request_id(header) for header in invalid}
    assert len(ids) == len(invalid) and all(re.fullmatch(r"[0-9a-f]{32}", new) for new in ids)
