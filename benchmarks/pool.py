"""Whether scores find what is wrong in a pool: pools of real tasks are spoiled, and what was spoiled is looked for.

    python benchmarks/pool.py TASKS [--tasks trec,subj,ag_news] [--model MODEL] [--seed 0]

Of each pool, 20 % of the rows get another label; 5 % of its rows are added again under new ids; of the untouched rows,
5 % lose the second half of their longest field (and more, back to where no sentence ends: what is cut there is whole),
and the words of another 5 % are shuffled. Prints Markdown: of each fault and of the untouched rows, the share that is
flagged, and the share that ``--keep 0.7`` drops; precision and recall of the rows that ``labels`` flags, against the
wrong labels; the share of the clean pool that is flagged; and, for the clean, the spoiled, the unflagged and the kept
rows, how often the majority of the 8 nearest rows has the label of a test row. No language model is asked.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from measuring import parser

from udr.data import Task, TaskFolder, open_collection, row_query
from udr.models import BASE_ENCODER, SentenceEncoder
from udr.search import Vectors
from udr.types import Row
from udr_training.pool import WAYS, Score, choose, score_pool

FAULTS: Mapping[str, float] = {"wrong label": 0.2, "truncated": 0.05, "shuffled": 0.05, "copy": 0.05}
CLEAN, KEEP, NEAREST = "untouched", 0.7, 8


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--tasks", dest="names", default="trec,subj,ag_news")
    options.add_argument("--model", default=BASE_ENCODER)
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    encoder = Remembering(SentenceEncoder.load(arguments.model, "cpu"))
    for folder in open_collection(arguments.tasks, arguments.names.split(",")).tasks.values():
        print(_measured(folder, encoder, arguments.seed), flush=True)


class Remembering:
    """An encoder that encodes each text once: the pools that are compared share most of theirs."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder, self.fingerprint, self._known = encoder, encoder.fingerprint, dict[str, Vectors]()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of texts, float32 [len(texts), dimension]."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            self._known |= zip(new, self.encoder.encode_queries(new), strict=True)
        return np.stack([self._known[text] for text in texts])


def spoiled(task: Task, rows: Sequence[Row], seed: int) -> tuple[list[Row], list[str]]:
    """Return the rows with faults, and the fault of each row."""
    draw = random.Random(seed)
    order, start, result, faults = draw.sample(range(len(rows)), len(rows)), 0, list(rows), [CLEAN] * len(rows)
    for fault, share in FAULTS.items():
        chosen = order[start : start + int(share * len(rows))]
        start += len(chosen)
        for position in chosen:
            row = rows[position]
            field = max(row.input, key=lambda name: len(str(row.input[name])))
            text = str(row.input[field])
            if fault == "copy":
                result.append(replace(row, id=f"{row.id}-again"))
                faults.append(fault)
                continue
            faults[position] = fault
            if fault == "wrong label":
                result[position] = replace(
                    row, target=draw.choice([label for label in task.labels if label != row.target])
                )
            else:
                words = text.split()
                text = _cut(text) if fault == "truncated" else " ".join(draw.sample(words, len(words)))
                result[position] = replace(row, input={**row.input, field: text})
    return result, faults


def _cut(text: str) -> str:
    text = text[: len(text) // 2].rstrip()
    while text.rstrip("\"'`” ").endswith((".", "!", "?")):
        text = text.rpartition(" ")[0].rstrip()
    return text


def _measured(folder: TaskFolder, encoder: Remembering, seed: int) -> str:
    task, clean, tests = folder.task, folder.rows("train"), folder.rows("test")
    rows, faults = spoiled(task, clean, seed)
    scored = partial(score_pool, task, by=WAYS, encoder=lambda: encoder)
    scores = scored(rows=rows)
    flagged, kept = choose(rows, scores), choose(rows, scores, KEEP)
    lines = [
        f"### {task.name}, {len(rows)} rows\n",
        f"| rows | number | flagged | dropped by --keep {KEEP} |\n|---|---|---|---|",
    ]
    for fault in (*FAULTS, CLEAN):
        own = [row.id for row, of in zip(rows, faults, strict=True) if of == fault]
        shares = (len({one.id for one in side.dropped} & set(own)) / len(own) for side in (flagged, kept))
        lines.append(f"| {fault} | {len(own)} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |")
    precision, recall = _found(scores[0], [fault == "wrong label" for fault in faults])
    lines.append(f"\nRows that labels flag, against wrong labels: precision {precision:.2f}, recall {recall:.2f}.")
    of_clean = scored(rows=clean)
    counts = ", ".join(f"{score.name} {100 * len(score.flagged) / len(clean):.1f} %" for score in of_clean)
    lines.append(f"Flagged in the clean pool: {counts}.")
    queries = encoder.encode_queries([row_query(task, row) for row in tests])
    pools = {"clean": clean, "spoiled": rows, "unflagged": flagged.kept, f"--keep {KEEP}": kept.kept}
    told = ", ".join(f"{name} {100 * _told(task, pool, tests, queries, encoder):.1f} %" for name, pool in pools.items())
    lines.append(f"Test rows whose label most of the {NEAREST} nearest rows have: {told}.\n")
    return "\n".join(lines)


def _found(score: Score, wrong: Sequence[bool]) -> tuple[float, float]:
    hits = sum(wrong[position] for position in score.flagged)
    return hits / max(len(score.flagged), 1), hits / sum(wrong)


def _told(task: Task, pool: Sequence[Row], tests: Sequence[Row], queries: Vectors, encoder: Remembering) -> float:
    vectors = encoder.encode_queries([row_query(task, row) for row in pool])
    nearest = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :NEAREST]
    votes = [Counter(pool[position].target for position in row).most_common(1)[0][0] for row in nearest]
    return float(np.mean([vote == row.target for vote, row in zip(votes, tests, strict=True)]))


if __name__ == "__main__":
    main()
