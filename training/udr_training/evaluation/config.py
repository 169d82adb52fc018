"""The configuration of an evaluation."""

from dataclasses import dataclass

from udr.errors import ConfigError
from udr_training.evaluation.retriever_names import BM25, ORACLE, short_names


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """How retrievers are compared.

    Attributes:
        retrievers: ``random``, ``bm25``, ``oracle``, names of encoders, run directories.
        shots: numbers of demonstrations a prompt; each is an evaluation of its own.
        baseline: the retriever that gains are counted from, by its full or short name; None takes BM25, or the
            first where BM25 is not compared.
        limit: test rows a task, by seed; None for all.
        pool: rows of a task's pool, by seed; None for all.
        seed: of these cuts, of random demonstrations, and of the bootstrap.
        oracle_candidates: K, candidates that the oracle has scored for each test row.
        oracle_context: demonstrations shown before each of them while it is scored.

    Raises:
        ConfigError: a value makes no sense, alone or beside another.
    """

    retrievers: tuple[str, ...]
    shots: tuple[int, ...] = (4,)
    baseline: str | None = None
    limit: int | None = None
    pool: int | None = None
    seed: int = 0
    oracle_candidates: int = 12
    oracle_context: int = 0

    def __post_init__(self) -> None:
        if not self.retrievers:
            raise ConfigError("there are no retrievers; name random, bm25, oracle, an encoder or a run directory")
        for name in self.retrievers:
            if self.retrievers.count(name) > 1:
                raise ConfigError(f"the retriever {name!r} is named twice")
        if not self.shots or min(self.shots) < 0 or len(set(self.shots)) < len(self.shots):
            found = ", ".join(map(str, self.shots)) or "none"
            raise ConfigError(f"shots must be different numbers of at least 0, found {found}")
        at_least = {"limit": 1, "pool": 1, "seed": 0, "oracle_candidates": 1, "oracle_context": 0}
        for setting, least in at_least.items():
            value = getattr(self, setting)
            if value is not None and value < least:
                raise ConfigError(f"{setting} must be at least {least}, found {value}")
        if ORACLE in self.retrievers and max(self.shots) > self.oracle_candidates:
            raise ConfigError(
                f"the oracle shows the best of {self.oracle_candidates} candidates, but {max(self.shots)} "
                "shots are requested; give more --oracle-candidates or fewer --shots"
            )
        self.compared_with()

    @property
    def labels(self) -> dict[str, str]:
        """The retrievers' short names by their full ones, in the order asked for."""
        return short_names(self.retrievers)

    def compared_with(self) -> str:
        """Return the full name of the retriever that gains are counted from.

        Raises:
            ConfigError: the baseline is none of the retrievers.
        """
        if self.baseline is None:
            return BM25 if BM25 in self.retrievers else self.retrievers[0]
        for name, label in self.labels.items():
            if self.baseline in (name, label):
                return name
        raise ConfigError(
            f"the baseline {self.baseline!r} is not one of the retrievers {', '.join(self.labels.values())}"
        )
