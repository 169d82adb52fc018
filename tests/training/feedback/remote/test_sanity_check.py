"""Which log-probabilities are refused, and which are a language model's."""

import pytest

from tests.training.feedback.remote.completions_server import ANSWERS, LogProbs, honest, tokenize
from udr_training.feedback.remote import EchoError, read_echo, sanity_check


def find_problem(*answers: LogProbs | None) -> str | None:
    bodies = [{"choices": [{"logprobs": answer}]} for answer in answers]
    echoes = [read_echo(text, body) for text, body in zip(sanity_check.TEXTS, bodies, strict=True)]
    return sanity_check.find_problem(*echoes)


def changed(text: str, **by: float) -> LogProbs:
    """Return an honest answer with the log-probability of each word's last occurrence raised."""
    answer = honest(text)
    values = list(answer["token_logprobs"])
    for word, more in by.items():
        position = max(number for number, token in enumerate(answer["tokens"]) if token.strip() == word)
        values[position] = min(values[position] + more, 0.0)
    return answer | {"token_logprobs": values}


def test_texts_have_a_common_beginning_and_differ_in_one_word() -> None:
    once, thrice, odd = (tokenize(text) for text in sanity_check.TEXTS)
    assert thrice[: len(once)] == once and len(thrice) == 3 * len(once)
    assert [(one, other) for one, other in zip(thrice, odd, strict=True) if one != other] == [(" green", " paper")]


@pytest.mark.parametrize(
    "answer", ["honest", "with BOS", "without spaces", "in bytes", "end listed", "nothing generated", "offsets of -1"]
)
def test_language_model_passes_however_tokens_are_shown(answer: str) -> None:
    assert find_problem(*map(ANSWERS[answer], sanity_check.TEXTS)) is None


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("no echo", ["it does not echo the prompt: sent 'river pencil seven c'"]),
        ("other tokens", ["it does not echo the prompt"]),
        ("shortened", ["it does not echo the prompt"]),
        ("zeros", ["all log-probabilities are zero"]),
        ("chance", ["all log-probabilities are about -10.37, as in a random guess"]),
        ("by word", ["' green', has the log-probability -9.00, an odd one, ' paper', -9.00: they are not a language"]),
        ("early", ["' horse' changes with the text after it", "one position too early"]),
        ("early, first left", ["' horse' changes with the text after it", "one position too early"]),
        ("late, none missing", ["' green', ", "an odd one, ' paper', ", "one position too late"]),
        ("of other text", ["changes with the text after it", "they are not the prompt's"]),
    ],
)
def test_problem_is_named(answer: str, parts: list[str]) -> None:
    problem = find_problem(*map(ANSWERS[answer], sanity_check.TEXTS))
    assert problem is not None and all(part in problem for part in parts)


@pytest.mark.parametrize("answer", ["not a number", "late"])
def test_invalid_number_is_refused(answer: str) -> None:
    with pytest.raises(EchoError, match="has the log-probability"):
        find_problem(*map(ANSWERS[answer], sanity_check.TEXTS))


def test_small_changes_between_requests_are_rounding_and_large_ones_a_problem() -> None:
    once, thrice, odd = sanity_check.TEXTS
    assert find_problem(changed(once, seven=0.4, horse=-0.4), honest(thrice), changed(odd, river=-0.4)) is None
    problem = find_problem(changed(once, seven=2.5), honest(thrice), honest(odd)) or ""
    assert "' seven' changes with the text after it" in problem and "not the prompt's" in problem


def test_model_that_does_not_learn_from_its_context_is_refused() -> None:
    once, thrice, odd = sanity_check.TEXTS
    words = dict.fromkeys("pencil seven cloud market horse".split(), -9.0)
    problem = find_problem(honest(once), changed(thrice, **words), changed(odd, **words | {"horse": 0.0}))
    assert problem is not None and "words that were read twice before have the log-probability" in problem
