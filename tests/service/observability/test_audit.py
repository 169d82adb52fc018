"""The audit log: one line a second of each kind, which counts the others, and no memory that grows."""

import asyncio
import logging
from typing import Any

import pytest

from tests.service.conftest import on_event_loop
from udr_service.observability import Audit, Event


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "udr_service.audit"]


@on_event_loop
async def test_a_flood_is_one_line_a_second_with_its_number(caplog: pytest.LogCaptureFixture) -> None:
    audit = Audit()
    for number in range(10_000):
        audit.record(Event.UNKNOWN_KEY, f"10.0.{number // 256}.{number % 256}")
    audit.record(Event.SCOPE, "10.0.0.1", key_name="page")
    assert [line["event"] for line in lines(caplog)] == ["unknown_key", "scope"], "kinds do not hide each other"
    await asyncio.sleep(1.1)
    first, second, last = lines(caplog)
    assert (first["client"], first["message"]) == ("10.0.0.0", Event.UNKNOWN_KEY.value)
    assert (second["client"], second["key_name"], second["levelno"]) == ("10.0.0.1", "page", logging.WARNING)
    assert last["client"] == "10.0.39.15"
    assert last["message"] == f"{Event.UNKNOWN_KEY.value}, and 9,998 more like it"


@on_event_loop
async def test_closing_logs_what_waits(caplog: pytest.LogCaptureFixture) -> None:
    audit = Audit()
    for number in range(3):
        audit.record(Event.RELOADED, by=str(number))
    audit.record(Event.CROSS_SITE, "x" * 1000)
    audit.close()
    assert [(line["event"], line.get("by")) for line in lines(caplog)] == [
        ("reloaded", "0"),
        ("cross_site", None),
        ("reloaded", "2"),
    ]
    assert len(lines(caplog)[1]["client"]) == 64
    assert lines(caplog)[2]["message"] == "reloaded, and 1 more like it"
