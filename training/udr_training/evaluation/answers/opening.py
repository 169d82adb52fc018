"""The model that an evaluation asks, by its name and options: checked in no time, and opened later."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from udr.errors import ConfigError
from udr.models import RunnerOptions
from udr_training.answering import (
    Api,
    Budget,
    PaidAnswers,
    PromptSettings,
    ServerLM,
    is_remote,
    read_address,
    read_settings,
)
from udr_training.config import DTYPES, FeedbackConfig
from udr_training.evaluation.answers.predict import AnsweringLM
from udr_training.evaluation.answers.server_model import ServerModel
from udr_training.feedback import check_runner

ANSWERS = "answers.sqlite"
"""The file of a server's answers in an evaluation's directory."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The language model that answers.

    Attributes:
        name: a hub name, a path, ``package:NAME``, or the address of a server.
        device: of a model in this process.
        dtype: the precision of its weights.
        prompts: how a server's prompts are built.
        settings: how a server is asked, as lines ``NAME=VALUE``.
        budget: what a server's answers may cost.
        runner: where a model runs that is not a server's.

    Raises:
        ConfigError: an option is invalid, or does not fit the model.
    """

    name: str
    device: str = "cpu"
    dtype: str = "float32"
    prompts: PromptSettings = field(default_factory=PromptSettings)
    settings: Sequence[str] = ()
    budget: Budget = field(default_factory=Budget)
    runner: RunnerOptions = field(default_factory=RunnerOptions)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"--dtype must be one of {', '.join(DTYPES)}; found {self.dtype!r}")
        read_settings(self.settings)
        check_runner(self.runner, self._config, "answers")
        if is_remote(self.name):
            chat = read_address(self.name).api is Api.CHAT
            if not chat and self.prompts.layout is not PromptSettings().layout:
                raise ConfigError(f"--layout is of chat messages, but {self.name} is asked by texts; add &api=chat")
            return
        given = {
            "--lm-set": bool(self.settings),
            "--layout, --list-options, --budget, --tokenizer and --answer-form": self.prompts != PromptSettings(),
        }
        if options := [option for option, is_given in given.items() if is_given]:
            raise ConfigError(f"{options[0]} need the address of a server as --lm; found {self.name!r}")

    @property
    def asked_by(self) -> str:
        """The precision of its weights, or what a server is asked by."""
        return read_address(self.name).api.value if is_remote(self.name) else self.dtype

    @property
    def _config(self) -> FeedbackConfig:
        return FeedbackConfig(lm=self.name, device=self.device, dtype=self.dtype)

    @contextmanager
    def opened(self, output: Path | None) -> Iterator[AnsweringLM | ServerModel]:
        """Load the model, here or on workers, or open the answers of its server; nothing is sent to a server.

        Args:
            output: the evaluation's directory; None keeps a server's answers in memory.

        Raises:
            ModelError: the model or the tokenizer cannot be loaded.
            ConfigError: the device or the Ray cluster does not exist, or a key cannot be used.
            ArtifactError: the file of answers cannot be used.
        """
        if not is_remote(self.name):
            from udr_training.feedback.local import opened_lm

            with opened_lm(self._config, self.runner, "evaluation") as lm:
                yield lm
            return
        with PaidAnswers(None if output is None else output / ANSWERS) as paid:
            yield ServerModel(ServerLM(self.name, read_settings(self.settings), self.budget, paid), self.prompts)
