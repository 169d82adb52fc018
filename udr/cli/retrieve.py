"""The commands ``udr retrieve`` and ``udr prompt``: with an index in this process, or with a service."""

import sys
from dataclasses import MISSING, fields
from typing import Annotated, NotRequired, TypedDict

from typer import Option, echo

from udr.cli.console import expand_options, naming_flags, print_json, print_text
from udr.cli.help import help_groups
from udr.cli.options import AsJson, Fp16
from udr.cli.query import Query
from udr.cli.selection import Building, Selection
from udr.cli.status import STATUS
from udr.cli.tables import demonstrations, table
from udr.prompts import Format
from udr.retrieval import RetrievalOptions, RetrievalRequest, SelectionOptions

_FLAGS = {
    r"^the (budget|reserve) must": r"--\1 must",
    **{f"^{name}(?= )": f"--{name.replace('_', '-')}" for name in ("k", "scope", *SelectionOptions.__annotations__)},
    "above max_similarity": "above --max-similarity",
    ", so min_similarity": ", so --min-similarity",
    r"^((the|a) (filter|condition|range)|filters |unknown key .* of a filter|\w+ of a (filter|condition) )": (
        r"--filter: \1"
    ),
    r"^engine (?=must|')": "--engine ",
    "^give exactly one of task, family and scope": "give exactly one of --task, --family and --scope",
    r"^unknown (task|family)": r"--\1: unknown \1",
    "^(task .* has no field .* to truncate)": r"--truncate: \1",
    "^(field .* of task|task .* has |a query over )": r"--input: \1",
    "give each field by name$": "give each as --input FIELD=VALUE",
    "give its choices as a list .*$": "give each as --input choices=CHOICE",
}
"""The options that set what errors of requests name."""


class _Room(TypedDict):
    budget: int
    reserve: NotRequired[int]


def _building_defaults() -> dict[str, str]:
    """Return the defaults of ``PromptBuilder``, by name."""
    from udr.prompts import PromptBuilder

    return {
        each.name: str(each.default) for each in fields(PromptBuilder) if each.default not in (MISSING, None, False)
    }


_QUERY = "Query"
_SOURCE = "Index or service"

_SELECTION = {
    "Selection": "exclude filter keep_copies max_copy min_similarity max_similarity mode weight label_head",
    "Selection among candidates": "candidates distinct diversity coverage balance fill",
    "Output": "explain as_json",
}


@expand_options
@help_groups({_QUERY: "task family scope input k", _SOURCE: "url device engine fp16 allow_hub", **_SELECTION})
def retrieve(
    query: Query,
    selection: Selection,
    task: Annotated[str | None, Option(help="Search this task.")] = None,
    family: Annotated[str | None, Option(help="Search this family's tasks.")] = None,
    scope: Annotated[str | None, Option(help="Search every task, with the value all.")] = None,
    fp16: Fp16 = False,
    as_json: AsJson = False,
) -> None:
    """Print the best demonstrations for a query."""
    options: RetrievalOptions = {"family": family, "scope": scope, **selection.options()}
    request = RetrievalRequest.of(task, query.value(), query.count, options)
    with naming_flags(_FLAGS), query.source(request, fp16=fp16) as source:
        retrieval = source.retrieve(task, request.input, query.count, **options)
    if as_json:
        print_json(retrieval.to_json())
        return
    # Scripts read the lines as they are.
    titles = sys.stdout is not None and sys.stdout.isatty()
    print_text(demonstrations(retrieval, titles=titles))
    if selection.explain:
        print_text("\n" + table(retrieval.decisions, titles=titles))


@expand_options
@help_groups(
    {
        _QUERY: "task input k",
        _SOURCE: "url device engine allow_hub",
        "Prompt": "budget reserve tokenizer format order seed layout list_options truncate",
        **_SELECTION,
    },
    _building_defaults,
)
def prompt(
    task: Annotated[str, Option(help="The task to build a prompt for.", show_default=False)],
    budget: Annotated[int, Option(help="The tokens for prompt and answer together.", show_default=False)],
    query: Query,
    building: Building,
    selection: Selection,
    reserve: Annotated[
        int | None, Option(help="The tokens of the budget to keep for the answer.", show_default="0")
    ] = None,
    tokenizer: Annotated[
        str | None,
        Option(
            help="The tokenizer: a hub name, a path, or package:NAME. With --url, the prompt is then built here, and "
            "has no prompt_id.",
            show_default="that of the index or service",
        ),
    ] = None,
    format: Annotated[Format, Option(help="Print one text, chat messages, or records.")] = Format.TEXT,
    as_json: AsJson = False,
) -> None:
    """Print a prompt: as many of the best demonstrations as fit the token budget, and the query."""
    from udr.client import Client
    from udr.models import load_tokenizer
    from udr.prompts import PromptBuilder

    input, selected = query.value(), selection.options()
    options = building.options(format)
    room: _Room = {"budget": budget} if reserve is None else {"budget": budget, "reserve": reserve}
    request = RetrievalRequest.of(task, input, query.count, selected)
    # The tokenizer first, since it is loaded sooner than an encoder.
    with naming_flags({"^": "--tokenizer: "}):
        counting = None if tokenizer is None else load_tokenizer(tokenizer)
    with naming_flags(_FLAGS), query.source(request) as source:
        own = None if isinstance(source, Client) else source.tokenizer
        if isinstance(source, Client) and counting is None:
            result = source.prompt(task, input, k=query.count, format=format, **room, **selected, **options)
        else:
            counter = counting or load_tokenizer(str(own))
            builder = PromptBuilder(counter, **room, **options)
            retrieval = source.retrieve(task, input, query.count, **selected)
            result = builder.build(source.tasks[task], input, retrieval, format)
    if result.skipped:
        shown, asked = len(result.demonstrations), len(result.demonstrations) - result.filled + result.skipped
        others = "the others do" if shown else "it does" if asked == 1 else "they do"
        remedy = "raise it" if not reserve else f"raise it or lower --reserve {reserve}"
        STATUS.notice(
            f"the prompt shows {shown} of {asked} demonstrations: {others} not fit --budget {budget}; {remedy}"
        )
    if as_json:
        print_json(result.to_json())
    elif result.text is not None:
        print_text(result.text)
    else:
        print_json(result.to_json()["messages" if result.messages is not None else "records"])
    if selection.explain and not as_json:
        echo("\n" + table(result.decisions, titles=sys.stderr.isatty()), err=True)
