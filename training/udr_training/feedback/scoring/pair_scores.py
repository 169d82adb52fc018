"""The scores of pairs: looked up, and the missing ones computed and stored."""

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from udr.models import Done, Shard, shard_key
from udr_training.feedback.packing import Likelihoods, Prompt
from udr_training.feedback.pairs import Pair, pair_keys
from udr_training.feedback.prompts import PromptRenderer, PromptText
from udr_training.feedback.scoring.scorers import (
    FeedbackLM,
    PackingLM,
    PackShard,
    PairScorer,
    ScatteredLM,
    ScoredPack,
)
from udr_training.feedback.scoring.values import pair_score
from udr_training.feedback.store import FeedbackStore, PairKey, Work

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of scoring: pairs, tokens of their prompts and options, and seconds since the start.

    ``unit`` is what is counted if not pairs: a training's steps, or an evaluation's rows. ``before`` of them were done
    already when the seconds began. ``note`` says what it has cost.
    """

    done: int
    total: int
    tokens: int
    seconds: float
    unit: str = "pairs"
    before: int = 0
    note: str = ""


def stored_scores(store: FeedbackStore, pairs: Sequence[Pair]) -> dict[tuple[str, str], float] | None:
    """Return the score of each pair by (query id, demonstration id), or None if one is not stored."""
    keys = pair_keys(pairs)
    stored = store.get(set(keys))
    if not stored.keys() >= set(keys):
        return None
    return _by_ids(pairs, keys, stored)


def score_pairs(
    lm: FeedbackLM | ScatteredLM | PairScorer,
    store: FeedbackStore,
    pairs: Iterable[Pair],
    on_progress: Callable[[Progress], None] = lambda _: None,
    *,
    block: int = 5_000,
) -> dict[tuple[str, str], float]:
    """Return the score of each pair by (query id, demonstration id); missing ones are computed and stored.

    Pairs that no worker of a ``ScatteredLM`` could score are missing; see its ``check``.

    Args:
        lm: the language model of ``store``.
        store: the log-likelihoods; written after every pack, so a kill loses at most one pack.
        pairs: pairs of one task.
        on_progress: called after every pack.
        block: pairs tokenised and planned at a time: enough to fill packs, few enough for memory.
    """
    renderer = PromptRenderer()
    rendered = [(pair, pair.text(renderer)) for pair in pairs]
    keys = [text.key for _, text in rendered]
    # Copies with other ids share a key and are scored once.
    distinct = dict(zip(keys, rendered, strict=True))
    stored = store.get(distinct)
    missing = sorted((key for key in distinct if key not in stored), key=lambda key: _work_order(key, *distinct[key]))
    started = time.monotonic()
    done, total = 0, Work()
    for num_pairs, likelihoods, work in _scored(lm, store, {key: distinct[key] for key in missing}, block):
        store.put(likelihoods, work)
        done, total = done + num_pairs, total + work
        # What a server's answers have cost.
        note = getattr(lm, "spent", "")
        on_progress(Progress(done, len(missing), total.tokens, time.monotonic() - started, note=note))
    if total.cut:
        message = "%d of %d prompts were too long; %d tokens of demonstrations were cut"
        _LOG.warning(message, total.cut, total.pairs, total.lost)
    # Read back, so that a resumed run has exactly the numbers of an uninterrupted one.
    stored |= store.get(missing)
    scored = [
        (pair, key)
        for key, (pair, _) in zip(keys, rendered, strict=True)
        if key in stored or not isinstance(lm, ScatteredLM)
    ]
    return _by_ids([pair for pair, _ in scored], [key for _, key in scored], stored)


def _by_ids(
    pairs: Sequence[Pair], keys: Sequence[PairKey], stored: Mapping[PairKey, Likelihoods]
) -> dict[tuple[str, str], float]:
    return {
        (pair.query.id, pair.demonstration.id): pair_score(pair, stored[key])
        for pair, key in zip(pairs, keys, strict=True)
    }


def _work_order(key: PairKey, pair: Pair, text: PromptText) -> tuple[int, list[str], bytes]:
    # Long prefixes first, equal prefixes together.
    return -sum(map(len, text.demonstrations[0])), [row.id for row in pair.context], key.demonstration


def _scored(
    lm: FeedbackLM | ScatteredLM | PairScorer,
    store: FeedbackStore,
    pairs: Mapping[PairKey, tuple[Pair, PromptText]],
    block: int,
) -> Iterator[tuple[int, dict[PairKey, Likelihoods], Work]]:
    """Yield, batch by batch, the number of pairs, their likelihoods and the cost."""
    keys = list(pairs)
    if not isinstance(lm, PairScorer):
        # The pairs of packs that are being scored; the next block is laid out while workers score the one before.
        taken: dict[str, tuple[int, list[PairKey]]] = {}
        blocks = (keys[first : first + block] for first in range(0, len(keys), block))
        shards = (shard for chosen in blocks for shard in _packs(lm, store, {key: pairs[key] for key in chosen}, taken))
        for done in lm.run(shards) if isinstance(lm, ScatteredLM) else _score_here(lm, shards):
            num_planned, scored = taken.pop(done.shard.key)
            yield num_planned, dict(zip(scored, done.result, strict=True)), _cost(done)
        return
    if keys:
        lm.check([pair for pair, _ in pairs.values()])
    for batch in lm.batches([pair for pair, _ in pairs.values()]):
        # Another run with the same file may have scored some of them in the meantime.
        stored = store.get(keys[number] for number in batch)
        missing = {keys[number]: pairs[keys[number]][0] for number in batch if keys[number] not in stored}
        likelihoods, work = lm.score_pairs(list(missing.values())) if missing else ([], Work())
        yield len(batch), dict(zip(missing, likelihoods, strict=True)), work
    lm.report()


def _packs(
    lm: PackingLM,
    store: FeedbackStore,
    pairs: Mapping[PairKey, tuple[Pair, PromptText]],
    taken: dict[str, tuple[int, list[PairKey]]],
) -> Iterator[PackShard]:
    """Yield the packs of a block without stored pairs; ``taken`` gets the number of pairs planned, and those left."""
    keys = list(pairs)
    prompts = [text.tokenize(lm, num_common=len(pair.context)) for pair, text in pairs.values()]
    # The first is the largest, and shows at once whether the model can take it. Runs with the same file that score the
    # same pairs meet in the others by chance alone: in the same order, each would score nearly all of them.
    first, *others = lm.plan(prompts)
    random.Random().shuffle(others)
    for planned in [first, *others]:
        # Another run with the same file may have scored some of them in the meantime.
        stored = store.get(keys[number] for number in planned)
        missing = [number for number in planned if keys[number] not in stored]
        parts = (part for number in planned for part in (keys[number].demonstration, keys[number].query))
        key = shard_key([lm.fingerprint, lm.dtype, *parts])
        taken[key] = len(planned), [keys[number] for number in missing]
        rows = [pairs[keys[number]][0] for number in missing]
        names = tuple(f"{pair.task.name}/{pair.query.id} after {pair.demonstration.id}" for pair in rows)
        yield Shard(key, tuple(prompts[number] for number in missing), names)


def _score_here(lm: FeedbackLM, shards: Iterable[PackShard]) -> Iterator[ScoredPack]:
    """Score packs in this process, one by one."""
    for shard in shards:
        started = time.monotonic()
        likelihoods = score_pack(lm, shard.work)
        yield Done(shard, likelihoods, time.monotonic() - started)


def score_pack(lm: FeedbackLM, prompts: Sequence[Prompt]) -> list[Likelihoods]:
    """Return the likelihoods of the options of a pack's prompts; it may have none left."""
    return lm.score(prompts) if prompts else []


def _cost(done: ScoredPack) -> Work:
    prompts = done.shard.work
    return Work(
        pairs=len(prompts),
        tokens=sum(prompt.num_tokens for prompt in prompts),
        cut=sum(prompt.lost > 0 for prompt in prompts),
        lost=sum(prompt.lost for prompt in prompts),
        seconds=done.seconds,
    )
