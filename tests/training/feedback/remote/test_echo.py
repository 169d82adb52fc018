"""A server's echo: where an option begins, and which responses are refused."""

import math
from typing import Any

import pytest

from udr_training.feedback.remote import EchoError, is_echo, read_echo


def response(tokens: list[Any], values: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    values = [None, *[-float(position) for position in range(1, len(tokens))]] if values is None else values
    return {"choices": [{"logprobs": {"tokens": tokens, "token_logprobs": values}}], **more}


@pytest.mark.parametrize(
    ("text", "context", "tokens", "expected"),
    [
        ("A: b c", "A:", ["A", ":", " b", " c", " d"], [-2, -3]),
        # A token across the boundary belongs to the option.
        ("A: better.", "A: bett", ["A", ":", " better", ".", " d"], [-2, -3]),
        ("A: b", "A:", ["<s>", "A", ":", " b", " d"], [-3]),
        # Nothing or an empty end-of-text token may be generated.
        ("A: b", "A:", ["A", ":", " b"], [-2]),
        ("A: b", "A:", ["A", ":", " b", ""], [-2]),
        # Some servers show the first of a character's two tokens as empty.
        ("A:\u20ac", "A:", ["A", ":", "", "\u20ac", " d"], [-2, -3]),
    ],
)
def test_options_values_follow_the_contexts(text: str, context: str, tokens: list[str], expected: list[float]) -> None:
    echo = read_echo(text, response(tokens))
    first = echo.option_start(context)
    assert first is not None and echo.values(first) == expected


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("\u20ac a: b c", ["\ufffd", "\ufffd", "a", ":", "b", "c", "d"], [-4, -5]),
        ("\u20ac a:b c", ["\ufffd", "\ufffd", "a", ":b", "c", "d"], [-3, -4]),
    ],
)
def test_boundary_is_where_tokens_diverge_if_they_do_not_spell_the_text(
    text: str, tokens: list[str], expected: list[float]
) -> None:
    alone = read_echo("\u20ac a:", response(["\ufffd", "\ufffd", "a", ":", "b"]))
    whole = read_echo(text, response(tokens))
    assert whole.option_start("\u20ac a:") is None
    assert whole.values(whole.option_start_after(alone)) == expected


def test_tokens_that_do_not_spell_the_text_are_counted_and_a_truncated_context_refused() -> None:
    tokens = ["\ufffd", "\ufffd", ":", "b"]
    assert read_echo("\u20ac: b", response(tokens, usage={"completion_tokens": 0})).tokens == tuple(tokens)
    assert read_echo("\u20ac: b", response([*tokens, "d"])).tokens == tuple(tokens)
    alone = read_echo("one two three four five", response(["two", "three", "four", "five", "x"]))
    whole = read_echo("one two three four five six", response(["three", "four", "five", "six", "x"]))
    with pytest.raises(EchoError, match="different tokens alone and before an option, from 'two' on"):
        whole.option_start_after(alone)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 0.01, -9999.0, "-1", True])
def test_invalid_log_probability_is_refused(value: object) -> None:
    echo = read_echo("a b", response(["a", " b", " c"], [None, value, -1.0]))
    with pytest.raises(EchoError, match=rf"token ' b' has the log-probability {value}"):
        echo.values(1)


def test_generated_token_needs_no_log_probability() -> None:
    assert read_echo("a b", response(["a", " b", " c"], [None, -1, None])).values(1) == [-1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the response is not a completion"),
        ({"choices": []}, "the response is not a completion"),
        ({"choices": [{"text": "a"}]}, "returns no log-probabilities"),
        ({"choices": [{"logprobs": {"content": []}}]}, "returns no log-probabilities"),
        (response(["a", " b"], [-1.0]), "1 log-probabilities for 2 tokens"),
        (response(["a", " b", " c", " d"]), "2 tokens follow the prompt, ' c d', instead of one"),
    ],
)
def test_response_without_an_echo_is_refused(body: object, message: str) -> None:
    with pytest.raises(EchoError, match=message):
        read_echo("a b", body)


def test_echo_ends_with_the_texts_letters_whatever_its_spaces() -> None:
    assert is_echo(read_echo("a b1", response(["<s>", "\u2581a", "\u2581b", "1", "\u2581c"])))
    assert not is_echo(read_echo("a b1", response(["\u2581a", "\u2581c", "\u2581d"])))
