"""Logs: one line a record whatever is in it, and nothing in it that a log should not hold."""

import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udr.errors import ArtifactError, InvalidInputError
from udr.retrieval import RetrievalRequest
from udr_service.observability import LogFormat, LogLevel, configure, exception_text, request_id, request_line

LOG = logging.getLogger("udr_service.test")
THEIRS = logging.getLogger("somebody.else")
SECRET = "what the client wrote"
INJECTED = 'x\n{"level": "error"}\r\nudr: forged\u2028\u0085\x1b[31m\x00"\\'


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Leave logging as it was: pytest's own handlers stand at the root."""
    root, loggers = logging.getLogger(), [logging.getLogger(name) for name in ("udr", "udr_service")]
    handlers, levels = root.handlers[:], [logger.level for logger in (root, *loggers)]
    root.handlers[:] = []
    yield
    root.handlers[:] = handlers
    for logger, level in zip((root, *loggers), levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    """Where JSON is logged to, from INFO on."""
    made = io.StringIO()
    configure(LogLevel.INFO, LogFormat.JSON, made)
    return made


@pytest.fixture
def text_stream() -> io.StringIO:
    """Where text is logged to, from INFO on."""
    made = io.StringIO()
    configure(LogLevel.INFO, LogFormat.TEXT, made)
    return made


def taken(stream: io.StringIO) -> str:
    """What was logged since this was last asked."""
    found = stream.getvalue()
    stream.seek(0)
    stream.truncate()
    return found


def logged(stream: io.StringIO) -> dict[str, Any]:
    """The one record that was logged."""
    (line,) = taken(stream).splitlines()
    record: dict[str, Any] = json.loads(line)
    return record


def test_a_record_has_its_time_level_logger_message_and_extra_keys(stream: io.StringIO) -> None:
    before = datetime.now(UTC)
    LOG.warning("kept %d of %s", 3, "them", extra={"index_version": "v1", "rows": 7, "share": 0.5, "whole": True})
    record = logged(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
    # The milliseconds are cut off, not rounded.
    assert -0.002 < (datetime.fromisoformat(record.pop("time")) - before).total_seconds() < 60
    assert record == {
        "level": "warning",
        "logger": "udr_service.test",
        "message": "kept 3 of them",
        "index_version": "v1",
        "rows": 7,
        "share": 0.5,
        "whole": True,
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.just(INJECTED) | st.just("half \ud800"))
def test_a_message_is_one_line_and_comes_back_as_it_was(stream: io.StringIO, message: str) -> None:
    LOG.info("%s", message, extra={"given": message})
    line = taken(stream)
    assert line.isascii() and line.endswith("}\n") and len(line.splitlines()) == 1
    record = json.loads(line)
    assert (record["message"], record["given"]) == (message, message)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.just(INJECTED) | st.just("half \ud800"))
def test_text_is_one_printable_line_too(text_stream: io.StringIO, message: str) -> None:
    LOG.info("%s", message, extra={"given": message})
    line = taken(text_stream)
    assert line.endswith("\n") and line[:-1].isprintable()


def test_text_reads_from_left_to_right(text_stream: io.StringIO) -> None:
    LOG.warning("caf\xe9\nclosed", extra={"rows": 7, "who": "a b", "stages": {"encode": 1.5}})
    line = taken(text_stream)
    assert re.sub(r"^\S+Z", "TIME", line) == (
        'TIME warning udr_service.test caf\xe9\\nclosed rows=7 who="a b" stages={"encode": 1.5}\n'
    )


@pytest.mark.parametrize("name", ["time", "level", "logger"])
def test_an_extra_key_cannot_pose_as_one_of_the_record_s_own(stream: io.StringIO, name: str) -> None:
    LOG.info("x", extra={name: "forged"})
    assert logged(stream)[name] != "forged"


def test_a_value_that_json_has_not_is_named_by_its_kind_alone(stream: io.StringIO) -> None:
    request = RetrievalRequest(input=SECRET, scope="all", k=1)
    LOG.info(
        "x", extra={"request": request, "raw": SECRET.encode(), "deep": {"a": [request, float("nan")]}, "none": None}
    )
    record = logged(stream)
    assert record["request"] == "<RetrievalRequest>" and record["raw"] == "<bytes>"
    assert record["deep"] == {"a": ["<RetrievalRequest>", "nan"]}
    assert "none" not in record, "absent is absent"


@pytest.mark.parametrize(
    "name", ["input", "query", "text", "texts", "prompt", "key", "Authorization", "headers", "body"]
)
def test_a_key_that_names_what_must_not_be_logged_is_withheld(stream: io.StringIO, name: str) -> None:
    LOG.info("x", extra={name: SECRET, "around": {name: SECRET}})
    record = logged(stream)
    assert record[name] == "<withheld>" and record["around"] == {name: "<withheld>"}
    assert SECRET not in json.dumps(record)


def failing(text: str) -> None:
    raise ValueError(f"cannot encode {text}\nat all")


def failure(*errors: Exception) -> Exception:
    """An error as it was caught, each of the given raised from the next; the last is another's."""
    try:
        try:
            failing(SECRET)
        except ValueError as error:
            cause: Exception = error
        for one in reversed(errors):
            try:
                raise one from cause
            except type(one) as error:
                cause = error
        raise cause
    except Exception as error:
        return error


def test_an_exception_is_one_string_that_says_where_and_not_what(stream: io.StringIO) -> None:
    """The message of an error that is not ours may quote the text that was being encoded."""
    try:
        failing(SECRET)
    except ValueError:
        LOG.exception("request %s failed", "r1")
    line = taken(stream)
    assert len(line.splitlines()) == 1
    record = json.loads(line)
    assert (record["message"], record["level"]) == ("request r1 failed", "error")
    assert record["exception"].startswith("ValueError\n") and SECRET not in line
    assert "in failing\n" in record["exception"] and "test_logs.py" in record["exception"]


def test_an_exception_in_text_is_indented_line_by_line(text_stream: io.StringIO) -> None:
    LOG.error("failed", exc_info=failure(ArtifactError("bad\nudr: forged")))
    first, *others = taken(text_stream).splitlines()
    assert first.endswith(" error udr_service.test failed")
    assert others and all(line.startswith("    ") for line in others)
    assert others[0] == "    udr.errors.ArtifactError: bad" and SECRET not in "".join(others)


def test_the_messages_of_errors_about_files_are_told_and_those_about_requests_are_not() -> None:
    told = exception_text(
        failure(ArtifactError("no manifest"), OSError(28, "No space left"), InvalidInputError(SECRET))
    )
    assert [line for line in told.splitlines() if not line.startswith(" ")] == [
        "udr.errors.ArtifactError: no manifest",
        "caused by OSError: [Errno 28] No space left",
        "caused by udr.errors.InvalidInputError",
        "caused by ValueError",
    ]
    assert SECRET not in told


def test_what_a_group_of_exceptions_holds_is_told() -> None:
    told = exception_text(ExceptionGroup(SECRET, [failure(), KeyError(SECRET)]))
    heads = [line for line in told.splitlines() if not line.startswith(" ")]
    assert heads == ["ExceptionGroup", "caused by ValueError", "caused by KeyError"]
    assert "in failing\n" in told and SECRET not in told


def test_exceptions_that_cause_one_another_end() -> None:
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    assert exception_text(one) == "ValueError\ncaused by KeyError"


def test_of_others_records_the_first_line_is_told_and_nothing_they_add(stream: io.StringIO) -> None:
    """Asyncio puts the repr of what failed, message and all, below its first line."""
    error = failure()
    THEIRS.error("Task exception was never retrieved\nfuture: %r", error, exc_info=error, extra={"scope": SECRET})
    line = taken(stream)
    record = json.loads(line)
    assert record["message"] == "Task exception was never retrieved"
    assert set(record) == {"time", "level", "logger", "message", "exception"} and SECRET not in line


@pytest.mark.parametrize("level", LogLevel)
def test_a_level_is_ours_and_others_are_never_heard_below_warning(level: LogLevel) -> None:
    stream = io.StringIO()
    configure(level, LogFormat.JSON, stream)
    for name in ("udr.retrieval.retriever", "udr_service.test", "somebody.else", "udrx"):
        for one in LogLevel:
            logging.getLogger(name).log(logging.getLevelNamesMapping()[one.upper()], "x")
    heard = [(record["logger"], record["level"]) for record in map(json.loads, stream.getvalue().splitlines())]
    levels = list(LogLevel)
    from_here = levels[levels.index(level) :]
    assert heard == [
        (name, one)
        for name in ("udr.retrieval.retriever", "udr_service.test", "somebody.else", "udrx")
        for one in from_here
        if name.startswith(("udr.", "udr_service")) or one in ("warning", "error")
    ]


def test_configuring_again_replaces_what_was_there(stream: io.StringIO) -> None:
    other = io.StringIO()
    configure(LogLevel.INFO, LogFormat.JSON, other)
    LOG.info("once")
    assert stream.getvalue() == "" and logged(other)["message"] == "once"


def test_logs_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogLevel.INFO, LogFormat.JSON)
    LOG.info("there")
    out, err = capsys.readouterr()
    assert out == "" and json.loads(err)["message"] == "there"


def test_a_request_is_one_line_with_what_it_took(stream: io.StringIO) -> None:
    request_line(
        request_id="r-1",
        method="POST",
        route="/v1/retrieve",
        status=200,
        duration_ms=12.34567,
        stages_ms={"queue": 0.12345, "encode": 10.0},
        queue_size=3,
        batch_size=4,
        index_version="v1",
        key_name="page",
    )
    record = logged(stream)
    record.pop("time")
    assert record == {
        "level": "info",
        "logger": "udr_service.requests",
        "message": "request",
        "request_id": "r-1",
        "method": "POST",
        "route": "/v1/retrieve",
        "status": 200,
        "duration_ms": 12.346,
        "stages_ms": {"queue": 0.123, "encode": 10.0},
        "queue_size": 3,
        "batch_size": 4,
        "index_version": "v1",
        "key_name": "page",
    }


def test_what_a_request_has_not_is_absent_and_a_method_of_the_client_s_own_is_not_shown(stream: io.StringIO) -> None:
    request_line(request_id="r", method="SECRET", route=None, status=404, duration_ms=0.1, stages_ms={})
    record = logged(stream)
    assert record["method"] == "other"
    assert set(record) == {
        *("time", "level", "logger", "message"),
        *("request_id", "method", "status", "duration_ms", "stages_ms"),
    }


@pytest.mark.parametrize("header", ["a", "A-z_0.9", "x" * 128, "3f2a-1"])
def test_a_client_s_request_id_is_taken_where_it_is_fit(header: str) -> None:
    assert request_id(header) == header


@pytest.mark.parametrize("header", [None, "", "x" * 129, "a b", "a\n", "a\r\nSet-Cookie: x", "é", "a/b", "a:b", "\x00"])
def test_any_other_is_replaced_by_one_of_its_own(header: str | None) -> None:
    made = {request_id(header) for _ in range(50)}
    assert len(made) == 50 and header not in made
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in made)
