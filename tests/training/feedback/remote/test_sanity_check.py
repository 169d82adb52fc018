"""Which log-probabilities are refused, and which are a language model's."""

import pytest

from tests.training.feedback.remote.completions_server import ANSWERS, Said, cut, honest
from udr_training.feedback.remote import EchoError, read_echo, sanity_check


def fault(*said: Said | None) -> str | None:
    """What is found in answers to the probe's texts."""
    bodies = [{"choices": [{"logprobs": one}]} for one in said]
    return sanity_check.fault(*(read_echo(text, body) for text, body in zip(sanity_check.TEXTS, bodies, strict=True)))


def changed(text: str, **by: float) -> Said:
    """What an honest server says, with the log-probability of a word's last place made larger."""
    said = honest(text)
    values = list(said["token_logprobs"])
    for word, more in by.items():
        place = max(place for place, token in enumerate(said["tokens"]) if token.strip() == word)
        values[place] = min(values[place] + more, 0.0)
    return said | {"token_logprobs": values}


def test_the_texts_begin_alike_and_differ_in_one_word() -> None:
    once, thrice, odd = (cut(text) for text in sanity_check.TEXTS)
    assert thrice[: len(once)] == once and len(thrice) == 3 * len(once)
    assert [(one, other) for one, other in zip(thrice, odd, strict=True) if one != other] == [(" green", " paper")]


@pytest.mark.parametrize(
    "answer", ["honest", "with BOS", "without spaces", "in bytes", "end listed", "nothing generated", "offsets of -1"]
)
def test_a_language_model_passes_however_it_shows_its_tokens(answer: str) -> None:
    assert fault(*map(ANSWERS[answer], sanity_check.TEXTS)) is None


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("no echo", "it does not echo the prompt: asked 'river pencil seven c'"),
        ("other tokens", "it does not echo the prompt"),
        ("shortened", "it does not echo the prompt"),
        ("zeros", "all log-probabilities are zero"),
        ("chance", "all log-probabilities are about -10.37, as of a blind guess"),
        ("by word", "' green', has the log-probability -9.00, an odd one, ' paper', -9.00: no language model's"),
        ("early", "' horse' changes with the text after it.* one place too early"),
        ("early, first left", "' horse' changes with the text after it.* one place too early"),
        ("late, none missing", "' green', .*, an odd one, ' paper', .*: log-probabilities stand one place too late"),
        ("of other text", "changes with the text after it.* not the prompt's"),
    ],
)
def test_what_no_language_model_says_is_refused_by_name(answer: str, found: str) -> None:
    said = fault(*map(ANSWERS[answer], sanity_check.TEXTS))
    assert said is not None
    with pytest.raises(AssertionError, match=found):
        raise AssertionError(said)


@pytest.mark.parametrize("answer", ["not a number", "infinite", "vLLM's infinite", "above one", "null", "text", "late"])
def test_a_number_that_is_none_is_refused(answer: str) -> None:
    with pytest.raises(EchoError, match="has the log-probability"):
        fault(*map(ANSWERS[answer], sanity_check.TEXTS))


def test_rounding_of_a_few_tenths_between_requests_is_no_fault() -> None:
    once, thrice, odd = sanity_check.TEXTS
    assert fault(changed(once, seven=0.4, horse=-0.4), honest(thrice), changed(odd, river=-0.4)) is None


def test_numbers_that_change_from_request_to_request_are_refused() -> None:
    once, thrice, odd = sanity_check.TEXTS
    found = fault(changed(once, seven=2.5), honest(thrice), honest(odd))
    assert found is not None and "' seven' changes with the text after it" in found and "not the prompt's" in found


def test_a_model_that_learns_nothing_from_what_it_has_read_is_refused() -> None:
    once, thrice, odd = sanity_check.TEXTS
    words = dict.fromkeys("pencil seven cloud market horse".split(), -9.0)
    found = fault(honest(once), changed(thrice, **words), changed(odd, **words | {"horse": 0.0}))
    assert found is not None and "words that were read twice before have the log-probability" in found
