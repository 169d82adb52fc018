"""The configuration of a check."""

from dataclasses import dataclass
from pathlib import Path

from udr.errors import ConfigError

NEAR = 0.98
"""The default similarity of near-duplicates."""

SKEW = 0.1
"""The default fraction of the rows of an average label below which a label is rare."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckConfig:
    """What to check, and how.

    Attributes:
        tasks: the folder of the task collection.
        names: the tasks to check; None takes all.
        model: the encoder that finds near-duplicates; if this and ``near`` are None, none are looked for.
        near: the cosine from which two inputs are near-duplicates; None is ``NEAR`` if there is a model.
        lm: the language model whose context window rows must fit; None counts nothing.
        window: the size of that window in tokens; None reads it from the model's ``config.json``.
        text_lm: the language model that tells whether long texts hang together; None looks at none.
        skew: the fraction of the rows of an average label below which a label is rare; 0 treats none as rare.
        device: where to run the encoder, None takes the best available; and ``text_lm``, None takes the CPU.

    Raises:
        ConfigError: a number is out of range, or there is a window but no language model.
    """

    tasks: Path
    names: tuple[str, ...] | None = None
    model: str | None = None
    near: float | None = None
    lm: str | None = None
    window: int | None = None
    text_lm: str | None = None
    skew: float = SKEW
    device: str | None = None

    def __post_init__(self) -> None:
        if self.near is not None and not 0 < self.near <= 1:
            raise ConfigError(f"the similarity of near-duplicates must be above 0 and at most 1, found {self.near}")
        if not 0 <= self.skew <= 1:
            raise ConfigError(f"skew must be from 0 to 1, found {self.skew}")
        if self.window is not None and self.lm is None:
            raise ConfigError("the window is in tokens of a language model; give --lm with --window")
        if self.window is not None and self.window < 1:
            raise ConfigError(f"the window must be at least 1 token, found {self.window}")
