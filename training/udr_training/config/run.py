"""Configuration of a run: that of its scores, of its trainings, and what these ask of each other."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from udr.errors import ConfigError
from udr.models import BASE_ENCODER
from udr_training.config.scores import ScoringConfig

EXTRAPOLATIONS = ("off", "labels", "reward")
LOSSES = ("udr", "lambda", "epr", "kl", "margin_mse", "mnrl")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the encoder is trained in each iteration.

    Attributes:
        model: the encoder to start from.
        warm_start: start later iterations from the previous one's encoder; else each starts from ``model`` again, as
            in the paper.
        towers: 1 shares one encoder between queries and demonstrations, 2 trains one for each.
        pooling: ``mean`` or ``cls``; ``model`` keeps the encoder's own.
        lora_rank: train adapters of this rank and merge them at the end; 0 trains all weights.
        gradient_checkpointing: keep only each layer's input for the backward pass, which computes the rest again; less
            memory, more time.
        fsdp: leave each process its part of the weights, gradients and optimizer's state (FSDP2); needs two or more
            processes, and changes the result by rounding alone.
        tensor_parallel: processes that hold the weights together and compute each layer together, by the model's plan
            in Transformers; the number of processes is a multiple of it. It changes the result by rounding alone.
        max_tokens: the encoder's window; 0 keeps the model's own.
        iterations: trainings; between them the last encoder mines candidates.
        epochs: visits to each training query of the first iteration, on average; extrapolated queries and those of
            later iterations share the visits, so that all trainings have the same steps.
        patience: stop an iteration after this many epochs without a better validation NDCG; 0 never stops.
        validation: the share of a task's queries that is held out for validation; 0 turns it off.
        batch_size: queries per step.
        mini_batch: texts embedded at a time to bound memory (gradient cache); 0 embeds a step's texts at once.
        list_length: l, candidates per query and step.
        draws: how they are drawn: ``uniform`` (the paper), or ``stratified`` (the authors' code).
        alpha: tasks are drawn with p ∝ q^α.
        loss: one of ``LOSSES``: ``udr`` is the paper's, ``lambda`` that of the authors' code; see ``CandidateLoss``.
        ranking_weight: λ of the losses; ``epr`` and ``mnrl`` have none.
        score_temperature: τ, which divides scores in the losses ``kl`` and ``margin_mse`` and for the reward model.
        score_margin: candidates with a score this close to the best are not negatives.
        label_aware: in tasks with labels, candidates with the best one's label are not negatives.
        extrapolate: the pool's other rows become queries too, with scores that follow from the ``labels`` (in tasks
            with labels, if these explain 0.9 of the order of held-out scores) or a ``reward`` model (see
            ``RewardConfig``); or ``off``.
        centre_scores: rank candidates by how much more a demonstration helps a query than others; see
            ``demonstration_means``.
        temperature: divides cosines; 0 uses the dot product, and needs an encoder that does not normalise its vectors.
        optimizer: a value of Transformers' ``optim``.
        learning_rate: the peak of a linear schedule.
        warmup: the share of steps before the peak.
        dtype: the precision of computation (autocast); weights stay float32.
        seed: of the trainings alone: another one repeats them on the same samples.
        tensorboard: also write ``iteration-N/tensorboard``.
    """

    model: str = BASE_ENCODER
    warm_start: bool = False
    towers: int = 1
    pooling: str = "model"
    lora_rank: int = 0
    gradient_checkpointing: bool = False
    fsdp: bool = False
    tensor_parallel: int = 1
    max_tokens: int = 256
    iterations: int = 3
    epochs: int = 6
    patience: int = 0
    validation: float = 0.1
    batch_size: int = 64
    mini_batch: int = 0
    list_length: int = 8
    draws: str = "uniform"
    alpha: float = 0.5
    loss: str = "udr"
    ranking_weight: float = 0.8
    score_temperature: float = 0.1
    score_margin: float = 0.0
    label_aware: bool = False
    extrapolate: str = "off"
    centre_scores: bool = False
    temperature: float = 0.05
    optimizer: str = "adamw_torch"
    learning_rate: float = 3e-5
    warmup: float = 0.1
    dtype: str = "float32"
    seed: int = 0
    tensorboard: bool = False

    def num_learned(self, num_queries: int) -> int:
        """Return how many of a task's queries are trained on: all but those for validation, and at least one."""
        return max(1, num_queries - round(self.validation * num_queries))


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """The reward model of ``train.extrapolate = "reward"``: a cross-encoder that learns the scores of all tasks.

    It reads a query with its gold answer, and a candidate. It is trained before the last iteration's encoder, with the
    optimizer, learning rate, batches and lists of ``train``; its window is twice ``train.max_tokens``. Its scores are
    used in tasks where it orders held-out scores better than the encoder does.

    Attributes:
        model: the transformer to start from; empty for that of ``train.model``.
        candidates: scored for each row that the language model was not asked about.
        epochs: visits to each training query.
    """

    model: str = ""
    candidates: int = 20
    epochs: int = 3


@dataclass(frozen=True, kw_only=True)
class RunConfig(ScoringConfig):
    """Everything that a training run's result depends on, apart from the rows.

    Raises:
        ConfigError: a value is invalid, alone or in combination.
    """

    train: TrainConfig = TrainConfig()
    reward: RewardConfig = RewardConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        train = self.train
        self._check_at_least(2, "train.list_length")
        self._check_at_least(1, "train.iterations train.epochs train.batch_size train.tensor_parallel")
        self._check_at_least(0, "train.patience train.mini_batch train.lora_rank train.max_tokens train.alpha")
        self._check_at_least(0, "train.score_margin train.temperature train.seed")
        self._check_shares("train.warmup train.ranking_weight")
        self._check("train.validation", lambda value: 0 <= value < 1, "at least 0 and below 1")
        self._check_among("train.dtype", ("float32", "bfloat16"))
        self._check_among("train.towers", (1, 2))
        self._check_among("train.pooling", ("model", "mean", "cls"))
        self._check_among("train.draws", ("uniform", "stratified"))
        self._check_among("train.loss", LOSSES)
        self._check_among("train.extrapolate", EXTRAPOLATIONS)
        self._check_at_least(1, "reward.epochs")
        if train.extrapolate == "reward":
            self._check_at_least(train.list_length, "reward.candidates")
        self._check("train.learning_rate train.score_temperature", lambda value: 0 < value < math.inf, "above 0")
        if "mean" in self.tasks:
            raise ConfigError(
                "a task is named 'mean', as metrics.jsonl names the mean of all tasks; give it another name"
            )
        if train.patience and not train.validation:
            raise ConfigError("train.patience needs train.validation above 0: it waits for a better validation NDCG")
        if train.mini_batch and updates_while_backward(train.optimizer):
            raise ConfigError(
                f"train.mini_batch needs a train.optimizer that steps after a whole batch; {train.optimizer} updates "
                "the weights during the backward pass, between mini-batches"
            )
        if train.loss == "mnrl" and train.batch_size == 1:
            raise ConfigError("train.loss 'mnrl' needs train.batch_size above 1: its negatives are of other queries")
        if train.extrapolate != "off" and not train.validation:
            raise ConfigError("train.extrapolate needs train.validation above 0: it is judged by held-out scores")
        if self.candidates.later != "same" and train.iterations == 1:
            raise ConfigError(f"candidates.later = {self.candidates.later!r} needs train.iterations above 1, found 1")
        if self.feedback.is_told and (train.extrapolate != "off" or self.candidates.later != "same"):
            raise ConfigError(
                "feedback.kind 'outcomes' has scores for the queries of its file alone; it needs train.extrapolate "
                f"'off' and candidates.later 'same', found {train.extrapolate!r} and {self.candidates.later!r}"
            )
        if self.candidates.later == "allocated" and not train.validation:
            raise ConfigError("candidates.later = 'allocated' needs train.validation above 0: held-out scores decide")
        if train.lora_rank and train.towers == 2:
            raise ConfigError("train.lora_rank needs train.towers = 1: adapters are trained in one encoder")
        if train.tensor_parallel > 1 and (train.lora_rank or train.extrapolate == "reward"):
            found = "train.lora_rank above 0" if train.lora_rank else "train.extrapolate 'reward'"
            raise ConfigError(
                f"train.tensor_parallel trains all weights of an encoder, and neither adapters nor a reward model; "
                f"found {found}; leave that out, or split the weights by train.fsdp instead"
            )
        if train.list_length > self.candidates.num_candidates:
            raise ConfigError(
                f"train.list_length must not exceed candidates.num_candidates, found {train.list_length} and "
                f"{self.candidates.num_candidates}: a step sees some of a query's candidates; set train.list_length to "
                f"{self.candidates.num_candidates} or less, or ask for {train.list_length} candidates or more"
            )


def refuse_without_effect(config: RunConfig, names: Iterable[str]) -> None:
    """Raise ``ConfigError`` for the first of some settings, by dotted name, that others leave without effect."""
    train = config.train
    by_reward = train.extrapolate == "reward"
    for name in names:
        if name.startswith("reward.") and not by_reward:
            raise ConfigError(f"{name} has no effect without train.extrapolate 'reward'; add that, or omit it")
        weighs = train.loss not in ("epr", "mnrl")
        divides = train.loss in ("kl", "margin_mse") or by_reward
        # Its negatives are other queries' candidates alone.
        spares = train.loss != "mnrl"
        effects = {"train.ranking_weight": weighs, "train.score_temperature": divides, "train.score_margin": spares}
        if not effects.get(name, True):
            raise ConfigError(f"{name} has no effect with train.loss {train.loss!r}; omit it, or choose another loss")


def updates_while_backward(optimizer: str) -> bool:
    """Return whether an optimizer updates each weight during the backward pass."""
    return optimizer in ("lomo", "adalomo") or optimizer.endswith("_layerwise")
