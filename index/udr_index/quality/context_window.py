"""Rows longer than a language model's context window. Needs its tokenizer and its configuration, not the model."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from udr.data import demonstration_text, prompt
from udr.errors import ConfigError, ModelError
from udr.models import TokenCounter, context_window, hub, load_tokenizer
from udr_index.quality.findings import Finding, Kind
from udr_index.quality.splits import Split

# The key of the longest sequence in configurations of most models, of GPT-2 and of MPT.
_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len")


@dataclass(frozen=True, slots=True)
class Window:
    """The context window of a language model: its size in tokens, and what counts them."""

    counter: TokenCounter
    tokens: int


def load_window(lm: str, tokens: int | None = None) -> Window:
    """Load the tokenizer of a language model (see ``udr.models``), and the size of its context window.

    The size is read from ``config.json``, unless ``tokens`` gives it.

    Raises:
        ModelError: the model or its tokenizer is not found, or it is an encoder.
        ConfigError: the configuration does not give the size.
    """
    counter = load_tokenizer(lm)
    return Window(counter, tokens if tokens is not None else _configured(lm))


def _configured(lm: str) -> int:
    path = hub.locate(lm)
    if path.suffix == ".gguf" and (length := context_window(path)):
        return length
    folder = path if path.is_dir() else path.parent
    hub.refuse_encoder(lm, folder)
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        config = {}
    except ValueError as error:
        raise ModelError(f"model {lm!r}: {path} is not JSON; set the window with --window") from error
    # Multimodal models keep the settings of text apart.
    for keys in (config, config.get("text_config")) if isinstance(config, dict) else ():
        for name in _KEYS:
            if isinstance(keys, dict) and isinstance(keys.get(name), int) and keys[name] > 0:
                return int(keys[name])
    raise ConfigError(f"model {lm!r}: no config.json gives the size of its context window; set it with --window")


def too_long(split: Split, window: Window) -> Iterator[Finding]:
    """Yield the rows that exceed the window as the only demonstration after the instruction, without a query."""
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
