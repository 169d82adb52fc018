"""Formatting of an evaluation's numbers, for all reports."""

from collections.abc import Mapping
from typing import cast

from udr.types import Json
from udr_training.evaluation.intervals import EXPLANATION, Estimate
from udr_training.evaluation.results import Evaluation
from udr_training.evaluation.retrievers import ORACLE
from udr_training.evaluation.verdict import verdict


def points(value: float) -> str:
    """Return a value with one decimal."""
    # Rounded first, so that zero has no sign.
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


def signed(value: float) -> str:
    """Return a gain with its sign, or without one if it rounds to zero."""
    return f"+{points(value)}" if round(value, 1) > 0 else points(value)


def interval(estimate: Estimate, *, gain: bool = False) -> str:
    """Return the ends of an estimate's interval in brackets."""
    low, high = map(signed if gain else points, estimate.interval)
    return f"[{low}, {high}]"


def with_shots(shots: int) -> str:
    """Return a number of demonstrations in words."""
    return {0: "no demonstration", 1: "1 demonstration"}.get(shots, f"{shots} demonstrations")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def is_clear(gain: Estimate) -> bool:
    """Return whether a gain's interval excludes 0."""
    low, high = gain.interval
    return low > 0 or high < 0


def title(evaluation: Evaluation) -> str:
    """Return the report's title."""
    return "Does training pay?" if evaluation.runs else "Retriever evaluation"


def summary(evaluation: Evaluation) -> str:
    """Return the result in a few sentences: the verdict, how it was measured, and the headroom."""
    shots = evaluation.main_shots
    sentences = [verdict(evaluation).sentence]
    if shots:
        sentences.append(f"Measured with {with_shots(shots)} per prompt.")
    if ORACLE in evaluation.labels and shots:
        headroom = points(evaluation.value(ORACLE, shots).value)
        sentences.append(
            f"The oracle, which reads the gold answers and so is not a retriever, reaches {headroom}: the headroom."
        )
    return " ".join(sentences)


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what was run, as titles and texts."""
    config, labels = evaluation.config, evaluation.labels
    candidates, context = config["oracle_candidates"], int(str(config["oracle_context"]))
    oracle = f"the best of {candidates} candidates, half of them random, scored after {with_shots(context)}"
    drawn = cast("Mapping[str, Mapping[str, float]]", config.get("random_share") or {})
    chance = {
        labels[name]: ", ".join(f"{task} {100 * share:.1f} %" for task, share in shares.items())
        for name, shares in drawn.items()
    }
    written = cast("Mapping[str, Json]", config.get("prompts") or {})
    return [
        ("retrievers", ", ".join(labels.values())),
        *((label, name) for name, label in labels.items() if label != name),
        *([("oracle", oracle)] if ORACLE in labels else []),
        *(
            (f"random in {label}", f"demonstrations that share no word with the query: {shares}")
            for label, shares in chance.items()
        ),
        ("baseline of gains", labels[evaluation.baseline]),
        (
            "language model",
            f"{config['lm_name']} {'by' if written else 'in'} {config['lm_dtype']}, fingerprint {config['lm']}",
        ),
        *([("prompts", _prompts(written)), ("spent", str(config["spent"]))] if written else []),
        *(
            (f"unparsable answers, {labels[name]}, {with_shots(shots)}", _by_task(counts))
            for (name, shots), counts in evaluation.unparsable.items()
        ),
        ("tasks", f"{counted(len(evaluation.tasks), 'task')} of {counted(len(evaluation.families), 'family')}"),
        ("task folder", str(config["task_folder"])),
        (
            "test rows",
            f"{evaluation.num_rows:,}" + (f", at most {config['limit']} per task" if config["limit"] else ""),
        ),
        *([("more test rows", remedy)] if (remedy := verdict(evaluation).remedy) else []),
        ("pools", f"at most {config['pool']} rows each" if config["pool"] else "whole"),
        ("demonstrations per prompt", ", ".join(map(str, evaluation.shots))),
        ("seed", f"{config['seed']}, for samples and random demonstrations"),
        ("intervals", EXPLANATION),
        ("udr", str(config["udr"])),
    ]


def _prompts(settings: Mapping[str, Json]) -> str:
    """Return in words how the prompts of a model that writes its answers are built."""
    counter = settings["tokenizer"] or "an estimate, a token for 3 bytes"
    listed = ", with the possible answers listed" if settings["list_options"] else ""
    budget = f"at most {settings['budget']:,} tokens by {counter}"
    return f"layout {settings['layout']}, answers as {settings['form']}{listed}; {budget}"


def _by_task(counts: Mapping[str, str]) -> str:
    return ", ".join(f"{task} {count}" for task, count in counts.items())
