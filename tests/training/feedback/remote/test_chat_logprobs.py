"""The shares of options among an answer's first tokens, by hand."""

import math
from dataclasses import replace

import pytest

from udr_training.answering import Reply
from udr_training.feedback.remote import option_shares


def reply(*positions: dict[str, float], written: tuple[str, ...] | None = None) -> Reply:
    """A reply with the alternatives at its positions; it wrote the likeliest, unless told."""
    top = tuple(tuple((token, math.log(share)) for token, share in at.items()) for at in positions)
    tokens = written or tuple(max(at, key=lambda token: at[token]) for at in positions)
    return Reply("".join(tokens), tokens=tokens, top=top)


@pytest.mark.parametrize(
    ("options", "given", "expected", "outside"),
    [
        (("good", "bad"), reply({"good": 0.6, "bad": 0.3, "The": 0.1}), (0.6, 0.3), 0.1),
        # Tokens are beginnings of options, in any case, after white space.
        (("good", "bad"), reply({" Go": 0.5, "g": 0.1, "BAD": 0.3}), (0.6, 0.3), 0.1),
        # A token may be longer than an option, but must not continue its word.
        (("good", "bad"), reply({"good.": 0.5, "bad\n": 0.25, "badly": 0.2}), (0.5, 0.25), 0.25),
        (("US", "us"), reply({"US": 0.6, "us": 0.3}), (0.6, 0.3), 0.1),
        # A shared beginning that was written is followed.
        (
            ("not a person", "not a place", "other"),
            reply({"not": 0.8, "other": 0.1}, {" a": 1.0}, {" person": 0.75, " pl": 0.25}),
            (0.6, 0.2, 0.1),
            0.1,
        ),
        # The option that has ended, and the one that goes on.
        (("red", "red wine"), reply({"red": 0.8}, {"<|end|>": 0.25, " wine": 0.5, "dish": 0.25}), (0.2, 0.4), 0.4),
        # A shared beginning that was not written counts in equal parts.
        (("pear", "peach", "fig"), reply({"fig": 0.5, "pea": 0.4}), (0.2, 0.2, 0.5), 0.1),
        # White space that was written is followed.
        (("good", "bad"), reply({"\n": 0.9, "good": 0.1}, {"good": 0.5, "bad": 0.5}), (0.55, 0.45), 0.0),
    ],
)
def test_shares_are_those_of_the_tokens_that_begin_an_option(
    options: tuple[str, ...], given: Reply, expected: tuple[float, ...], outside: float
) -> None:
    shares = option_shares(options, given)
    assert shares.values == pytest.approx(expected) and shares.outside == pytest.approx(outside)
    assert shares.unlisted == ()


@pytest.mark.parametrize(
    ("finish", "text", "expected"),
    # Servers list no token for the end of an answer. An answer that is cut may be any option that begins so.
    [("stop", "1", (0.9, 0.06)), (None, "1", (0.9, 0.06)), ("length", "1", (0.45, 0.51)), ("stop", "10", (0.45, 0.51))],
)
def test_the_end_of_an_answer_tells_an_option_from_those_that_it_begins(
    finish: str | None, text: str, expected: tuple[float, float]
) -> None:
    given = replace(reply({"1": 0.9, "10": 0.06}), text=text, finish=finish)
    assert option_shares(("1", "10"), given).values == pytest.approx(expected)


def test_a_name_that_ends_after_several_tokens_counts_for_itself() -> None:
    given = reply({"New": 0.8, "Other": 0.2}, {" York": 1.0})
    shares = option_shares(("New York", "New York City", "Other"), given)
    assert shares.values == pytest.approx((0.8, 1e-12, 0.2), abs=1e-9)


def test_an_option_outside_the_top_has_at_most_what_is_left() -> None:
    shares = option_shares(("good", "bad", "fair"), reply({"good": 0.7, "The": 0.2, "A": 0.05}))
    # No token that is not listed is likelier than the last one that is.
    assert shares.values == pytest.approx((0.7, 0.05, 0.05)) and shares.unlisted == (1, 2)
    shares = option_shares(("good", "bad"), reply({"good": 0.9, "goo": 0.09}))
    assert shares.values == pytest.approx((0.99, 0.01)) and shares.outside == pytest.approx(0.01)


@pytest.mark.parametrize("given", [Reply("good"), Reply("good", tokens=("good",), top=((),))])
def test_an_answer_without_alternatives_says_nothing_of_the_options(given: Reply) -> None:
    shares = option_shares(("good", "bad", "fair"), given)
    assert shares.values == pytest.approx([shares.values[0]] * 3)
    assert (shares.outside, shares.unlisted) == (1.0, (0, 1, 2))


def test_shares_do_not_depend_on_the_order_of_options() -> None:
    options = ("not a person", "not a place", "other")
    given = reply({"not": 0.8, "other": 0.1, "no": 0.05}, {" a": 1.0}, {" person": 0.75, " pl": 0.25})
    forward, backward = option_shares(options, given), option_shares(options[::-1], given)
    assert forward.values == pytest.approx(backward.values[::-1])
