"""Rows longer than a language model's window, which needs its tokenizer alone; and whether long texts hang together."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import median

from udr.data import FEWEST_SENTENCES, demonstration_text, longest_text, measure_text, prompt, sentences_of
from udr.errors import ConfigError, ModelError
from udr.models import Coherence, TextLM, TokenCounter, coherence, context_window, hub, load_tokenizer
from udr.types import Row
from udr_index.quality.findings import Finding, Kind
from udr_index.quality.splits import Split

# The key of the longest sequence in configurations of most models, of GPT-2 and of MPT.
_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len")
_INCOHERENT = {
    Kind.CHAOTIC: "that is no likelier than with its sentences shuffled",
    Kind.AGGREGATED: "with a part that what precedes it makes no likelier, as if several were joined",
}
_KINDS = (*_INCOHERENT, "holistic")


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


@dataclass(frozen=True, kw_only=True, slots=True)
class LongRows:
    """The rows whose longest field has at least ``FEWEST_SENTENCES``.

    Attributes:
        rows: how many there are.
        medians: of each number of ``LongText`` and, by a language model, of ``Coherence``.
        kinds: by a language model, how many are chaotic, aggregated and holistic; empty without one.
    """

    rows: int
    medians: Mapping[str, float]
    kinds: Mapping[str, int]

    @classmethod
    def of(cls, rows: Iterable[Row], lm: TextLM | None = None) -> "LongRows | None":
        """Measure the long ones among some rows, by a language model, too, if there is one; None if none is long."""
        texts = [text for text in map(longest_text, rows) if len(sentences_of(text)) >= FEWEST_SENTENCES]
        if not texts:
            return None
        found = _coherence(lm, texts) if lm is not None else ()
        measured = (list(map(asdict, map(measure_text, texts))), list(map(asdict, found)))
        medians = {name: round(median(one[name] for one in own), 3) for own in measured if own for name in own[0]}
        kinds = Counter(one.kind for one in found)
        return cls(rows=len(texts), medians=medians, kinds={kind: kinds[kind] for kind in _KINDS if found})


def incoherent(split: Split, lm: TextLM) -> Iterator[Finding]:
    """Yield the long rows that a language model finds chaotic, and those that seem to be several texts."""
    rows = [row for row in split.rows if len(sentences_of(longest_text(row))) >= FEWEST_SENTENCES]
    found: dict[str, list[tuple[str]]] = {}
    for row, one in zip(rows, _coherence(lm, map(longest_text, rows)), strict=True):
        found.setdefault(one.kind, []).append((row.id,))
    for kind, meaning in _INCOHERENT.items():
        if ids := found.get(kind):
            message = f"{split.part(len(ids))} a long text {meaning}; read before you remove any"
            yield split.finding(kind, len(ids), message, ids)


def _coherence(lm: TextLM, texts: Iterable[str]) -> list[Coherence]:
    return coherence(lm, list(map(sentences_of, texts)), shuffles=2)
