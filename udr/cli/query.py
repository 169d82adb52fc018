"""The options for a query, and for the index or service that answers it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from udr.cli.options import AllowHub, Device, EngineName
from udr.errors import ConfigError
from udr.retrieval import DEFAULT_K, RetrievalRequest
from udr.types import Fields

if TYPE_CHECKING:
    from udr.client import Client
    from udr.retrieval import Retriever


@dataclass(frozen=True, kw_only=True)
class Query:
    """The options for the query, and for the index or service that answers it."""

    index: Annotated[
        str | None, Argument(help="The index directory; omit it with --url.", metavar="DIR", show_default=False)
    ] = None
    text: Annotated[
        str | None, Argument(help="The query as plain text, if the task has one field.", metavar="[TEXT]")
    ] = None
    url: Annotated[str | None, Option(help="Query the service at this URL, with the key in UDR_API_KEY.")] = None
    input: Annotated[
        list[str] | None,
        Option("--input", help="A field of the query, or one of its choices; can be repeated.", metavar="FIELD=VALUE"),
    ] = None
    k: Annotated[
        int | None, Option("--k", help="The number of demonstrations; all if there are fewer.", show_default="8")
    ] = None
    device: Device = None
    engine: EngineName = None
    allow_hub: AllowHub = False

    def __post_init__(self) -> None:
        if self.url is None and not self.index:
            raise ConfigError("name an index directory, DIR, or a service, --url; found neither")
        if self.url is not None:
            from udr.store import is_index

            # With a query elsewhere, or if it is one, the first argument is an index; else it is the text.
            elsewhere = self.text is not None or bool(self.input)
            if self.index is not None and (elsewhere or (self.index and is_index(self.index))):
                raise ConfigError(f"omit the index directory with --url; found {self.index!r}")
            self.refuse_local()
            object.__setattr__(self, "text", self.index)
        elif self.text is None and not self.input and not self._is_place():
            raise ConfigError(
                f"name an index directory before the query, or a service, --url; found only {self.index!r}"
            )

    def _is_place(self) -> bool:
        from udr.files import remote_url

        # Of a text that is too long for a name, `Path.exists` raises.
        return self.index is not None and (remote_url(self.index) is not None or os.path.exists(self.index))

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
        query, choices = dict[str, str | list[str]](), list[str]()
        for field in self.input or ():
            name, sign, value = field.partition("=")
            if not sign or not name:
                plain = "plain text is given after DIR, without --input"
                raise ConfigError(f"--input must be FIELD=VALUE, found {field!r}; {plain}")
            if name == "choices":
                choices.append(value)
            elif name in query:
                raise ConfigError(f"--input gives the field {name!r} twice")
            else:
                query[name] = value
        if choices:
            # A single one is a text, which may list them in words of its own.
            query["choices"] = choices if len(choices) > 1 else choices[0]
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

            assert self.index is not None, "checked above"
            version = open_version(local_index(self.index))
            # Before the encoder is loaded.
            make_plan(version.manifest, request)
            with Retriever.of_version(
                version, device=self.device, engine=self.engine, fp16=fp16, allow_hub=self.allow_hub
            ) as retriever:
                yield retriever
