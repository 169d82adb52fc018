"""The options for choosing demonstrations, and for building a prompt of them."""

from dataclasses import asdict, dataclass
from typing import Annotated, cast

from typer import Option

from udr.cli.console import refuse_unused
from udr.prompts import BuildingOptions, Format, Layout, Order
from udr.retrieval import Mode, SelectionOptions


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
    candidates: Annotated[
        int | None,
        Option(
            help="How many candidates other options choose from, or explain.",
            show_default="four times k, and at least 50",
        ),
    ] = None
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
    list_options: Annotated[
        bool, Option("--list-options", help="List the labels, or the query's choices, after the instruction.")
    ] = False
    truncate: Annotated[str | None, Option(help="The field of the query to truncate if it does not fit.")] = None

    def options(self, format: Format) -> BuildingOptions:
        """Return those that are given; ``ConfigError`` if one has no effect on a prompt of the format."""
        if self.order is not Order.SHUFFLE:
            refuse_unused({"--seed": self.seed}, "--order shuffle")
        if format is not Format.MESSAGES:
            refuse_unused({"--layout": self.layout}, "--format messages")
        given = {name: value for name, value in asdict(self).items() if value is not None and value is not False}
        return cast("BuildingOptions", given)
