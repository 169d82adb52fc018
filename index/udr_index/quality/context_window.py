"""Rows that a language model cannot read whole. Needs its tokenizer and its configuration, not the model."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from udr.data import demonstration_text, prompt
from udr.errors import ConfigError, ModelError
from udr.models import TokenCounter, hub, load_tokenizer
from udr_index.quality.findings import Finding, Kind
from udr_index.quality.splits import Split

# What configurations call the longest sequence: most models; GPT-2; MPT.
_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len")


@dataclass(frozen=True, slots=True)
class Window:
    """What a language model reads at once.

    Attributes:
        counter: its tokenizer.
        tokens: how many of its tokens.
    """

    counter: TokenCounter
    tokens: int


def load_window(lm: str, tokens: int | None = None) -> Window:
    """Load a language model's tokenizer, and read in its ``config.json`` how many tokens it reads at once.

    Args:
        lm: its name (see ``udr.models``): a folder that holds a ``tokenizer.json``, or that file.
        tokens: the window where it is known, or meant to be smaller; then no ``config.json`` is needed.

    Raises:
        ModelError: the name leads nowhere, or not to a tokenizer.
        ConfigError: neither the caller nor the configuration tells the window.
    """
    counter = load_tokenizer(lm)
    return Window(counter, tokens if tokens is not None else _configured(lm))


def _configured(lm: str) -> int:
    path = hub.locate(lm)
    path = (path if path.is_dir() else path.parent) / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        config = {}
    except ValueError as error:
        raise ModelError(f"model {lm!r}: {path} is not JSON; give the window by --window") from error
    # Models that read more than text keep what concerns text apart.
    for keys in (config, config.get("text_config")) if isinstance(config, dict) else ():
        for name in _KEYS:
            if isinstance(keys, dict) and isinstance(keys.get(name), int) and keys[name] > 0:
                return int(keys[name])
    raise ConfigError(f"model {lm!r}: no config.json tells how many tokens it reads at once; give them by --window")


def too_long(split: Split, window: Window) -> Iterator[Finding]:
    """Yield the rows that are longer than the window when nothing but the instruction stands before them.

    Each is counted with its target, as the only demonstration of a prompt that asks nothing yet.
    """
    long: list[tuple[int, str]] = []
    for row in split.rows:
        tokens = window.counter.count(prompt(split.task.instruction, [], demonstration_text(split.task, row)))
        if tokens > window.tokens:
            long.append((-tokens, row.id))
    if long:
        long.sort()
        message = (
            f"{split.part(len(long))} more tokens than the window of {window.tokens}, instruction and target "
            f"included (the longest {-long[0][0]}); shorten or remove them"
        )
        yield split.finding(Kind.TOO_LONG, len(long), message, [(id,) for _, id in long])
