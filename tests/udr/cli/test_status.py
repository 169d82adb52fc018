"""What commands say while they work: on a terminal, and in a file."""

import io
import logging
import re
import threading

import pytest

from udr.cli import Status, duration, meter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def shown(written: str) -> list[str]:
    """The lines that a terminal shows in the end."""
    lines = []
    for line in written.split("\n"):
        row, cursor = "", 0
        for part in re.split(r"(\r|\x1b\[K)", line):
            if part == "\r":
                cursor = 0
            elif part == "\x1b[K":
                row = row[:cursor]
            else:
                row, cursor = row[:cursor] + part + row[cursor + len(part) :], cursor + len(part)
        lines.append(row)
    return lines


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


def test_a_step_shows_its_seconds_and_vanishes_if_it_was_short(terminal: Terminal, clock: Clock) -> None:
    status = Status(terminal, clock, tick=False)
    status.begin("loading MiniLM...")
    assert shown(terminal.getvalue()) == ["udr: loading MiniLM..."]
    clock.now += 7
    status.tick()
    assert shown(terminal.getvalue()) == ["udr: loading MiniLM... 7 s"]
    status.begin("opening the index...")
    status.notice("ready")
    assert shown(terminal.getvalue()) == ["udr: loading MiniLM... 7 s", "udr: ready", ""]


def test_progress_has_rate_and_time_left_which_go_on_between_reports(terminal: Terminal, clock: Clock) -> None:
    status = Status(terminal, clock, tick=False)
    status.progress("tickets", 0, 60, 0.0, "pairs")
    status.progress("tickets", 20, 60, 10.0, "pairs")
    assert shown(terminal.getvalue()) == ["udr: tickets: 20/60 pairs, 2 pairs/s, 20 s left"]
    clock.now += 5
    status.tick()
    assert shown(terminal.getvalue()) == ["udr: tickets: 20/60 pairs, 2 pairs/s, 15 s left"]
    status.notice("12 prompts were cut")
    status.progress("tickets", 60, 60, 30.0, "pairs")
    assert shown(terminal.getvalue()) == [
        "udr: 12 prompts were cut",
        "udr: tickets: 60/60 pairs in 30 s, 2 pairs/s",
        "",
    ]
    status.finish()
    status.tick()
    assert shown(terminal.getvalue())[-1] == ""


def test_a_line_never_wraps(terminal: Terminal, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    Status(terminal, clock, tick=False).begin("loading a model with a long name...")
    assert shown(terminal.getvalue()) == ["udr: loading a mode"]


def test_a_file_has_a_line_per_step_and_progress_now_and_then(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    status = Status(None, clock, tick=False)
    status.begin("loading MiniLM...")
    for done in range(0, 101):
        clock.now += 1
        status.tick()
        status.progress("tickets", done, 100, done + 1.0, "pairs")
    status.notice("done")
    written = capsys.readouterr().err
    assert "\r" not in written and "\x1b" not in written and "|" not in written
    lines = written.splitlines()
    assert lines[0] == "udr: loading MiniLM..." and lines[-1] == "udr: done"
    assert lines[-2] == "udr: tickets: 100/100 pairs in 2 min, 0.99 pairs/s"
    # The clock starts at 100, so the first report is due at once; then every 30 seconds.
    assert len(lines) == 2 + 4 + 1


def test_a_file_says_that_a_step_lasts_ever_more_seldom(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    status = Status(None, clock, tick=False)
    status.begin("loading MiniLM...")
    for _ in range(100):
        clock.now += 1
        status.tick()
    status.progress("tickets", 0, 100, 0.0, "pairs")
    clock.now += 100
    status.tick()
    lines = capsys.readouterr().err.splitlines()
    steps = ["", *(f" {seconds} s" for seconds in (2, 4, 8, 16, 32, 62, 92))]
    assert lines == [*(f"udr: loading MiniLM...{step}" for step in steps), "udr: tickets: 0/100 pairs, 0 s"]


def test_log_records_are_notices_and_steps(terminal: Terminal, clock: Clock) -> None:
    status = Status(terminal, clock, tick=False)
    for message in ("loading MiniLM...", "no pooling settings"):
        status.emit(logging.LogRecord("udr", logging.INFO, "", 0, message, None, None))
        clock.now += 2
    assert shown(terminal.getvalue()) == ["udr: loading MiniLM... 2 s", "udr: no pooling settings", ""]


def test_the_open_line_is_rewritten_by_itself(terminal: Terminal) -> None:
    ticked = threading.Event()

    class Ticking(Status):
        def tick(self) -> None:
            super().tick()
            if threading.current_thread() is not threading.main_thread():
                ticked.set()

    status = Ticking(terminal)
    status.begin("loading MiniLM...")
    assert ticked.wait(5)
    status.finish()


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0, 60, 3.0, "pairs"), "0/60 pairs, 3 s"),
        ((1500, 3000, 100.0, "pairs"), "1,500/3,000 pairs, 15 pairs/s, 2 min left"),
        ((50, 100, 10.0, "steps", 40), "50/100 steps, 1 steps/s, 50 s left"),
        ((1, 100, 400.0, "steps"), "1/100 steps, 0.0025 steps/s, 11 h 00 min left"),
        ((40, 100, 9.0, "steps", 40), "40/100 steps, 9 s"),
        ((7000, None, 2.0, "rows"), "7,000 rows, 3,500 rows/s"),
    ],
)
def test_a_meter_counts_what_was_done_in_its_seconds(numbers: tuple[int, int | None, float, str], text: str) -> None:
    assert meter(*numbers) == text


def test_durations_are_in_words() -> None:
    assert [duration(seconds) for seconds in (0.4, 99, 100, 3540, 3600, 11100)] == [
        "0 s",
        "99 s",
        "2 min",
        "59 min",
        "1 h 00 min",
        "3 h 05 min",
    ]
