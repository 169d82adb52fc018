"""A server's answer: where an option begins in it, and what is no answer."""

import math
from typing import Any

import pytest

from udr_training.feedback.remote import EchoError, is_echo, read_echo


def answer(tokens: list[Any], values: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    values = [None, *[-float(place) for place in range(1, len(tokens))]] if values is None else values
    return {"choices": [{"logprobs": {"tokens": tokens, "token_logprobs": values}}], **more}


def option(text: str, context: str, tokens: list[Any], **more: Any) -> list[float]:
    echo = read_echo(text, answer(tokens, **more))
    first = echo.option_start(context)
    assert first is not None
    return echo.values(first)


def test_an_options_tokens_are_those_after_the_context_without_the_generated_one() -> None:
    assert option("A: b c", "A:", ["A", ":", " b", " c", " d"]) == [-2, -3]


def test_a_token_across_the_boundary_is_the_options() -> None:
    assert option("A: better.", "A: bett", ["A", ":", " better", ".", " d"]) == [-2, -3]


def test_a_bos_is_no_part_of_the_text() -> None:
    assert option("A: b", "A:", ["<s>", "A", ":", " b", " d"]) == [-3]


def test_nothing_or_an_empty_end_of_text_may_be_generated() -> None:
    assert option("A: b", "A:", ["A", ":", " b"]) == option("A: b", "A:", ["A", ":", " b", ""]) == [-2]


def test_an_empty_token_between_context_and_option_is_the_options() -> None:
    # Of a character in two tokens, some servers show the first as nothing.
    assert option("A:\u20ac", "A:", ["A", ":", "", "\u20ac", " d"]) == [-2, -3]


def test_where_tokens_do_not_spell_the_text_the_contexts_own_tokens_tell_the_boundary() -> None:
    whole = read_echo("\u20ac a: b c", answer(["\ufffd", "\ufffd", "a", ":", "b", "c", "d"]))
    alone = read_echo("\u20ac a:", answer(["\ufffd", "\ufffd", "a", ":", "b"]))
    assert whole.option_start("\u20ac a:") is None
    assert whole.values(whole.option_start_after(alone)) == [-4, -5]
    merged = read_echo("\u20ac a:b c", answer(["\ufffd", "\ufffd", "a", ":b", "c", "d"]))
    assert merged.values(merged.option_start_after(alone)) == [-3, -4]


def test_the_server_says_how_many_tokens_it_generated_where_the_text_does_not() -> None:
    tokens = ["\ufffd", "\ufffd", ":", "b"]
    assert read_echo("\u20ac: b", answer(tokens, usage={"completion_tokens": 0})).tokens == tuple(tokens)
    assert read_echo("\u20ac: b", answer([*tokens, "d"])).tokens == tuple(tokens)


def test_a_context_that_has_other_tokens_alone_is_refused() -> None:
    alone = read_echo("one two three four five", answer(["two", "three", "four", "five", "x"]))
    whole = read_echo("one two three four five six", answer(["three", "four", "five", "six", "x"]))
    with pytest.raises(EchoError, match="other tokens alone than before an option, from 'two' on"):
        whole.option_start_after(alone)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 0.01, -9999.0, "-1", True])
def test_what_is_no_log_probability_is_refused(value: object) -> None:
    echo = read_echo("a b", answer(["a", " b", " c"], [None, value, -1.0]))
    with pytest.raises(EchoError, match=rf"token ' b' has the log-probability {value}"):
        echo.values(1)


def test_what_was_generated_needs_no_log_probability() -> None:
    assert read_echo("a b", answer(["a", " b", " c"], [None, -1, None])).values(1) == [-1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the answer is no completion"),
        ({"choices": []}, "the answer is no completion"),
        ({"choices": [{"text": "a"}]}, "returns no log-probabilities"),
        ({"choices": [{"logprobs": {"content": []}}]}, "returns no log-probabilities"),
        (answer(["a", " b"], [-1.0]), "1 log-probabilities for 2 tokens"),
        (answer(["a", " b", " c", " d"]), "2 tokens follow the prompt, ' c d', where one was asked for"),
    ],
)
def test_what_is_no_echo_of_log_probabilities_is_refused(body: object, message: str) -> None:
    with pytest.raises(EchoError, match=message):
        read_echo("a b", body)


def test_an_echo_ends_with_the_texts_letters_whatever_became_of_its_spaces() -> None:
    assert is_echo(read_echo("a b1", answer(["<s>", "\u2581a", "\u2581b", "1", "\u2581c"])))
    assert not is_echo(read_echo("a b1", answer(["\u2581a", "\u2581c", "\u2581d"])))
