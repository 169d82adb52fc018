"""The model card of a trained encoder: what it was trained from and on, how to word its inputs, and what it reaches."""

from pathlib import Path

from udr import __version__
from udr.data import Collection, formatting
from udr.files import read_toml, write_atomically
from udr.models import hub
from udr_training.answering import is_remote
from udr_training.config import FeedbackConfig, RunConfig

CARD = "README.md"
"""The card's name in a model's folder; it is not part of the model's fingerprint."""


def write_card(model: Path, collection: Collection, config: RunConfig, results: str | None = None) -> None:
    """Write the card of a run's final model.

    Args:
        model: the model's folder.
        collection: the tasks it was trained on.
        config: the run's.
        results: the table of its evaluation; None if there is none.
    """
    write_atomically(model / CARD, _card(collection, config, results).encode())


def _card(collection: Collection, config: RunConfig, results: str | None) -> str:
    base, train = config.train.model, config.train
    pooled = train.pooling != "model" or (hub.locate(base) / "modules.json").is_file()
    pooling = "" if pooled else " It has no pooling settings, so the mean of its tokens is used."
    folder = next(iter(collection.tasks.values()))
    row = folder.pool(1).rows[0]
    tasks = [f"| {name} | {_licence(item.path)} |" for name, item in collection.tasks.items()]
    return "\n".join(
        [
            "---",
            "library_name: sentence-transformers",
            "pipeline_tag: sentence-similarity",
            "tags: [sentence-transformers, in-context-learning, demonstration-retrieval, udr]",
            "---",
            "",
            "# A retriever of demonstrations, trained with udr",
            "",
            f"This encoder finds demonstrations (solved questions) that help a language model answer. "
            f"udr {__version__} trained it.",
            "",
            f"- **Base**: `{base}`.{pooling}",
            f"- **Feedback of**: {_feedback(config.feedback)}.",
            f"- **Training**: loss `{train.loss}`, {train.iterations} mining iteration(s), {train.epochs} visits to "
            f"each query, {train.towers} tower(s); seed {config.seed}.",
            "",
            "## Tasks",
            "",
            "| task | licence |",
            "|---|---|",
            *tasks,
            "",
            "The licences are those that the tasks name; check them before you share the model.",
            "",
            "## How to word inputs",
            "",
            "A query is the task's instruction and its input. A demonstration has its output, too. For the task "
            f"`{folder.task.name}`, `encode_query` and `encode_document` take such texts:",
            "",
            "```text",
            formatting.row_query(folder.task, row),
            "```",
            "",
            "```text",
            formatting.encoder_demonstration(folder.task, row),
            "```",
            "",
            "`udr index build --model` and `udr.Retriever` word inputs by themselves.",
            "",
            "## Results",
            "",
            "```text" if results else "The run was not evaluated; `udr evaluate` does it.",
            *([results, "```"] if results else []),
            "",
        ]
    )


def _feedback(config: FeedbackConfig) -> str:
    if config.is_told:
        return "the outcomes of real prompts"
    if not config.shows_context:
        return f"`{config.lm}`, which ranked lists of candidates"
    precision = "" if is_remote(config.lm) else f" ({config.dtype})"
    return f"`{config.lm}`{precision}, each candidate after {config.context} other demonstration(s)"


def _licence(folder: Path) -> str:
    source = read_toml(folder / "task.toml").get("source")
    found = source.get("license", source.get("licence")) if isinstance(source, dict) else None
    return str(found or "not stated")
