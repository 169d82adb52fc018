"""A chat's tokens are those of the tokenizer's chat template, to the token."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_models import byte_tokenizer
from tests.udr.prompts.test_builder import DATA, FRENCH, GENERATION, TASK, ids, questions, retrieved
from udr.errors import InvalidInputError
from udr.models import Message, TransformersTokenizer, load_tokenizer
from udr.prompts import Format, Layout, Order, Prompt, PromptBuilder
from udr.types import TokenCount

ROLES = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# Strips contents, and puts the system message into the first turn, as some well-known models do.
STRIPS = (
    "{{ '<s>' }}{% set system = messages[0].content %}{% for m in messages[1:] %}"
    "{% if m.role == 'user' %}[{{ (system + '\n' if loop.first else '') + m.content | trim }}]"
    "{% else %} {{ m.content | trim }}</s>{% endif %}{% endfor %}"
)
# The tokens of a turn depend on its position, so that no sum over turns is right.
COUNTS = "{% for m in messages %}{{ '*' * loop.index }}{{ m.content }}{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
TEMPLATES = pytest.mark.parametrize("template", [ROLES, STRIPS, COUNTS], ids=["roles", "strips", "counts"])


def tokenizer(template: str | None) -> Any:
    result = byte_tokenizer()
    result.chat_template = template
    return result


def templated(template: str, prompt: Prompt) -> int:
    """The tokens of a chat by Transformers itself."""
    messages = [dict(message) for message in prompt.messages or ()]
    options = {"tokenize": True, "add_generation_prompt": True, "return_dict": False}
    return len(tokenizer(template).apply_chat_template(messages, **options))


@TEMPLATES
@pytest.mark.parametrize("layout", Layout)
def test_exactly_the_templated_chat_fits(template: str, layout: Layout) -> None:
    counter = TransformersTokenizer(tokenizer(template))

    def build(budget: int) -> Prompt:
        builder = PromptBuilder(counter, budget, layout=layout)
        prompt = builder.build(TASK, FRENCH, questions(9, 5, 7), Format.MESSAGES)
        assert prompt.tokens == templated(template, prompt) <= budget
        return prompt

    whole = build(10**4)
    assert ids(build(whole.tokens)) == ids(whole) == ["q2", "q1", "q0"]
    assert ids(build(whole.tokens - 1)) == ["q1", "q0"]


@settings(max_examples=40)
@TEMPLATES
@given(
    rows=st.lists(st.tuples(DATA, DATA), max_size=4),
    query=DATA,
    room=st.integers(0, 400),
    layout=st.sampled_from(Layout),
    order=st.sampled_from(Order),
)
def test_no_chat_exceeds_the_budget(
    template: str, rows: list[tuple[str, str]], query: str, room: int, layout: Layout, order: Order
) -> None:
    builder = PromptBuilder(TransformersTokenizer(tokenizer(template)), 10**6, layout=layout, order=order)
    bare = builder.build(GENERATION, query, [], Format.MESSAGES).tokens
    budget = bare + room
    demonstrations = retrieved(GENERATION, *rows)
    prompt = replace(builder, budget=budget).build(GENERATION, query, demonstrations, Format.MESSAGES)
    assert prompt.tokens == templated(template, prompt) <= budget
    assert prompt.tokens == bare + sum(d.tokens for d in prompt.demonstrations)


def test_only_a_few_chats_are_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[int] = []
    render = TransformersTokenizer.render

    def counted(self: TransformersTokenizer, messages: tuple[Message, ...]) -> str:
        rendered.append(len(messages))
        return render(self, messages)

    monkeypatch.setattr(TransformersTokenizer, "render", counted)
    builder = PromptBuilder(TransformersTokenizer(tokenizer(ROLES)), 5000)
    prompt = builder.build(TASK, FRENCH, questions(*range(20, 60)), Format.MESSAGES)
    assert len(prompt.demonstrations) > 20
    assert len(rendered) < 8 and sum(rendered) < 2 * len(prompt.messages or ())


PARTS = (
    "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% endif %}{% endfor %}{% endfor %}"
)
WITHOUT_SYSTEM = (
    "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"
)


def test_a_template_that_loops_over_parts_shows_every_message() -> None:
    counter = TransformersTokenizer(tokenizer(PARTS))
    prompt = PromptBuilder(counter, 1000).build(TASK, FRENCH, questions(3), Format.MESSAGES)
    text = counter.render(prompt.messages or ())
    assert all(message["content"] in text for message in prompt.messages or ())
    assert prompt.tokens == counter.counts_inside([text])[0]


def test_a_template_that_drops_a_message_is_an_error() -> None:
    builder = PromptBuilder(TransformersTokenizer(tokenizer(WITHOUT_SYSTEM), "mine"), 1000)
    with pytest.raises(
        InvalidInputError, match=r"'mine' leaves out the content of the system message that begins 'Give"
    ):
        builder.build(TASK, FRENCH, [], Format.MESSAGES)


def test_a_template_that_rejects_system_messages_is_an_error_for_chats_only() -> None:
    builder = PromptBuilder(TransformersTokenizer(tokenizer(NO_SYSTEM), "mine"), 1000)
    with pytest.raises(InvalidInputError, match=r"'mine' .* system, user: no system role"):
        builder.build(TASK, FRENCH, [], Format.MESSAGES)
    assert builder.build(TASK, FRENCH, []).text is not None
    # Without a template, the contents are counted.
    counter = TransformersTokenizer(tokenizer(None))
    prompt = PromptBuilder(counter, 1000).build(TASK, FRENCH, questions(3), Format.MESSAGES)
    assert prompt.tokens == counter.count("\n\n".join(m["content"] for m in prompt.messages or ()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tokenizer(ROLES).save_pretrained(str(path))
    return path


def test_the_template_of_a_folder_is_used_by_name_and_by_file(folder: Path) -> None:
    for name in (folder, folder / "tokenizer.json"):
        loaded = load_tokenizer(str(name))
        prompt = PromptBuilder(loaded, 1000).build(TASK, FRENCH, questions(3, 5), Format.MESSAGES)
        assert loaded.has_chat_template and prompt.tokens == templated(ROLES, prompt)


def test_a_template_in_the_configuration_is_used(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    assert not load_tokenizer(str(tmp_path)).has_chat_template
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages[0].content }}"}')
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.has_chat_template and loaded.count_messages([Message(role="user", content="abc")]) == 3


@pytest.mark.parametrize("layout", Layout)
def test_counts_of_the_index_are_used_for_chats(folder: Path, layout: Layout) -> None:
    loaded = load_tokenizer(str(folder))
    plain = questions(9, 5, 7, 30)
    counts = loaded.counts_inside([d.text for d in plain])
    known = [
        replace(d, tokens=TokenCount(tokenizer=loaded.fingerprint, count=count))
        for d, count in zip(plain, counts, strict=True)
    ]
    for budget in range(200, 900, 100):
        builder = PromptBuilder(loaded, budget, layout=layout)
        prompts = [builder.build(TASK, FRENCH, shown, Format.MESSAGES) for shown in (known, plain)]
        assert prompts[0] == prompts[1]
