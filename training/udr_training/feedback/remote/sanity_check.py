"""Whether a completions server's log-probabilities are real: what it says of three known texts.

A server that gives zeros, chance, or numbers that stand beside the tokens they belong to gives scores that look
fine. The texts are words with nothing to do with one another, so a language model finds each unlikely the first
time and likely once it has read them twice in the same order:

- ``ONCE``: the words,
- ``THRICE``: the words three times,
- ``ODD``: the same, with another word in place of one of the last.

A log-probability depends on a token and on what stands before it. So where two texts begin alike, so do their
log-probabilities; one place too early, the last of them would know the word that follows. And where the texts
part, the expected word is much likelier than the odd one; one place too late, both would have the number of the
word before. Neither needs to know how the server cuts words. This module is pure.
"""

import statistics

from udr_training.feedback.remote.echo import Echo, is_echo, num_shared

_WORDS = "river pencil seven cloud market green horse"

ONCE = _WORDS
THRICE = f"{_WORDS} {_WORDS} {_WORDS}"
ODD = f"{_WORDS} {_WORDS} {_WORDS.replace('green', 'paper')}"
TEXTS = (ONCE, THRICE, ODD)
"""The texts that a server is asked about."""

# In nats. Servers that compute in 16 bits or in changing batches differ from themselves by some tenths (measured: 0.2);
# a language model of 135 million weights finds the expected word 8.5 likelier, and words 11.6 the third time.
_SAME = 1.0
_LIKELIER = 2.0


def fault(once: Echo, thrice: Echo, odd: Echo) -> str | None:
    """Return what is wrong with a server's log-probabilities; None where they are a language model's.

    Args:
        once: what it says of ``ONCE``.
        thrice: of ``THRICE``.
        odd: of ``ODD``.

    Raises:
        EchoError: one of the numbers is no log-probability.
    """
    for echo in (once, thrice, odd):
        if not is_echo(echo):
            return f"it does not echo the prompt: asked {echo.text[:20]!r}..., its tokens are {list(echo.tokens[:4])}"
    return (
        _flat(thrice) or _unstable(once, thrice) or _unstable(thrice, odd) or _blind(thrice, odd) or _new(once, thrice)
    )


def _flat(echo: Echo) -> str | None:
    values = echo.values(1)
    if not any(values):
        return "all log-probabilities are zero"
    if max(values) - min(values) < _SAME:
        return f"all log-probabilities are about {statistics.mean(values):.2f}, as of a blind guess"
    return None


def _unstable(one: Echo, other: Echo) -> str | None:
    """Say where two texts begin alike and their log-probabilities do not."""
    parting = num_shared(one, other)
    if parting < 2:
        return f"two texts that begin alike have the tokens {one.tokens[:2]} and {other.tokens[:2]}"
    ours, theirs = one.values(1), other.values(1)
    for place in range(1, parting):
        before, after = ours[place - 1], theirs[place - 1]
        if abs(before - after) > _SAME:
            last = place == parting - 1
            why = "log-probabilities stand one place too early" if last else "they are not the prompt's"
            return (
                f"the log-probability of {one.tokens[place]!r} changes with the text after it, {before:.2f} and "
                f"{after:.2f}: {why}"
            )
    return None


def _blind(thrice: Echo, odd: Echo) -> str | None:
    """Say that an odd word is as likely as the one that has to come."""
    parting = num_shared(thrice, odd)
    expected, found = thrice.values(parting), odd.values(parting)
    if expected[0] - found[0] >= _LIKELIER:
        return None
    late = len(expected) > 1 and len(found) > 1 and abs(expected[0] - found[0]) < _SAME
    late = late and expected[1] - found[1] >= _LIKELIER
    why = "log-probabilities stand one place too late" if late else "no language model's, or chance"
    return (
        f"the word that must come, {thrice.tokens[parting]!r}, has the log-probability {expected[0]:.2f}, an odd one, "
        f"{odd.tokens[parting]!r}, {found[0]:.2f}: {why}"
    )


def _new(once: Echo, thrice: Echo) -> str | None:
    """Say that words are as unlikely the third time as the first."""
    first = statistics.mean(once.values(1))
    last = statistics.mean(thrice.values(len(thrice.tokens) - len(once.tokens) + 1))
    if last - first >= _LIKELIER:
        return None
    return f"words that were read twice before have the log-probability {last:.2f} on average, new ones {first:.2f}"
