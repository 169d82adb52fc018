"""What is checked, and how."""

from dataclasses import dataclass
from pathlib import Path

from udr.errors import ConfigError

NEAR = 0.98
"""The similarity from which inputs are near-duplicates where nothing else is said."""

SKEW = 0.1
"""The part of its even share below which a label is rare where nothing else is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckConfig:
    """What to check, and how.

    Attributes:
        tasks: the folder of the task collection.
        names: the tasks to take; None takes all.
        model: the encoder that near-duplicates are found by; None where ``near`` is None too looks for none.
        near: the cosine from which two inputs are near-duplicates; None takes ``NEAR`` where a model is named.
        lm: the language model whose window rows must fit; None counts nothing.
        window: its window in tokens; None reads it in its ``config.json``.
        skew: the part of its even share of the rows below which a label is rare; 0 takes none for rare.
        device: where the encoder runs; None takes the best there is.

    Raises:
        ConfigError: a number is out of range, or a window is given and no language model.
    """

    tasks: Path
    names: tuple[str, ...] | None = None
    model: str | None = None
    near: float | None = None
    lm: str | None = None
    window: int | None = None
    skew: float = SKEW
    device: str | None = None

    def __post_init__(self) -> None:
        if self.near is not None and not 0 < self.near <= 1:
            raise ConfigError(f"the similarity of near-duplicates must be above 0 and at most 1, found {self.near}")
        if not 0 <= self.skew <= 1:
            raise ConfigError(f"the part of an even share must be from 0 to 1, found {self.skew}")
        if self.window is not None and self.lm is None:
            raise ConfigError("a window is counted in a language model's tokens; give --lm beside --window")
        if self.window is not None and self.window < 1:
            raise ConfigError(f"the window must be at least 1 token, found {self.window}")
