"""The commands ``udr retrieve`` and ``udr prompt``: over an index in process, or over a service."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli.console import Fp16, print_json, print_text
from udr.errors import ConfigError
from udr.models import load_tokenizer
from udr.prompts import BuildingOptions, Format, Layout, Order, PromptBuilder
from udr.retrieval import Decision, Mode, Retrieval, SelectionOptions
from udr.types import Fields

if TYPE_CHECKING:
    from udr.client import Client
    from udr.retrieval import Retriever

_Where = Annotated[str, typer.Argument(help="The index directory; none with --url.", metavar="DIR", show_default=False)]
_Text = Annotated[
    str | None, typer.Argument(help="The query as plain text, where one field is enough.", metavar="[TEXT]")
]
_Url = Annotated[str | None, typer.Option(help="Ask the service there; with UDR_API_KEY, if that is set.")]
_Input = Annotated[
    list[str] | None, typer.Option("--input", help="One field of the query; repeat for others.", metavar="FIELD=VALUE")
]
_K = Annotated[int, typer.Option("--k", help="How many demonstrations.")]
_Exclude = Annotated[list[str] | None, typer.Option(help="An id to leave out; repeat for others.")]
_KeepCopies = Annotated[bool, typer.Option("--keep-copies", help="Let the query itself and its copies come back.")]
_MinSimilarity = Annotated[float | None, typer.Option(help="Leave out what is less similar.")]
_MaxSimilarity = Annotated[float | None, typer.Option(help="Leave out what is more similar.")]
_ModeOption = Annotated[
    Mode, typer.Option("--mode", help="What ranks: the encoder, the words shared with the query, or both.")
]
_Distinct = Annotated[float | None, typer.Option(help="Of near copies, of at least this cosine, keep the best.")]
_Diversity = Annotated[float | None, typer.Option(help="From 0 to 1: how much being unlike the others counts.")]
_Balance = Annotated[bool, typer.Option("--balance", help="Choose in rounds, one of each label.")]
_Candidates = Annotated[int | None, typer.Option(help="From how many to choose, and how many to explain.")]
_Explain = Annotated[bool, typer.Option("--explain", help="Tell what became of each candidate, and why.")]
_Device = Annotated[str | None, typer.Option(help="Where the encoder and the search run: cpu, cuda, ...")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def retrieve(
    index: _Where = "",
    text: _Text = None,
    url: _Url = None,
    task: Annotated[str | None, typer.Option(help="Search this task.")] = None,
    family: Annotated[str | None, typer.Option(help="Search this family's tasks.")] = None,
    scope: Annotated[str | None, typer.Option(help="'all' searches every task.")] = None,
    k: _K = 8,
    input: _Input = None,
    exclude: _Exclude = None,
    keep_copies: _KeepCopies = False,
    min_similarity: _MinSimilarity = None,
    max_similarity: _MaxSimilarity = None,
    mode: _ModeOption = "dense",
    distinct: _Distinct = None,
    diversity: _Diversity = None,
    balance: _Balance = False,
    candidates: _Candidates = None,
    explain: _Explain = False,
    device: _Device = None,
    fp16: Fp16 = False,
    as_json: _AsJson = False,
) -> None:
    """Print the demonstrations that fit a query best."""
    where, text = _where(index, text, url)
    query = _query(text, input)
    options = SelectionOptions(
        exclude=tuple(exclude or ()),
        keep_copies=keep_copies,
        min_similarity=min_similarity,
        max_similarity=max_similarity,
        mode=mode,
        distinct=distinct,
        diversity=diversity,
        balance=balance,
        candidates=candidates,
        explain=explain,
    )
    with _opened(where, url, device, fp16=fp16) as source:
        retrieval = source.retrieve(task, query, k, family=family, scope=scope, **options)
    if as_json:
        print_json(retrieval.to_json())
        return
    print_text(_listing(retrieval))
    if explain:
        print_text("\n" + table(retrieval.decisions))


def prompt(
    task: Annotated[str, typer.Option(help="The task to build a prompt for.", show_default=False)],
    budget: Annotated[int, typer.Option(help="Tokens of prompt and answer together.", show_default=False)],
    index: _Where = "",
    text: _Text = None,
    url: _Url = None,
    k: _K = 8,
    reserve: Annotated[int, typer.Option(help="Tokens of the budget kept for the answer.")] = 0,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Counts the tokens: a hub name, a path, package:NAME; else the encoder's, or the service's."),
    ] = None,
    format: Annotated[Format, typer.Option(help="One text, chat messages, or records.")] = Format.TEXT,
    order: Annotated[Order, typer.Option(help="In which order demonstrations are shown.")] = Order.NEAREST_LAST,
    seed: Annotated[int, typer.Option(help="Of the order shuffle.")] = 0,
    layout: Annotated[Layout, typer.Option(help="Where messages show demonstrations.")] = Layout.TURNS,
    list_options: Annotated[
        bool, typer.Option("--list-options", help="Name the labels after the instruction.")
    ] = False,
    truncate: Annotated[str | None, typer.Option(help="The field of the query that may be cut to fit.")] = None,
    input: _Input = None,
    exclude: _Exclude = None,
    keep_copies: _KeepCopies = False,
    min_similarity: _MinSimilarity = None,
    max_similarity: _MaxSimilarity = None,
    mode: _ModeOption = "dense",
    distinct: _Distinct = None,
    diversity: _Diversity = None,
    balance: _Balance = False,
    candidates: _Candidates = None,
    explain: _Explain = False,
    device: _Device = None,
    as_json: _AsJson = False,
) -> None:
    """Print a prompt: as many demonstrations as fit the token budget, the best first to be taken, and the query."""
    where, text = _where(index, text, url)
    query = _query(text, input)
    selection = SelectionOptions(
        exclude=tuple(exclude or ()),
        keep_copies=keep_copies,
        min_similarity=min_similarity,
        max_similarity=max_similarity,
        mode=mode,
        distinct=distinct,
        diversity=diversity,
        balance=balance,
        candidates=candidates,
        explain=explain,
    )
    building = BuildingOptions(order=order, seed=seed, layout=layout, list_options=list_options, truncate=truncate)
    from udr.client import Client

    with _opened(where, url, device) as source:
        if isinstance(source, Client) and tokenizer is None:
            built = source.prompt(
                task, query, k=k, budget=budget, reserve=reserve, format=format, **selection, **building
            )
        else:
            tasks = source.tasks() if isinstance(source, Client) else source.tasks
            counter = tokenizer if isinstance(source, Client) else tokenizer or source.tokenizer
            retrieval = source.retrieve(task, query, k, **selection)
            builder = PromptBuilder(load_tokenizer(str(counter)), budget, reserve, **building)
            built = builder.build(tasks[task], query, retrieval, format)
    if as_json:
        print_json(built.to_json())
    elif built.text is not None:
        print_text(built.text)
    else:
        print_json(built.to_json()["messages" if built.messages is not None else "records"])
    if explain and not as_json:
        typer.echo("\n" + table(built.decisions), err=True)


@contextmanager
def _opened(
    where: Path | None, url: str | None, device: str | None, *, fp16: bool = False
) -> "Iterator[Client | Retriever]":
    """Open what is asked: an index, or a service."""
    if url is not None:
        from udr.client import Client

        with Client(url) as client:
            yield client
    elif where is not None:
        from udr.retrieval import Retriever

        with Retriever.open(where, device=device, fp16=fp16) as retriever:
            yield retriever


def _where(index: str, text: str | None, url: str | None) -> tuple[Path | None, str | None]:
    """Return the index directory and the query's text; a service has no directory, so the first word is the text."""
    if url is None:
        if not index:
            raise ConfigError("say what to ask: an index directory, DIR, or a service, --url; found neither")
        return Path(index), text
    if index and text is not None:
        raise ConfigError(f"with --url there is no index directory; found {index!r}")
    return None, index or None


def _query(text: str | None, fields: Sequence[str] | None) -> Fields | str:
    if (text is None) == (not fields):
        found = "neither" if text is None else "both"
        raise ConfigError(f"give the query either as TEXT or as --input FIELD=VALUE; found {found}")
    if text is not None:
        return text
    query: dict[str, str] = {}
    for field in fields or ():
        name, sign, value = field.partition("=")
        if not sign or not name:
            raise ConfigError(f"--input must be FIELD=VALUE, found {field!r}")
        if name in query:
            raise ConfigError(f"--input gives the field {name!r} twice")
        query[name] = value
    return query


def _listing(retrieval: Retrieval) -> str:
    return "\n".join(
        f"{found.rank:>3}  {found.similarity:.5f}  {found.task}  {found.id}\n     "
        + found.text.replace("\n", "\n     ")
        for found in retrieval
    )


def table(decisions: Sequence[Decision]) -> str:
    """Return decisions as lines of text, a candidate a line, the nearest first."""
    width = max((len(f"{one.task}/{one.id}") for one in decisions), default=0)
    return "\n".join(
        f"{'+' if one.kept else '-'}  {one.similarity:>9.5f}  {f'{one.task}/{one.id}':<{width}}  "
        f"{one.stage:<14}  {one.reason}"
        for one in decisions
    )
