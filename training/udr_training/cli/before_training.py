"""What ``udr train`` says before it trains: which test rows it will leave out, and with ``--dry-run``, the costs."""

import json
from functools import cache
from pathlib import Path

from udr.cli import STATUS, naming_flags, print_text
from udr.data import ENOUGH_TEST_ROWS, Collection, Kind, few_test_rows, sample
from udr.types import Json
from udr_training.answering import check_metric, is_remote
from udr_training.config import RunConfig
from udr_training.evaluation import FOLDER, check_claim, count_rows, how_to_split, how_to_use_more, untested
from udr_training.feedback import check_lm


def foretell(collection: Collection, config: RunConfig, test_rows: int, out: Path) -> None:
    """Say before anything is computed which tasks and test rows the final evaluation will leave out, and why.

    Raises:
        MissingExtraError: a metric's package is not installed.
        ConfigError: the directory of the evaluation contains something else.
    """
    lacking = untested(collection)
    tested = collection.tasks.keys() - set(lacking)
    for name in tested:
        check_metric(collection.tasks[name].task.metric)
    if tested and config.feedback.is_told and not is_remote(config.feedback.lm):
        # No pair is scored by it, so nothing has looked for it yet.
        check_lm(config.feedback.lm)
    if tested and not is_remote(config.feedback.lm):
        with naming_flags({"give another --output": "remove it"}):
            check_claim(out / FOLDER, {})
        # Not of the pools, which may be large, and are read by the run.
        counts = {name: len(folder.rows("test")) for name, folder in collection.tasks.items() if name in tested}
        if left_out := {name: count for name, count in counts.items() if test_rows < count}:
            used = ", ".join(f"{test_rows:,} of {count:,} of {name}" for name, count in left_out.items())
            most = max(left_out.values())
            STATUS.notice(f"the evaluation uses not all test rows ({used}); --test-rows {most} uses all")
    if is_remote(config.feedback.lm):
        why = "a server's answers may cost money, so it is asked only by udr evaluate"
    elif lacking:
        which = "no task has" if len(lacking) == len(collection.tasks) else f"{', '.join(lacking)}: no"
        why = f"{which} test rows; {how_to_split(collection, lacking)}"
    else:
        return
    STATUS.notice(f"whether training pays will not be measured: {why}")


def check_test_rows(collection: Collection, config: RunConfig, test_rows: int) -> None:
    """Check the rows of the final evaluation, which else would end with an error after hours of training.

    Raises:
        ConfigError: one is too long for a search.
        FeedbackError: one is too long for the window of the language model.
    """
    from udr_training.evaluation.retrievers import check_query
    from udr_training.feedback import prompt_of
    from udr_training.feedback.local import ModelTokenizer

    names = collection.tasks.keys() - set(untested(collection))
    if not names or is_remote(config.feedback.lm):
        return
    tokenizer = ModelTokenizer.load(config.feedback.lm)
    for name in names:
        task = collection.tasks[name].task
        # How long a generated answer may be, the pool tells later.
        room = 0 if task.kind is Kind.GENERATION else None
        for row in sample(collection.tasks[name].rows("test"), test_rows, config.seed):
            check_query(task, row)
            prompt_of(tokenizer, task, row, (), answer_tokens=room)


def print_plan(
    tasks: Path,
    out: Path,
    collection: Collection,
    config: RunConfig,
    feedback: Path | None,
    processes: int,
    test_rows: int,
    *,
    as_json: bool,
) -> None:
    """Measure and print what a run and its evaluation would cost; the arguments are those of ``udr train``."""
    # Here, since these imports take seconds.
    from udr_training.evaluation import forecast
    from udr_training.feedback import load_local
    from udr_training.runs import clock, plan_run

    def on_estimate(text: str) -> None:
        STATUS.begin(f"{text}; measuring...")

    # Loaded once for both, and only a model in this process.
    load = None if is_remote(config.feedback.lm) else cache(lambda: load_local(config.feedback))
    plan = plan_run(out, collection, config, feedback, on_estimate, processes, load)
    STATUS.begin("evaluation: measuring...")
    after_it = forecast(collection, config, test_rows, load) if test_rows else None
    if as_json:
        evaluated: dict[str, Json] = {"evaluation": None if after_it is None else after_it.to_json()}
        print_text(json.dumps(plan.to_json() | evaluated))
        return
    told = None if after_it is None else (after_it.line(f"about {clock(after_it.seconds)}"), after_it.seconds)
    print_text("\n".join(plan.lines(told)))
    if after_it is not None:
        rows = count_rows(collection, test_rows)
        most = max(count.test for count in rows.values())
        remedy = how_to_use_more(tasks, rows, ENOUGH_TEST_ROWS, f"--test-rows {most}")
        if few := few_test_rows(sum(after_it.rows.values()), remedy):
            print_text(few)
