"""The commands ``udr retrieve`` and ``udr prompt``: with an index in this process, or with a service."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NotRequired, TypedDict, cast

from typer import Argument, Option, echo

from udr.cli.console import expand_options, naming_flags, print_json, print_text, refuse_unused
from udr.cli.help import help_groups
from udr.cli.options import AllowHub, AsJson, EngineName, Fp16
from udr.cli.status import STATUS
from udr.cli.tables import demonstrations, table
from udr.errors import ConfigError
from udr.prompts import BuildingOptions, Format, Layout, Order
from udr.retrieval import (
    DEFAULT_K,
    Mode,
    RetrievalOptions,
    RetrievalRequest,
    SelectionOptions,
)
from udr.types import Fields

if TYPE_CHECKING:
    from udr.client import Client
    from udr.retrieval import Retriever

_FLAGS = {
    r"^the (budget|reserve) must": r"--\1 must",
    r"^(k|exclude|candidates|mode|diversity|distinct|balance|explain|fill|scope)(?= )": r"--\1",
    r"^engine (?=must|')": "--engine ",
    r"^(keep|max|min|label)_(\w+)": r"--\1-\2",
    "^give exactly one of task, family and scope": "give exactly one of --task, --family and --scope",
    r"^unknown (task|family)": r"--\1: unknown \1",
    "^(task .* has no field .* to truncate)": r"--truncate: \1",
    "^(field .* of task|task .* has |a query over )": r"--input: \1",
    "give each field by name$": "give each as --input FIELD=VALUE",
}
"""The options that set what errors of requests name."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """The options for the query, and for the index or service that answers it."""

    index: Annotated[
        str, Argument(help="The index directory; omit it with --url.", metavar="DIR", show_default=False)
    ] = ""
    text: Annotated[
        str | None, Argument(help="The query as plain text, if the task has one field.", metavar="[TEXT]")
    ] = None
    url: Annotated[str | None, Option(help="Query the service at this URL, with the key in UDR_API_KEY.")] = None
    input: Annotated[
        list[str] | None, Option("--input", help="A field of the query; can be repeated.", metavar="FIELD=VALUE")
    ] = None
    k: Annotated[
        int | None, Option("--k", help="The number of demonstrations.", show_default="8, or all if there are fewer")
    ] = None
    device: Annotated[
        str | None,
        Option(
            help="The device for the encoder and the search: cpu, cuda, ...",
            show_default="a GPU if there is one, else cpu",
        ),
    ] = None
    engine: EngineName = None
    allow_hub: AllowHub = False

    def __post_init__(self) -> None:
        if self.url is None and not self.index:
            raise ConfigError("name an index directory, DIR, or a service, --url; found neither")
        if self.url is not None:
            from udr.store import is_index

            # With a query elsewhere, or if it is one, the first argument is an index; else it is the text.
            if self.index and (self.text is not None or self.input or is_index(self.index)):
                raise ConfigError(f"omit the index directory with --url; found {self.index!r}")
            self.refuse_local()
            object.__setattr__(self, "text", self.index or None)
        elif self.text is None and not self.input and not self._is_place():
            raise ConfigError(
                f"name an index directory before the query, or a service, --url; found only {self.index!r}"
            )

    def _is_place(self) -> bool:
        from udr.files import remote_url

        return remote_url(self.index) is not None or Path(self.index).exists()

    def refuse_local(self, *, fp16: bool = False) -> None:
        """Raise ``ConfigError`` if an option is set that a service has itself."""
        own = {"device": self.device, "engine": self.engine, "allow-hub": self.allow_hub, "fp16": fp16}
        for name, value in own.items():
            if value:
                found = "" if value is True else f"; found {value!r}"
                raise ConfigError(f"omit --{name} with --url, since the service has its own{found}")

    @property
    def count(self) -> int:
        """The number of demonstrations."""
        return DEFAULT_K if self.k is None else self.k

    def value(self) -> Fields | str:
        """Return the text, or the fields by name."""
        if (self.text is None) == (not self.input):
            number = "neither" if self.text is None else "both"
            raise ConfigError(f"give the query either as TEXT or as --input FIELD=VALUE; found {number}")
        if self.text is not None:
            return self.text
        query: dict[str, str] = {}
        for field in self.input or ():
            name, sign, value = field.partition("=")
            if not sign or not name:
                raise ConfigError(f"--input must be FIELD=VALUE, found {field!r}")
            if name in query:
                raise ConfigError(f"--input gives the field {name!r} twice")
            query[name] = value
        return query

    @contextmanager
    def source(self, request: RetrievalRequest, *, fp16: bool = False) -> "Iterator[Client | Retriever]":
        """Check a request and open the index, or connect to the service, which checks it."""
        if self.url is not None:
            from udr.client import Client

            self.refuse_local(fp16=fp16)
            with Client(self.url) as client:
                yield client
        else:
            from udr.retrieval import Retriever, make_plan
            from udr.store import local_index, open_version

            version = open_version(local_index(self.index))
            # Before the encoder is loaded.
            make_plan(version.manifest, request)
            with Retriever.of_version(
                version, device=self.device, engine=self.engine, fp16=fp16, allow_hub=self.allow_hub
            ) as retriever:
                yield retriever


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The options for choosing demonstrations; the names and defaults of ``RetrievalRequest``."""

    exclude: Annotated[list[str] | None, Option(help="An id to exclude; can be repeated.")] = None
    filter: Annotated[
        str | None, Option(help='Search only rows that pass, such as: site = "imdb" and stars >= 3.', metavar="FILTER")
    ] = None
    keep_copies: Annotated[bool, Option("--keep-copies", help="Include the query itself and its copies.")] = False
    max_copy: Annotated[float | None, Option(help="Exclude near copies of the query, above this cosine.")] = None
    min_similarity: Annotated[float | None, Option(help="Exclude demonstrations that are less similar.")] = None
    max_similarity: Annotated[float | None, Option(help="Exclude demonstrations that are more similar.")] = None
    mode: Annotated[Mode, Option("--mode", help="Rank by the encoder, by words shared with the query, or by both.")] = (
        "dense"
    )
    weight: Annotated[
        float | None,
        Option(help="How much the encoder counts in mode hybrid, 0 to 1.", show_default="what the index keeps, or 0.5"),
    ] = None
    distinct: Annotated[float | None, Option(help="Keep only the best of near copies, from this cosine up.")] = None
    diversity: Annotated[float | None, Option(help="How much being unlike those chosen counts, 0 to 1.")] = None
    coverage: Annotated[
        float | None, Option(help="How much covering the query's words and likely labels counts, 0 to 1.")
    ] = None
    balance: Annotated[bool, Option("--balance", help="Choose in rounds, one of each label.")] = False
    candidates: Annotated[int | None, Option(help="How many candidates to choose from, and to explain.")] = None
    explain: Annotated[bool, Option("--explain", help="Show what happened to each candidate, and why.")] = False
    fill: Annotated[
        bool, Option("--fill", help="Return up to --candidates instead of k, for a prompt that has room.")
    ] = False
    label_head: Annotated[
        bool | None,
        Option("--label-head/--no-label-head", help="Rank with the task's label head.", show_default="if it has one"),
    ] = None

    def options(self) -> SelectionOptions:
        """Return the keyword arguments of ``retrieve``."""
        return cast("SelectionOptions", {**asdict(self), "exclude": tuple(self.exclude or ())})


@dataclass(frozen=True, kw_only=True)
class Building:
    """The options for building a prompt, named as those of ``PromptBuilder``, which has their defaults."""

    order: Annotated[Order | None, Option(help="The order of the demonstrations.")] = None
    seed: Annotated[int | None, Option(help="The seed for --order shuffle.")] = None
    layout: Annotated[
        Layout | None, Option(help="In --format messages, show demonstrations as turns or in the system message.")
    ] = None
    list_options: Annotated[bool, Option("--list-options", help="List the labels after the instruction.")] = False
    truncate: Annotated[str | None, Option(help="The field of the query to truncate if it does not fit.")] = None

    def options(self, format: Format) -> BuildingOptions:
        """Return those that are given; ``ConfigError`` if one has no effect on a prompt of the format."""
        if self.order is not Order.SHUFFLE:
            refuse_unused({"--seed": self.seed}, "--order shuffle")
        if format is not Format.MESSAGES:
            refuse_unused({"--layout": self.layout}, "--format messages")
        given = {name: value for name, value in asdict(self).items() if value is not None and value is not False}
        return cast("BuildingOptions", given)


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
    reserve: Annotated[int | None, Option(help="The tokens of the budget to keep for the answer.")] = None,
    tokenizer: Annotated[
        str | None,
        Option(help="The tokenizer: a hub name, a path, or package:NAME.", show_default="that of the index or service"),
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
