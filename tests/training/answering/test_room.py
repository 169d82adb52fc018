"""What ends an answer: it nothing that a target has."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tests.training.copy_lm import CopyLM
from udr.data import Pool, Template
from udr_training.answering import ends_of
from udr_training.feedback.local import Writer
from udr_training.feedback.packing import Prompt, Tokens


def pool_of(pool: Pool, template: str, target: str) -> Pool:
    rows = (replace(pool.rows[0], target=target), *pool.rows[1:])
    return Pool(replace(pool.task, input=Template(template)), rows)


@pytest.mark.parametrize(
    ("template", "target", "end"),
    [
        ("Words: {words}", "one line", "\n"),
        ("Words: {words}", "two\nlines", "\n\n"),
        ("Words: {words}", "Dear you,\n\nyours", "\n\nWords:"),
        ('{"a": 1} {words}', "Dear you,\n\nyours", '\n\n{"a": 1}'),
        ("Words: {words}", "Dear you,\n\nWords: hello", ""),
        ("{words}", "Dear you,\n\nyours", ""),
    ],
)
def test_an_answer_ends_by_what_no_target_has(pools: dict[str, Pool], template: str, target: str, end: str) -> None:
    pool = pool_of(pools["reverse"], template, target)
    assert ends_of(pool) == end


@pytest.mark.parametrize("template", ["Words: {words}", "{words}"])
def test_a_written_answer_has_the_blank_lines_of_targets(pools: dict[str, Pool], template: str) -> None:
    target = "Dear you,\n\nit comes on Monday.\n\nYours"

    class Stopping(CopyLM):
        def generate(
            self,
            prompts: Sequence[Tokens],
            stop: Sequence[str],
            max_new_tokens: int,
            on_done: Callable[[int], None] = lambda _: None,
            *,
            empty: bool = False,
        ) -> list[str]:
            text = f"{target}\n\nWords: more"[:max_new_tokens]
            for end in stop:
                text = text.partition(end)[0]
            return [text for _ in prompts]

    prompt = Prompt(((1,),), ((1,),), 0)
    (answer,) = Writer(Stopping(), pool_of(pools["reverse"], template, target)).write([prompt])
    assert answer.startswith(target) and ("Words" in answer) == (template == "{words}")
