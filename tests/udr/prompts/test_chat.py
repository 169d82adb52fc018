"""A chat is counted as the tokenizer's template words it, to the token."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_models import byte_tokenizer
from tests.udr.prompts.test_builder import DATA, FRENCH, TREC, found, ids, make_task
from udr.data import Kind, Metric
from udr.errors import InvalidInputError
from udr.models import Message, TransformersTokenizer, load_tokenizer
from udr.prompts import Format, Layout, Order, PromptBuilder
from udr.retrieval import RetrievedDemonstration
from udr.types import Row, TokenCount

ROLES = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# Strips what is said, and puts the system message into the first turn, as some well-known models do.
STRIPS = (
    "{{ '<s>' }}{% set system = messages[0].content %}{% for m in messages[1:] %}"
    "{% if m.role == 'user' %}[{{ (system + '\n' if loop.first else '') + m.content | trim }}]"
    "{% else %} {{ m.content | trim }}</s>{% endif %}{% endfor %}"
)
# Every turn is worded by where it stands: no sum over turns could tell the tokens.
COUNTS = "{% for m in messages %}{{ '*' * loop.index }}{{ m.content }}{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"


def tokenizer(template: str | None) -> Any:
    made = byte_tokenizer()
    made.chat_template = template
    return made


def templated(template: str, messages: tuple[Message, ...] | None) -> int:
    """What Transformers itself makes of a chat."""
    said = [dict(message) for message in messages or ()]
    whole = tokenizer(template).apply_chat_template(said, tokenize=True, add_generation_prompt=True, return_dict=False)
    return len(whole)


def questions(*sizes: int) -> list[RetrievedDemonstration]:
    rows = [Row(id=f"q{n}", input={"question": "why " * size + "?"}, target="human") for n, size in enumerate(sizes)]
    return found(TREC, *rows)


@pytest.mark.parametrize("template", [ROLES, STRIPS, COUNTS], ids=["roles", "strips", "counts"])
@pytest.mark.parametrize("layout", Layout)
def test_exactly_the_templated_chat_fits(template: str, layout: Layout) -> None:
    def build(budget: int) -> list[str]:
        builder = PromptBuilder(TransformersTokenizer(tokenizer(template)), budget, layout=layout)
        prompt = builder.build(TREC, FRENCH, questions(9, 5, 7), Format.MESSAGES)
        assert prompt.tokens == templated(template, prompt.messages) <= budget
        return ids(prompt)

    builder = PromptBuilder(TransformersTokenizer(tokenizer(template)), 10**4, layout=layout)
    whole = builder.build(TREC, FRENCH, questions(9, 5, 7), Format.MESSAGES).tokens
    assert build(whole) == ["q2", "q1", "q0"]
    assert build(whole - 1) == ["q1", "q0"]


@pytest.mark.parametrize("template", [ROLES, STRIPS, COUNTS], ids=["roles", "strips", "counts"])
@given(
    rows=st.lists(st.tuples(DATA, DATA), max_size=4),
    query=DATA,
    room=st.integers(0, 400),
    layout=st.sampled_from(Layout),
    order=st.sampled_from(Order),
)
def test_a_chat_is_never_over_the_budget_whatever_the_data(
    template: str, rows: list[tuple[str, str]], query: str, room: int, layout: Layout, order: Order
) -> None:
    task = make_task(kind=Kind.GENERATION, labels=(), metric=Metric.EXACT_MATCH)
    shown = found(task, *(Row(id=str(n), input={"question": x}, target=y) for n, (x, y) in enumerate(rows)))
    counter = TransformersTokenizer(tokenizer(template))
    bare = PromptBuilder(counter, 10**6, layout=layout).build(task, query, [], Format.MESSAGES).tokens
    prompt = PromptBuilder(counter, bare + room, layout=layout, order=order).build(task, query, shown, Format.MESSAGES)
    assert prompt.tokens == templated(template, prompt.messages) <= bare + room
    assert prompt.tokens == bare + sum(one.tokens for one in prompt.demonstrations)


def test_a_few_templated_chats_are_rendered_and_not_one_a_demonstration(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, rendered = TransformersTokenizer(tokenizer(ROLES)), list[int]()
    render = TransformersTokenizer.render

    def watched(self: TransformersTokenizer, messages: tuple[Message, ...]) -> str:
        rendered.append(len(messages))
        return render(self, messages)

    monkeypatch.setattr(TransformersTokenizer, "render", watched)
    prompt = PromptBuilder(counter, 5000).build(TREC, FRENCH, questions(*range(20, 60)), Format.MESSAGES)
    assert len(prompt.demonstrations) > 20
    assert len(rendered) < 8 and sum(rendered) < 2 * len(prompt.messages or ())


def test_a_template_that_takes_no_system_message_is_named_and_a_text_needs_none() -> None:
    builder = PromptBuilder(TransformersTokenizer(tokenizer(NO_SYSTEM), "mine"), 1000)
    with pytest.raises(
        InvalidInputError, match="'mine' does not take messages of the roles system, user: no system role"
    ):
        builder.build(TREC, FRENCH, [], Format.MESSAGES)
    assert builder.build(TREC, FRENCH, []).text is not None


def test_without_a_template_the_contents_are_counted() -> None:
    counter = TransformersTokenizer(tokenizer(None))
    prompt = PromptBuilder(counter, 1000).build(TREC, FRENCH, questions(3), Format.MESSAGES)
    assert prompt.tokens == counter.count("\n\n".join(m["content"] for m in prompt.messages or ()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tokenizer(ROLES).save_pretrained(str(path))
    return path


def test_a_folder_s_template_is_used_by_name_and_by_file(folder: Path) -> None:
    for name in (folder, folder / "tokenizer.json"):
        loaded = load_tokenizer(str(name))
        prompt = PromptBuilder(loaded, 1000).build(TREC, FRENCH, questions(3, 5), Format.MESSAGES)
        assert loaded.has_chat_template and prompt.tokens == templated(ROLES, prompt.messages)


def test_a_template_in_the_configuration_is_found(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    assert not load_tokenizer(str(tmp_path)).has_chat_template
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages[0].content }}"}')
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.has_chat_template and loaded.count_messages([Message(role="user", content="abc")]) == 3


@pytest.mark.parametrize("layout", Layout)
def test_counts_of_the_index_serve_chats_too(folder: Path, layout: Layout) -> None:
    loaded = load_tokenizer(str(folder))
    plain = questions(9, 5, 7, 30)
    counts = loaded.counts_inside([one.text for one in plain])
    known = [
        replace(one, tokens=TokenCount(tokenizer=loaded.fingerprint, count=count))
        for one, count in zip(plain, counts, strict=True)
    ]
    for budget in range(200, 900, 50):
        builder = PromptBuilder(loaded, budget, layout=layout)
        assert builder.build(TREC, FRENCH, known, Format.MESSAGES) == builder.build(
            TREC, FRENCH, plain, Format.MESSAGES
        )
