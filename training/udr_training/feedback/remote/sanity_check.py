"""Whether a completions server's log-probabilities are a language model's: tested on three known texts.

A server that returns zeros, chance, or numbers shifted by a token gives scores that look plausible. The texts are
unrelated words, so a language model finds each unlikely the first time, and likely after it has read them twice in the
same order:

- ``ONCE``: the words,
- ``THRICE``: the words three times,
- ``ODD``: the same with another word near the end.

A log-probability depends on a token and on the tokens before it. So texts with a common beginning have equal
log-probabilities there; if the numbers are one position too early, the last of them depends on the word that follows.
Where the texts diverge, the expected word is much likelier than the odd one; if the numbers are one position too late,
both have the number of the word before. Neither test depends on the server's tokenizer. This module is pure.
"""

import statistics

from udr_training.feedback.remote.echo import Echo, is_echo, num_shared

_WORDS = "river pencil seven cloud market green horse"

ONCE = _WORDS
THRICE = f"{_WORDS} {_WORDS} {_WORDS}"
ODD = f"{_WORDS} {_WORDS} {_WORDS.replace('green', 'paper')}"
TEXTS = (ONCE, THRICE, ODD)
"""The texts to send to a server."""

# In nats. Servers that compute in 16 bits or in changing batches vary by some tenths (measured: 0.2); a language model
# of 135 million weights finds the expected word likelier by 8.5, and words by 11.6 the third time.
_SAME = 1.0
_LIKELIER = 2.0


def find_problem(once: Echo, thrice: Echo, odd: Echo) -> str | None:
    """Return what is wrong with a server's log-probabilities of ``TEXTS``; None if they are a language model's.

    Raises:
        EchoError: a number is not a log-probability.
    """
    for echo in (once, thrice, odd):
        if not is_echo(echo):
            return f"it does not echo the prompt: sent {echo.text[:20]!r}..., its tokens are {list(echo.tokens[:4])}"
    unstable = _constant(thrice) or _unstable(once, thrice) or _unstable(thrice, odd)
    return unstable or _insensitive(thrice, odd) or _forgetful(once, thrice)


def _constant(echo: Echo) -> str | None:
    values = echo.values(1)
    if not any(values):
        return "all log-probabilities are zero"
    if max(values) - min(values) < _SAME:
        return f"all log-probabilities are about {statistics.mean(values):.2f}, as in a random guess"
    return None


def _unstable(one: Echo, other: Echo) -> str | None:
    """Return a difference in the common beginning of two texts."""
    end = num_shared(one, other)
    if end < 2:
        return f"two texts with the same beginning have the tokens {one.tokens[:2]} and {other.tokens[:2]}"
    for position, (before, after) in enumerate(zip(one.values(1)[: end - 1], other.values(1), strict=False), start=1):
        if abs(before - after) > _SAME:
            is_last = position == end - 1
            why = "log-probabilities are one position too early" if is_last else "they are not the prompt's"
            return (
                f"the log-probability of {one.tokens[position]!r} changes with the text after it, {before:.2f} and "
                f"{after:.2f}: {why}"
            )
    return None


def _insensitive(thrice: Echo, odd: Echo) -> str | None:
    """Return whether an odd word is as likely as the expected one."""
    end = num_shared(thrice, odd)
    expected, unexpected = thrice.values(end), odd.values(end)
    if expected[0] - unexpected[0] >= _LIKELIER:
        return None
    late = len(expected) > 1 and len(unexpected) > 1 and abs(expected[0] - unexpected[0]) < _SAME
    late = late and expected[1] - unexpected[1] >= _LIKELIER
    why = "log-probabilities are one position too late" if late else "they are not a language model's"
    return (
        f"the expected word, {thrice.tokens[end]!r}, has the log-probability {expected[0]:.2f}, an odd one, "
        f"{odd.tokens[end]!r}, {unexpected[0]:.2f}: {why}"
    )


def _forgetful(once: Echo, thrice: Echo) -> str | None:
    """Return whether words are as unlikely the third time as the first."""
    first = statistics.mean(once.values(1))
    last = statistics.mean(thrice.values(len(thrice.tokens) - len(once.tokens) + 1))
    if last - first >= _LIKELIER:
        return None
    return f"words that were read twice before have the log-probability {last:.2f} on average, new ones {first:.2f}"
