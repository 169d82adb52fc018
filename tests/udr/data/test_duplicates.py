"""What counts as a copy, and the keys that find copies, against their definition character by character."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udr.data import copy_key, normalised, parse_task, text_key

TASK = parse_task(
    {
        "name": "t",
        "family": "f",
        "kind": "generation",
        "instruction": "Do.",
        "metric": "exact_match",
        "input": "{text}",
        "output": "{target}",
    }
)
CHARACTERS = "aA \u0301\u0323.,_1\u00df\ufdfa\u0e02\u0e33\uff9e\u00a0\U0001f602<=\u0338\u00ad\ue000\U00050000\n"
OPERATORS, RAISED = "-*/.%#:()\u2013\uff0d\"'", "0\u00b2\u207b\u00bd"


def without_punctuation(folded: str) -> str:
    return "".join(character for character in folded if unicodedata.category(character)[0] not in "ZCP")


@given(st.text(st.sampled_from(CHARACTERS + OPERATORS + RAISED) | st.characters(), max_size=30))
def test_spaces_controls_and_punctuation_other_than_operators_do_not_count(text: str) -> None:
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Without the mark of exponents, which no folded text has.
    kept, letters = normalised(text).replace("\uff3e", ""), without_punctuation(folded)
    if letters:
        # So copies have the same key: that of the rest.
        assert without_punctuation(kept) == letters
    if not letters or not any(unicodedata.category(character)[0] == "P" for character in folded):
        assert kept == (letters or text.strip())
    assert copy_key(TASK, {"text": text}) == text_key(letters or text.strip())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("7 * 5", "7 - 5"),
        ("7/5", "7 - 5"),
        ("1.5 + 2?", "15 + 2?"),
        ("1,5", "15"),
        ("at 10:30", "at 1030"),
        ("Is -5 positive?", "Is 5 positive?"),
        ("Is -x positive?", "Is x positive?"),
        ("-(3 + 4)", "(3 + 4)"),
        ("5! - 3", "5 - 3"),
        ("(3 + 4) * 5", "3 + (4 * 5)"),
        ("2 * (3 + 4) * 5", "2 * (3 + 4 * 5)"),
        ("a-b", "a/b"),
        ("2x - y", "2x / y"),
        ("f(x)", "fx"),
        ("price * count", "price / count"),
        ("his/her", "his her"),
        ("I use C#.", "I use C."),
        ("5 %", "5"),
        ("good :)", "good :("),
        ("good:-)", "good:-("),
        ("\uff13\uff0d\uff12", "\uff13\uff0f\uff12"),
        ("\u0663\u066b\u0665", "\u0663\u0665"),
        ("What is 5\u00b2?", "What is 52?"),
        ("x\u00b2 - 3", "x2 - 3"),
        ("(x + 1)\u00b9\u2070", "(x + 1)10"),
        ("10\u207b\u00b3", "10\u22123"),
        ("1\u00bd cups", "11\u20442 cups"),
        ("1 \u00be", "13\u20444"),
    ],
)
def test_operators_and_emoticons_tell_inputs_apart(first: str, second: str) -> None:
    assert normalised(first) != normalised(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("7-5", "7 - 5"),
        ("What is 7 - 5?", "what is 7 - 5"),
        ("7 \u2013 5", "7 - 5"),
        ("50 %", "50%"),
        ("'5' - \"3\"", "5 - 3"),
        ("Is it 5?", "is it 5"),
        ("It has 5.", "it has 5"),
        ("In 1990, he left.", "In 1990 he left"),
        ("It ended. 5 people left.", "it ended 5 people left"),
        ("well-known", "well known"),
        ("covid-19", "Covid 19"),
        ("U.S. law, e.g. this", "US law eg this"),
        ("don\u2019t", "dont"),
        ("the dog \u2014 a big one \u2014 ran", "the dog, a big one, ran"),
        ("**bold** text", "bold text"),
        ("(see this)", "see this"),
        ("Note: this", "Note this"),
        ("good :) ", "good :)."),
        ("what is x\u00b2 - 3?", "What is x\u00b2-3"),
        ("1 \u00bd cups.", "1\u00bd cups"),
        ("\u00bd cup", "1\u20442 cup"),
        ("H\u2082O", "H2O"),
    ],
)
def test_repeats_are_copies_whatever_their_punctuation(first: str, second: str) -> None:
    assert normalised(first) == normalised(second)
