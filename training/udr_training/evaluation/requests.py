"""The requests that an evaluation sends to a server (``udr evaluate --dry-run``): counted, nothing is asked."""

from dataclasses import asdict, dataclass
from statistics import fmean

from udr.data import Collection, formatting, sample
from udr.types import Json
from udr_training.answering import estimated_tokens
from udr_training.evaluation.config import EvaluationConfig
from udr_training.evaluation.retrievers import ORACLE


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """What an evaluation asks of a server.

    Attributes:
        requests: one for each answer, and for each candidate that the oracle scores.
        prompt_tokens: of their prompts, estimated: a token for three bytes, demonstrations of mean length.
    """

    requests: int
    prompt_tokens: int

    def to_json(self) -> dict[str, Json]:
        """Return the plan as JSON."""
        return asdict(self)

    def line(self, prices: tuple[float, float] | None = None) -> str:
        """Return the plan as a line for people; prices are those of a million tokens of prompts and of answers."""
        price = self.prompt_tokens * (0.0 if prices is None else prices[0]) / 1e6
        amount = f"about {price:.2f}" if price >= 0.01 else "less than 0.01"
        cost = "" if prices is None else f", which cost {amount}"
        return (
            f"{self.requests:,} requests with about {self.prompt_tokens:,} tokens of prompts{cost}; answers come "
            f"on top. Nothing was asked. To ask for no more than that: --max-requests {self.requests}"
        )


def plan_requests(collection: Collection, config: EvaluationConfig) -> RequestPlan:
    """Count the requests of an evaluation of these tasks by a server, and estimate the tokens of their prompts."""
    requests, tokens = 0, 0.0
    compared = [parsed for parsed in config.parsed if parsed.source != ORACLE]
    for folder in collection.tasks.values():
        queries, pool = sample(folder.rows("test"), config.limit, config.seed), folder.pool(config.pool, config.seed)
        instruction = estimated_tokens(folder.task.instruction)
        query = fmean(estimated_tokens(formatting.row_query(folder.task, row)) for row in queries)
        shown = fmean(estimated_tokens(formatting.demonstration_text(folder.task, row)) for row in pool.rows)
        # Without demonstrations, all retrievers share the answers.
        asked = [(shots, len(config.parsed) if shots else 1) for shots in config.shots]
        if len(compared) < len(config.parsed):
            asked.append((1 + config.oracle_context, config.oracle_candidates))
        for shots, times in asked:
            requests += len(queries) * times
            tokens += len(queries) * times * (instruction + shots * shown + query)
    return RequestPlan(requests, round(tokens))
