"""Plain text over many tasks: the same copy keys as by one regular expression for each task, but sooner."""

import random
import re
import time

import pytest

from udr.data import PlainText, Task, copy_key, parse_task
from udr.types import Fields


def task_of(template: str) -> Task:
    """A task with this template."""
    keys = {"name": "t", "family": "f", "kind": "generation", "instruction": "Do.", "metric": "exact_match"}
    return parse_task({**keys, "input": template, "output": "{target}"})


CHOICE = task_of("Q: {question}\nChoices: {choices}")


def inputs(task: Task, text: str) -> list[Fields]:
    """The inputs that a text can mean, by a regular expression."""
    found: list[Fields] = [{task.fields[0]: text}] if len(task.fields) == 1 else []
    first, *parts = task.input.render(dict.fromkeys(task.fields, "\0")).split("\0")
    if len(parts) == len(task.fields):
        fields = [f"(?>(.*?){re.escape(part)})" for part in parts[:-1]] + [f"(.*){re.escape(parts[-1])}"]
        match = re.fullmatch(re.escape(first) + "".join(fields), text, re.DOTALL | re.IGNORECASE)
        found += [dict(zip(task.fields, match.groups(), strict=True))] if match else []
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Q: Up?\nChoices: sky, sea", [{"question": "Up?", "choices": "sky, sea"}]),
        ("q: A\nB\nchoices: C\nChoices: D", [{"question": "A\nB", "choices": "C\nChoices: D"}]),
        ("Up?", []),
        ("\nChoices: " * 3000, []),
    ],
)
def test_plain_text_can_be_an_input_formatted_by_the_template(text: str, expected: list[Fields]) -> None:
    assert inputs(CHOICE, text) == expected
    assert PlainText(text).inputs(CHOICE) == expected
    assert PlainText(text).copy_keys(CHOICE) == {copy_key(CHOICE, fields) for fields in expected}


TEMPLATES = [
    "{a}",
    "Q: {a}",
    "{a}.",
    "Q: {a}\nSki: {b}",
    "{a}{b}",
    "{a} \u043f\u043e {b}",
    "{a} x {b} x {c}",
    "q {b} {a} ?",
    "{a} {a}",
]
TEMPLATES += ["\u95ee\uff1a{a}\n\u7b54\uff1a{b}", "{a} stra\u00dfe \u03c3 {b}"]
PARTS = [
    "Q: ",
    "q",
    "Ski: ",
    "\u017f\u212a\u0130: ",
    "\u017fki: ",
    "SK\u0131: ",
    "\n",
    " x ",
    " X ",
    " ",
    ".",
    "?",
    "\u041f\u041e",
    " \u043f\u043e ",
    "\u95ee\uff1a",
    "\n\u7b54\uff1a",
    " STRASSE ",
]
PARTS += [
    " STRA\u1e9eE \u03c2 ",
    " stra\u00dfe \u03a3 ",
    "=\u0338",
    "\u0338",
    "e",
    "\u0301",
    "\u0301" * 40,
    "\u1112",
    "\u1161",
    "\ufdfa",
    "\uff9e",
    "word " * 80,
    "\u0e02" * 300,
    "\u00e9\U0001f602",
]


@pytest.mark.parametrize("seed", range(8))
def test_keys_are_those_of_each_task_alone(seed: int) -> None:
    generator, tasks = random.Random(seed), [task_of(template) for template in TEMPLATES]
    for _ in range(60):
        text = "".join(generator.choices(PARTS, k=generator.randint(0, 12)))
        plain = PlainText(text)
        for task in tasks:
            assert plain.copy_keys(task) == {copy_key(task, fields) for fields in inputs(task, text)}, (
                text,
                task.input,
            )


def test_a_long_text_that_hundreds_of_templates_match_is_read_in_time() -> None:
    tasks = [task_of(f"{{a}} part{number:03} {{b}}") for number in range(300)]
    text = "".join(f" part{number:03} " + "\u0e02\u0301" * 45 for number in range(300))
    started = time.process_time()
    plain = PlainText(text)
    keys = {key for task in tasks for key in plain.copy_keys(task)}
    # Each alone takes over two seconds.
    assert len(keys) == 300 and time.process_time() - started < 1
