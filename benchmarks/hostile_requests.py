"""Attacks by valid requests that cost much to plan, to encode, to search, to word or to answer."""

import string
from collections.abc import Callable, Mapping

from hostile_client import Attack, post
from hostile_index import LONG, MANY, WHOLE, Keys
from service_made_up import TASKS, Words, sentence

RETRIEVE, BATCH, EMBEDDINGS = "/v1/retrieve", "/v1/retrieve/batch", "/v1/embeddings"

_LONGEST = 32_000
"""Characters of a text, just below the service's limit."""

_LARGE = 30_000
"""Characters of 64 texts that fit into a body."""


def texts_by_batch(
    keys: Keys, batches: int, text: Callable[[str], str], *, size: int = 64, **options: object
) -> list[bytes]:
    """Return batches whose texts all differ, so that no cache answers them."""
    return [
        post(
            BATCH,
            {"requests": [{"input": text(f"{batch} {n}"), "k": 8, **options} for n in range(size)]},
            keys.hostile,
        )
        for batch in range(batches)
    ]


def _short(seed: str) -> str:
    return sentence(seed, Words(3, 3))


def _long(seed: str) -> str:
    return sentence(seed, Words(_LARGE // 5, _LARGE // 5))[:_LARGE]


def _marks(seed: str, characters: int = _LONGEST) -> str:
    # Of two combining classes, in the wrong order: normalisation moves every other one.
    return f"{seed} a" + "\u0301\u0323" * (characters // 2 - len(seed))


def _split(seed: str) -> str:
    """A text that the template of every small task splits elsewhere."""
    return " ".join(f"s{n} {sentence(f'{seed} {n}', Words(14, 14))}" for n in range(WHOLE.small))[:_LONGEST]


def _marks_everywhere(keys: Keys) -> list[bytes]:
    embedded = {"input": [_marks(f"{n}", 8_000) for n in range(64)], "input_type": "demonstration"}
    return [
        *texts_by_batch(keys, 4, _marks, size=4, scope="all"),
        post(EMBEDDINGS, embedded, keys.hostile),
    ]


def _explained(keys: Keys) -> list[bytes]:
    return [
        batch
        for k in (8, 256)
        for batch in texts_by_batch(keys, 4, _short, task=MANY, k=k, explain=True, candidates=1024)
    ]


def _prompts(keys: Keys) -> list[bytes]:
    letters = string.ascii_letters + string.digits
    texts = ["".join(letters[(n * n + turn) % len(letters)] for n in range(_LONGEST)) for turn in range(4)]
    texts += ["\U0001f9d1\u200d\U0001f680" * (_LONGEST // 3), _marks("prompt"), "\ufdfa" * _LONGEST, _long("prompt")]
    options = {"task": LONG, "k": 256, "budget": 65_536}
    return [post("/v1/prompt", {"input": text, **options}, keys.hostile) for text in texts]


def _embeddings(keys: Keys) -> list[bytes]:
    batches = [[_long(f"{batch} {n}") for n in range(64)] for batch in range(4)]
    return [post(EMBEDDINGS, {"input": texts}, keys.hostile) for texts in batches]


REQUESTS: Mapping[str, Attack] = {
    "marks": Attack(
        about="batches of 512 KB of combining marks",
        requests=lambda keys: texts_by_batch(keys, 4, _marks, size=8, task=TASKS[0]),
    ),
    "marks-all": Attack(about="combining marks in `scope: all`, and in texts to embed", requests=_marks_everywhere),
    "scope-all": Attack(
        about="`scope: all` over 300 tasks, with texts of 32 KB that each template splits elsewhere",
        requests=lambda keys: texts_by_batch(keys, 4, _split, size=16, scope="all"),
    ),
    "bm25": Attack(
        about="batches of 64 × 30 KB of words for BM25, over all tasks",
        requests=lambda keys: texts_by_batch(keys, 2, _long, scope="all", mode="bm25"),
    ),
    "explain": Attack(about="batches of 64 with `explain` and 1,024 candidates", requests=_explained),
    "large-answers": Attack(
        about="batches of 64 × k = 256 over long rows: an answer of 80 MB",
        requests=lambda keys: texts_by_batch(keys, 4, _short, task=LONG, k=256),
    ),
    "distinct-hangup": Attack(
        about="batches of 64 × `distinct`, k = 256, 1,024 candidates of 50,000 rows; hangs up after a second",
        requests=lambda keys: texts_by_batch(keys, 8, _short, task=MANY, k=256, distinct=0.9, candidates=1024),
        hang_up=1.0,
    ),
    "diversity": Attack(
        about="batches of 64 × `diversity`, k = 256, 1,024 candidates of 50,000 rows",
        requests=lambda keys: texts_by_batch(keys, 8, _short, task=MANY, k=256, diversity=0.5, candidates=1024),
    ),
    "large-batches": Attack(
        about="300 batches of 64 × 30 KB at once",
        requests=lambda keys: texts_by_batch(keys, 8, _long, task=TASKS[0]),
        clients=300,
    ),
    "token-count": Attack(
        about="prompts of 32,000 letters without a space, of marks, emoji and ligatures", requests=_prompts, clients=8
    ),
    "embeddings": Attack(about="64 texts of 30 KB to embed", requests=_embeddings, clients=4),
}
