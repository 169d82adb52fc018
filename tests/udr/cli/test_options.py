"""``udr retrieve`` and ``udr prompt``: every option arrives where demonstrations are chosen or the prompt is built."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Self

import pytest

from tests.options import CalledError, Changes, Recorder, assert_each_arrives
from udr import Client
from udr.prompts import Format, Layout, Order
from udr.retrieval import Retriever, SelectionOptions

SELECTION: Changes = {
    "exclude": ("--exclude a --exclude b", {"exclude": ("a", "b")}),
    "filter": ("--filter id=1", {"filter": "id=1"}),
    "keep_copies": ("--keep-copies", {"keep_copies": True}),
    "max_copy": ("--max-copy 0.9", {"max_copy": 0.9}),
    "min_similarity": ("--min-similarity 0.1", {"min_similarity": 0.1}),
    "max_similarity": ("--max-similarity 0.8", {"max_similarity": 0.8}),
    "mode": ("--mode bm25", {"mode": "bm25"}),
    "weight": ("--mode hybrid --weight 0.3", {"mode": "hybrid", "weight": 0.3}),
    "distinct": ("--distinct 0.7", {"distinct": 0.7}),
    "diversity": ("--diversity 0.2", {"diversity": 0.2}),
    "coverage": ("--coverage 0.4", {"coverage": 0.4}),
    "balance": ("--balance", {"balance": True}),
    "candidates": ("--explain --candidates 60", {"explain": True, "candidates": 60}),
    "explain": ("--explain", {"explain": True}),
    "fill": ("--fill", {"fill": True}),
    "label_head": ("--no-label-head", {"label_head": False}),
    "k": ("--k 3", {"k": 3}),
}
ROOM: Changes = {
    "budget": ("--budget 800", {"budget": 800}),
    "reserve": ("--reserve 7", {"reserve": 7}),
    "order": ("--order nearest_first", {"order": Order.NEAREST_FIRST}),
    "seed": ("--order shuffle --seed 5", {"order": Order.SHUFFLE, "seed": 5}),
    "layout": ("--format messages --layout system", {"format": Format.MESSAGES, "layout": Layout.SYSTEM}),
    "list_options": ("--list-options", {"list_options": True}),
    "truncate": ("--truncate text", {"truncate": "text"}),
    "format": ("--format records", {"format": Format.RECORDS}),
}
HERE: Changes = {
    "device": ("--device cpu", {"device": "cpu"}),
    "engine": ("--engine torch", {"engine": "torch"}),
    "allow_hub": ("--allow-hub", {"allow_hub": True}),
}
"""The options of an index in this process."""


SERVED = {"url", "input", "task", "as_json"}
"""Which task, query and service, and how the answer is shown, are in tests of their own."""


class Opened(Recorder):
    """An index that is opened, and keeps how it is asked."""

    tasks: ClassVar = {"notes": "its definition"}
    tokenizer = "its own"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def retrieve(self, *values: object, **named: object) -> None:
        self.keep(*values, **named)
        if not self.builds:
            raise CalledError

    builds = False

    def built(self, tokenizer: object, **options: object) -> SimpleNamespace:
        self.keep(tokenizer=tokenizer, **options)
        return SimpleNamespace(build=lambda task, input, retrieval, format: self(format=format))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Opened]:
    """Make the recorder that the next command opens in place of an index."""

    def make(builds: bool) -> Opened:
        recorder = Opened("task", "input", "k")
        recorder.builds = builds

        def open_version(_: object, **options: object) -> Opened:
            recorder.keep(**options)
            return recorder

        monkeypatch.setattr(Retriever, "of_version", open_version)
        return recorder

    # They refuse what this index has not.
    monkeypatch.setattr("udr.retrieval.make_plan", lambda *_, **__: None)
    return make


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Recorder]:
    """Make the recorder that the next command calls in place of a service."""

    def make() -> Recorder:
        recorder = Recorder("task", "input", "k")
        for method in ("retrieve", "prompt"):
            monkeypatch.setattr(Client, method, lambda _, *values, **named: recorder(*values, **named))
        return recorder

    return make


SERVICE = ("--url", "http://127.0.0.1:9", "--task", "notes", "a day")


def test_options_of_retrieve_arrive_at_a_service(asked: Callable[[], Recorder]) -> None:
    assert_each_arrives("retrieve", SERVICE, asked, SELECTION, SERVED | {"family", "scope", "fp16", *HERE})


def test_options_of_prompt_arrive_at_a_service(asked: Callable[[], Recorder]) -> None:
    given = ("--budget", "900", *SERVICE)
    assert_each_arrives("prompt", given, asked, SELECTION | ROOM, SERVED | {"tokenizer", *HERE})


def test_options_of_retrieve_arrive_at_an_index(opened: Callable[..., Opened], index: Path) -> None:
    changes = SELECTION | HERE | {"fp16": ("--fp16", {"fp16": True})}
    given = (index, "--task", "notes", "a day")
    assert_each_arrives("retrieve", given, lambda: opened(False), changes, SERVED | {"family", "scope"})


def test_options_of_prompt_arrive_at_an_index(
    opened: Callable[..., Opened], index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("udr.models.load_tokenizer", lambda name: name)
    changes = SELECTION | ROOM | HERE | {"tokenizer": ("--tokenizer other", {"tokenizer": "other"})}

    def make() -> Opened:
        recorder = opened(True)
        monkeypatch.setattr("udr.prompts.PromptBuilder", recorder.built)
        return recorder

    assert_each_arrives("prompt", (index, "--budget", "900", "--task", "notes", "a day"), make, changes, SERVED)


def test_the_selection_has_every_option_of_a_request() -> None:
    assert set(SelectionOptions.__annotations__) | {"k"} == set(SELECTION)
