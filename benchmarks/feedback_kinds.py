"""How well the kinds of feedback agree with the log-likelihoods of a prompt's options, and what each costs.

    python benchmarks/feedback_kinds.py TASKS --url http://127.0.0.1:8000/v1 --out FOLDER [--names trec,sst2,...]

TASKS is a collection with the tasks below. The log-likelihoods are those of ``--lm`` in this process, which an honest
echo returns, too. The server has the same model, at ``/v1/completions`` with echo, and at ``/v1/chat/completions``.
Each kind scores the same pairs: BM25's candidates, half of them random. Agreement is Kendall's tau-b between the orders
of a query's candidates, the mean over queries; queries whose candidates all tie by one side have none, and are counted.
Resumes; prints a Markdown table.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from measuring import parser
from scipy.stats import kendalltau

from udr.data import open_collection
from udr.errors import UdrError
from udr.models import DEFAULT_LM
from udr_training.answering import PaidAnswers
from udr_training.config import CandidateConfig, FeedbackConfig, ScoringConfig
from udr_training.feedback import FeedbackRun

NAMES = "trec,sst2,subj,snli,copa"
REFERENCE = "likelihood"
KINDS: Mapping[str, dict[str, object]] = {
    REFERENCE: {"kind": REFERENCE},
    "completions-echo": {"kind": "completions-echo"},
    "chat-logprobs": {"kind": "chat-logprobs"},
    "chat-logprobs, options listed": {"kind": "chat-logprobs", "list_options": True},
    "metric, 1 sample": {"kind": "metric", "list_options": True},
    "metric, 4 samples": {
        "kind": "metric",
        "list_options": True,
        "samples": 4,
        "lm_set": ("body.temperature=0.7",),
    },
    "rank": {"kind": "rank"},
}
Scores = dict[tuple[str, str], float]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--url", required=True)
    options.add_argument("--lm", default=DEFAULT_LM)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--names", default=NAMES)
    options.add_argument("--queries", type=int, default=25)
    options.add_argument("--candidates", type=int, default=10)
    options.add_argument("--kinds", default=";".join(KINDS), help="separated by semicolons")
    options.add_argument("--lm-set", action="append", default=[], help="of all servers, as in udr feedback score")
    arguments = options.parse_args()
    names = arguments.names.split(",")
    scores: dict[str, dict[str, Scores]] = {}
    print(f"| kind | {' | '.join(names)} | mean | ties | pairs | requests | tokens | s per pair |")
    print("|---|" + "---:|" * (len(names) + 6))
    for label in arguments.kinds.split(";"):
        out = arguments.out / label.replace(", ", "-").replace(" ", "-")
        try:
            scores[label] = scored(arguments, names, KINDS[label], out)
        except UdrError as error:
            print(f"| {label} | refused: {error} |")
            continue
        taus = {name: tau(scores[REFERENCE][name], scores[label][name]) for name in names}
        cells = [f"{value:.2f}" for value, _ in taus.values()]
        mean = sum(value for value, _ in taus.values()) / len(taus)
        ties = sum(tied for _, tied in taus.values())
        answers = out / "feedback-answers.sqlite"
        with PaidAnswers(answers if answers.exists() else None) as paid:
            spend = paid.spend
        pairs = sum(map(len, scores[label].values()))
        seconds = json.loads((out / "iteration-0" / "seconds.json").read_text("utf-8"))["feedback"] / pairs
        row = [label, *cells, f"{mean:.2f}", f"{ties}", f"{pairs:,}", f"{spend.requests:,}", f"{spend.tokens:,}"]
        print(f"| {' | '.join(row)} | {seconds:.2f} |", flush=True)


def scored(arguments, names: list[str], feedback: Mapping[str, object], out: Path) -> dict[str, Scores]:  # noqa: ANN001
    """Return the scores of each task by one kind."""
    api = "completions" if feedback["kind"] == "completions-echo" else "chat"
    if feedback["kind"] == REFERENCE:
        lm = arguments.lm
    else:
        lm = f"{arguments.url}?api={api}"
        feedback = {**feedback, "lm_set": (*feedback.get("lm_set", ()), *arguments.lm_set)}
    config = ScoringConfig(
        tasks=tuple(names),
        candidates=CandidateConfig(
            pool=1000, queries=arguments.queries, num_candidates=arguments.candidates, random_share=0.5
        ),
        feedback=FeedbackConfig(lm=lm, **feedback),
    )
    return FeedbackRun(out, open_collection(arguments.tasks, names), config).finish()


def tau(expected: Scores, found: Scores) -> tuple[float, int]:
    """Return the mean of Kendall's tau-b over queries, and how many queries tie on one side."""
    queries: dict[str, list[tuple[str, str]]] = {}
    for pair in expected:
        queries.setdefault(pair[0], []).append(pair)
    values, tied = [], 0
    for pairs in queries.values():
        # Scores are stored as float32: what differs less ties.
        sides = [[round(side[pair], 5) for pair in pairs] for side in (expected, found)]
        if any(len(set(side)) == 1 for side in sides):
            tied += 1
        else:
            values.append(float(kendalltau(*sides).statistic))
    return (sum(values) / len(values) if values else 0.0), tied


if __name__ == "__main__":
    main()
