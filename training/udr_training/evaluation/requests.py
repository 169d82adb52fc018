"""The requests that an evaluation sends to a server (``udr evaluate --dry-run``): counted, nothing is asked."""

from dataclasses import asdict, dataclass
from statistics import fmean

from udr.data import Collection, formatting, sample
from udr.types import Json
from udr_training.answering import UNIT, estimated_tokens
from udr_training.evaluation.config import EvaluationConfig
from udr_training.evaluation.retrievers import ORACLE


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """What an evaluation asks of a server.

    Attributes:
        test_rows: of all tasks.
        requests: one for each answer.
        prompt_tokens: of their prompts, estimated: a token for three bytes, demonstrations of mean length.
        answer_tokens: of the answers, as long as the targets.
        oracle: whether there is an oracle, whose requests are not counted: how many it sends depends on the server.
    """

    test_rows: int
    requests: int
    prompt_tokens: int
    answer_tokens: int
    oracle: bool

    def to_json(self) -> dict[str, Json]:
        """Return the plan as JSON."""
        return asdict(self)

    def line(self, prices: tuple[float, float] | None = None) -> str:
        """Return the plan as a line for people; prices are those of a million tokens of prompts and of answers."""
        told = (
            f"{self.requests:,} requests with about {self.prompt_tokens:,} tokens of prompts and, if answers are as "
            f"long as the targets, {self.answer_tokens:,} of answers"
        )
        if prices is not None:
            price = (self.prompt_tokens * prices[0] + self.answer_tokens * prices[1]) / 1e6
            told += f", which cost {f'about {price:.2f}' if price >= 0.01 else 'less than 0.01'} {UNIT}"
        if self.oracle:
            return f"{told}; those of the oracle, at least one for each candidate, come on top. Nothing was asked."
        return f"{told}. Nothing was asked. To ask for no more than that: --max-requests {self.requests}"


def plan_requests(collection: Collection, config: EvaluationConfig) -> RequestPlan:
    """Count the requests of an evaluation of these tasks by a server, and estimate their tokens."""
    rows, requests, tokens, answers = 0, 0, 0.0, 0.0
    for folder in collection.tasks.values():
        queries, pool = sample(folder.rows("test"), config.limit, config.seed), folder.pool(config.pool, config.seed)
        rows += len(queries)
        instruction = estimated_tokens(folder.task.instruction)
        query = fmean(estimated_tokens(formatting.row_query(folder.task, row)) for row in queries)
        shown = fmean(estimated_tokens(formatting.demonstration_text(folder.task, row)) for row in pool.rows)
        target = fmean(estimated_tokens(row.target) for row in pool.rows)
        for shots in config.shots:
            # Without demonstrations, all retrievers share the answers.
            count = len(queries) * (len(config.parsed) if shots else 1)
            requests += count
            tokens += count * (instruction + shots * shown + query)
            answers += count * target
    oracle = any(parsed.source == ORACLE for parsed in config.parsed)
    return RequestPlan(rows, requests, round(tokens), round(answers), oracle)
