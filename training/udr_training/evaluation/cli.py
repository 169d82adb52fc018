"""The command ``udr evaluate``."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from udr.cli import (
    STATUS,
    check_tokenizers,
    expand_options,
    help_groups,
    names_of,
    naming_flags,
    print_json,
    print_text,
    refuse_unused,
)
from udr.errors import ConfigError, naming
from udr.models import DEFAULT_LM, RunnerOptions
from udr_training.config import (
    ServerOptions,
    TaskNames,
    TasksFolder,
    quiet,
    show_progress,
)

_FLAGS = {
    "^(shots|limit|pool|seed) must": r"--\1 must",
    "^oracle_(candidates|context) must": r"--oracle-\1 must",
    "^(the baseline '.*' is not)": r"--baseline: \1",
    "^(the retriever '.*' is named twice|there are no retrievers)": r"--retrievers: \1",
}
"""The options that set what errors of the configuration name."""


@expand_options
@help_groups(
    {
        "Tasks": "tasks limit pool seed",
        "Retrievers": "retrievers baseline shots oracle_candidates oracle_context",
        "Language model": "lm device dtype runner workers gpus_per_worker ray_address",
        "If the language model is a server": "layout list_options budget tokenizer answer_form lm_set",
        "What a server may cost": "max_requests max_tokens max_cost prices",
        "Output": "output dry_run as_json",
    }
)
def evaluate(
    tasks_folder: TasksFolder,
    retrievers: Annotated[
        str,
        typer.Option(
            help="The retrievers, separated by commas: random, oracle, bm25, dense, hybrid, encoders, run directories, "
            "index directories, URLs of services. Those that search take options: 'NAME?option=value&option=value'."
        ),
    ],
    tasks: TaskNames = None,
    lm: Annotated[
        str,
        typer.Option(
            "--lm",
            help="The language model that answers: a hub name, a path, package:NAME, or the address of a server, "
            "http://HOST/v1?model=NAME&api=chat (or api=completions).",
        ),
    ] = DEFAULT_LM,
    shots: Annotated[
        str, typer.Option(help="Demonstrations per prompt: one or more numbers, separated by commas.")
    ] = "4",
    baseline: Annotated[
        str | None,
        typer.Option(help="The retriever that others are compared with.", show_default="bm25, else the first"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Test rows per task, sampled by seed.", min=1, show_default="all")
    ] = None,
    pool: Annotated[int | None, typer.Option(help="Rows per pool, sampled by seed.", min=1, show_default="all")] = None,
    seed: Annotated[int, typer.Option(help="The seed of samples and random demonstrations.", min=0)] = 0,
    oracle_candidates: Annotated[
        int | None, typer.Option(help="Candidates that the oracle scores per row.", show_default="12")
    ] = None,
    oracle_context: Annotated[
        int | None, typer.Option(help="Demonstrations that the oracle shows before each candidate.", show_default="0")
    ] = None,
    device: Annotated[str | None, typer.Option(help="The language model's device.", show_default="cpu")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="The precision of the language model's weights.", show_default="float32")
    ] = None,
    layout: Annotated[
        str, typer.Option(help="Where a server's chat messages show demonstrations: turns or system.")
    ] = "turns",
    list_options: Annotated[
        bool, typer.Option("--list-options", help="List the possible answers in a server's prompts.")
    ] = False,
    budget: Annotated[int, typer.Option(help="Tokens of a server's prompt and answer together.")] = 8192,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="The model whose tokenizer counts a server's prompts.", show_default="an estimate"),
    ] = None,
    answer_form: Annotated[
        str, typer.Option(help="How a server is asked to answer: text, json, or schema (structured output).")
    ] = "text",
    server: ServerOptions = ServerOptions(),  # noqa: B008
    output: Annotated[
        Path | None,
        typer.Option(
            help="The directory of the report and the answers, or its URL; an interrupted evaluation resumes."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count the requests to a server and their tokens, and ask nothing.")
    ] = False,
    runner: RunnerOptions = RunnerOptions(),  # noqa: B008
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and the table to stderr.")] = False,
) -> None:
    """Compare retrievers by how well a language model answers with their demonstrations, and say which is better."""
    from udr.data import ENOUGH_TEST_ROWS, few_test_rows, open_collection
    from udr.files import remote_url
    from udr_training.answering import PromptSettings, is_remote
    from udr_training.evaluation.answers import ModelOptions, check_claim
    from udr_training.evaluation.config import EvaluationConfig, check_retrievers, check_tasks
    from udr_training.evaluation.retrievers import ORACLE, split_unquoted
    from udr_training.feedback import check_lm
    from udr_training.run_folder import upload_copy, working_copy

    named = tuple(name.strip() for name in split_unquoted(retrievers, ",") if name.strip())
    if ORACLE not in named:
        oracle = {"--oracle-candidates": oracle_candidates, "--oracle-context": oracle_context}
        refuse_unused(oracle, f"{ORACLE} among --retrievers")
    if is_remote(lm):
        refuse_unused({"--device": device, "--dtype": dtype}, "a language model in this process")
    with naming_flags(_FLAGS):
        config = EvaluationConfig(
            retrievers=named,
            shots=_numbers(shots),
            baseline=baseline,
            limit=limit,
            pool=pool,
            seed=seed,
            **_given(oracle_candidates=oracle_candidates, oracle_context=oracle_context),
        )
    options = ModelOptions(
        name=lm,
        prompts=PromptSettings.read(
            layout=layout, list_options=list_options, budget=budget, tokenizer=tokenizer, form=answer_form
        ),
        settings=tuple(server.lm_set or ()),
        budget=server.budget(lm),
        runner=runner,
        **_given(device=device, dtype=dtype),
    )
    collection = open_collection(tasks_folder, names_of(tasks))
    check_retrievers(config.retrievers)
    with naming_flags({"^model ": "--lm: model "}):
        check_lm(lm)
    if tokenizer is not None:
        check_tokenizers([tokenizer])
    place = output
    if output is not None:
        output = working_copy(output)
        check_claim(output, {"lm_dtype": options.asked_by, "pool": pool, "seed": seed})
    check_tasks(collection, max(config.shots), pool=pool)

    if dry_run:
        from udr_training.evaluation.config import count_rows, how_to_use_more
        from udr_training.evaluation.requests import plan_requests

        if not is_remote(lm):
            raise ConfigError(f"--dry-run counts the requests to a server; --lm {lm} runs in this process")
        plan = plan_requests(collection, config, options, output)
        if as_json:
            print_json(plan.to_json())
        else:
            print_text(plan.line)
            remedy = how_to_use_more(tasks_folder, count_rows(collection, limit), ENOUGH_TEST_ROWS, "omit --limit")
            if few := few_test_rows(plan.test_rows, remedy):
                print_text(few)
        return

    # After the checks above, since these imports take seconds.
    quiet()
    from udr_training.answering import Parsing
    from udr_training.evaluation.evaluate import evaluate
    from udr_training.evaluation.report import points, report_json, table, with_shots, write_report
    from udr_training.evaluation.results import TaskResult
    from udr_training.evaluation.verdict import verdict

    def show(result: TaskResult) -> None:
        label = config.labels[result.retriever]
        shots = f", {with_shots(result.shots)}" if len(config.shots) > 1 else ""
        unparsable = result.parsing.get(Parsing.UNPARSABLE, 0)
        wrong = f", {unparsable} of {result.num_rows} answers unparsable" if unparsable else ""
        STATUS.notice(f"{result.task}, {label}{shots}: {points(result.estimate.value)}{wrong}")

    with nullcontext() if output is None else naming(output), options.opened(output) as model:
        evaluation = evaluate(
            collection,
            model,
            config,
            output=output,
            report=show,
            progress=show_progress,
            processes=runner.processes,
        )
        if output is not None:
            STATUS.begin("writing the report...")
            write_report(output, evaluation, collection)
            upload_copy(output)
    if spent := evaluation.config.get("spent"):
        STATUS.notice(f"spent in all: {spent}")
    if place is not None:
        STATUS.notice(f"the report is {remote_url(place) or place}/report.html")
    text = f"{table(evaluation)}\n\n{verdict(evaluation).text}"
    if as_json:
        STATUS.finish()
        typer.echo(text, err=True)
        print_json(report_json(evaluation))
    else:
        print_text(text)


def _given(**options: object) -> dict[str, Any]:
    """Return the options that are given; the others keep the defaults of what they are passed to."""
    return {name: value for name, value in options.items() if value is not None}


def _numbers(listed: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in listed.split(","))
    except ValueError as error:
        raise ConfigError(f"--shots must be whole numbers separated by commas, found {listed!r}") from error
