"""The commands ``udr pool score``, ``curate``, ``criteria`` and ``synthesise``.

``curate --json`` prints ``folder``, ``rows``, ``kept``, ``dropped`` (numbers), ``reasons``, how many rows each score
dropped, and ``lost_labels``, those of which no row is kept.
"""

from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import typer

from udr.cli import (
    STATUS,
    command_group,
    expand_options,
    names_of,
    naming_flags,
    print_json,
    print_text,
    refuse_unused,
)
from udr.errors import ConfigError
from udr.files import refuse_existing
from udr.models import DEFAULT_LM
from udr_training.config import ServerOptions, TasksFolder
from udr_training.pool.criteria import criteria
from udr_training.pool.synthesis import synthesise
from udr_training.pool.tasks import TaskName, answers_file, check_server, one_task, text_asker

app = command_group("Score the rows of a pool, keep those worth retrieving, and work out solutions.")
app.command()(criteria)
app.command()(synthesise)

_PAIRS = 1_000


@app.command()
@expand_options
def score(
    tasks_folder: TasksFolder,
    out: Annotated[Path, typer.Option("--out", help="The file of scores to write: JSONL, or NAME.parquet.")],
    *,
    tasks: TaskName = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="What rows are scored by, separated by commas: labels (does the text speak against the label), "
            "copies, length (cut short, far too long, repeating itself), coherence (is a long text in disorder, or "
            "several texts in one), criteria (those of udr pool criteria).",
            show_default="copies, length and, for a classification task, labels",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The encoder that reads rows for labels and criteria: a hub name, a path, package:NAME."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="The device for the models: cpu, cuda, ...",
            show_default="for the encoder a GPU if there is one, else cpu",
        ),
    ] = None,
    text_lm: Annotated[
        str | None,
        typer.Option(
            help="The language model that reads long rows for coherence: a hub name, a path, package:NAME.",
            show_default=DEFAULT_LM,
        ),
    ] = None,
    criteria_file: Annotated[
        Path | None, typer.Option("--criteria", help="The file of udr pool criteria, for --by criteria.")
    ] = None,
    lm: Annotated[
        str | None, typer.Option("--lm", help="The server of the model that judges pairs of rows by the criteria.")
    ] = None,
    label_pairs: Annotated[
        int | None, typer.Option(help="Pairs of rows that it judges.", min=1, show_default=str(_PAIRS))
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of these pairs.", min=0, show_default="0")] = None,
    server: ServerOptions,
) -> None:
    """Score every row of a task's pool; only coherence and criteria ask a language model. The pool stays as it is."""
    # Imported here, so that `udr --help` stays light.
    from udr.models import BASE_ENCODER, SentenceEncoder, TextLM
    from udr_training.answering import PaidAnswers, ServerLM
    from udr_training.feedback import check_lm
    from udr_training.pool.criteria import CriteriaJudge, random_pairs, read_criteria
    from udr_training.pool.scores import write_scores
    from udr_training.pool.scoring import COHERENCE, CRITERIA, LABELS, check_ways, score_pool

    folder = one_task(tasks_folder, tasks)
    ways = check_ways(folder.task, names_of(by))
    refuse_existing(out)
    if (CRITERIA in ways) != (criteria_file is not None) or (CRITERIA in ways) != (lm is not None):
        raise ConfigError("--by criteria needs --criteria FILE, of udr pool criteria, and --lm URL; nothing else does")
    read_by: dict[str, tuple[object, tuple[str, ...]]] = {
        "--model": (model, (LABELS, CRITERIA)),
        "--device": (device, (LABELS, COHERENCE, CRITERIA)),
        "--text-lm": (text_lm, (COHERENCE,)),
        "--label-pairs": (label_pairs, (CRITERIA,)),
        "--seed": (seed, (CRITERIA,)),
    }
    for option, (value, readers) in read_by.items():
        if not set(readers).intersection(ways):
            refuse_unused({option: value}, f"--by {' or '.join(readers)}")
    if CRITERIA not in ways:
        server.refuse("--by criteria, which asks a server")
    reader = DEFAULT_LM if text_lm is None else text_lm
    if COHERENCE in ways:
        with naming_flags({"^model ": "--text-lm: model "}):
            check_lm(reader)
    rows = folder.rows("train")

    def load_text_lm() -> TextLM:
        from udr_training.feedback.local import CausalLM

        return CausalLM.load(reader, device or "cpu")

    encoder = cache(partial(SentenceEncoder.load, model or BASE_ENCODER, device))
    with PaidAnswers(answers_file(out)) as paid:
        judge = None
        if criteria_file is not None and lm is not None:
            check_server(lm)
            worker = text_asker(ServerLM(lm, server.settings(), server.budget(lm), paid), folder.task.name)
            pairs = random_pairs(len(rows), label_pairs or _PAIRS, seed or 0)
            judge = CriteriaJudge(read_criteria(criteria_file, folder.task), worker, pairs)
        scores = score_pool(folder.task, rows, ways, encoder, judge, load_text_lm)
    STATUS.finish()
    write_scores(out, folder.task, rows, scores)
    for one in scores:
        print_text(f"{one.name}: {len(one.flagged)} of {len(rows)} rows flagged, below {one.flagged_below:g}")
    print_text(str(out))


@app.command()
def curate(
    tasks_folder: TasksFolder,
    scores: Annotated[Path, typer.Option("--scores", help="The file of `udr pool score`.")],
    out: Annotated[Path, typer.Option("--out", help="The folder of tasks to write; it must not exist.")],
    tasks: TaskName = None,
    keep: Annotated[
        float | None,
        typer.Option(help="The share of rows to keep, above 0 to 1.", show_default="all that no score flags"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a collection with the best rows of a task's pool; what is left out is in dropped.jsonl, each with why."""
    from udr_training.pool.curation import choose, lost_labels, write_curated
    from udr_training.pool.scores import read_scores

    folder = one_task(tasks_folder, tasks)
    refuse_existing(out)
    rows = folder.rows("train")
    choice = choose(rows, read_scores(scores, folder.task, rows), keep)
    written = write_curated(folder, choice, out)
    reasons = Counter(dropped.reason.partition(":")[0] for dropped in choice.dropped)
    if lost := lost_labels(folder.task, rows, choice):
        names = ", ".join(map(repr, lost))
        STATUS.notice(f"no row is kept of {len(lost)} of {len(folder.task.labels)} labels, {names}; see dropped.jsonl")
    if as_json:
        numbers = {"rows": len(rows), "kept": len(choice.kept), "dropped": len(choice.dropped)}
        print_json({"folder": str(written), **numbers, "reasons": dict(reasons), "lost_labels": list(lost)})
    else:
        why = ", ".join(f"{number} by {reason}" for reason, number in reasons.items())
        print_text(f"{written}: kept {len(choice.kept)} of {len(rows)} rows{f'; dropped {why}' if why else ''}")
