"""Prompts of models that answer as JSON: demonstrations show it, wherever they stand."""

import pytest

from udr.data import Kind, Metric, Task, Template
from udr.prompts import Format, Layout, Order
from udr.types import Row
from udr_training.answering import AnswerForm, PromptSettings, PromptWriter

TASK = Task(
    name="kinds",
    family="topic",
    kind=Kind.CLASSIFICATION,
    instruction="Give the type.",
    input=Template("Question: {text}"),
    output=Template("Type: {target};"),
    metric=Metric.ACCURACY,
    labels=("place", "num"),
    verbalizer={"num": '"number"'},
)
ROWS = [Row(id=text, input={"text": text}, target=target) for text, target in (("Who?", "place"), ("Two?", "num"))]


@pytest.mark.parametrize(
    ("format", "layout"),
    [(Format.MESSAGES, Layout.TURNS), (Format.MESSAGES, Layout.SYSTEM), (Format.TEXT, Layout.TURNS)],
)
def test_demonstrations_show_json_in_all_layouts(format: Format, layout: Layout) -> None:
    settings = PromptSettings(layout=layout, form=AnswerForm.JSON)
    built = PromptWriter(settings, format).build(TASK, ROWS[0], ROWS[1:], Order.NEAREST_LAST, 0, 20)
    answer = r'{"answer": "\"number\""}'
    parts = [built.prompt] if isinstance(built.prompt, str) else [message["content"] for message in built.prompt]
    # A turn of the assistant follows the query's template, as in a text.
    text = "\n\n".join(parts).replace("Type:\n\n{", "Type: {")
    assert text == (
        f'Give the type.\nAnswer as JSON: {{"answer": "..."}}\n\nQuestion: Two?\nType: {answer}\n\n'
        "Question: Who?\nType:"
    )
