"""The demonstrations for one call of a program, in the program's field names; saved as JSON with their source."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, cast

from udr.client import AsyncClient, Client
from udr.errors import ArtifactError, ConfigError, InvalidInputError
from udr.files import check_format
from udr.integrations.selector import Selector
from udr.retrieval import AsyncDemonstrationSource, RetrievedDemonstration, Retriever
from udr.store import copied_from
from udr.types import Fields, Json, Value

FORMAT = 1
"""The format of what ``Demos.to_json`` returns."""


@dataclass(frozen=True)
class Demos:
    """Maps a program's inputs to the demos of one call.

    Attributes:
        selector: retrieves the demonstrations.
        fields: from the task's fields to the program's inputs; None if the names are equal and all inputs are fields.
        target: the output that shows a demonstration's target; None until ``checked``.
    """

    selector: Selector
    fields: Mapping[str, str] | None
    target: str | None

    def checked(self, inputs: Sequence[str], outputs: Sequence[str]) -> Self:
        """Return a copy for a program, whose last output is the default target; ``ConfigError`` if it lacks a field."""
        if not outputs:
            raise ConfigError("the program has no predictor to show demonstrations to")
        target = outputs[-1] if self.target is None else self.target
        for kind, known, names in (("input", inputs, (self.fields or {}).values()), ("output", outputs, [target])):
            for name in names:
                if name not in known:
                    raise ConfigError(f"no predictor of the program has an {kind} {name!r}; found {', '.join(known)}")
        return replace(self, target=target)

    def select(self, inputs: Mapping[str, object]) -> list[dict[str, Value]]:
        """Return the demos for a call, each the program's fields by name.

        Raises:
            InvalidInputError: an input is missing, or does not fit the task.
            TypeError: the source is asynchronous.
            UdrError: the source cannot answer.
        """
        return [self._demo(demonstration) for demonstration in self.selector.select(self._query(inputs))]

    async def aselect(self, inputs: Mapping[str, object]) -> list[dict[str, Value]]:
        """Return the demos for a call, from any source, without blocking the event loop."""
        return [self._demo(demonstration) for demonstration in await self.selector.aselect(self._query(inputs))]

    def _query(self, inputs: Mapping[str, object]) -> Fields:
        fields = {name: name for name in inputs} if self.fields is None else self.fields
        for name in fields.values():
            if name not in inputs:
                names = ", ".join(map(repr, inputs)) or "none"
                raise InvalidInputError(f"input {name!r} of the program is missing; found {names}")
        # The source checks the values.
        return cast("Fields", {field: inputs[name] for field, name in fields.items()})

    def _demo(self, demonstration: RetrievedDemonstration) -> dict[str, Value]:
        shown = demonstration.fields
        fields = {field: field for field in shown} if self.fields is None else self.fields
        inputs = {name: shown[field] for field, name in fields.items()}
        return inputs | {str(self.target): demonstration.target}

    def to_json(self) -> dict[str, Json]:
        """Return all of it, the source by its location: an index directory, a URL, or None if it has neither."""
        return {
            "format": FORMAT,
            "source": location(self.selector.source),
            **self.selector.to_json(),
            "fields": None if self.fields is None else dict(self.fields),
            "target": self.target,
        }

    @staticmethod
    def from_json(keys: Mapping[str, Any], source: AsyncDemonstrationSource | None = None) -> "Demos":
        """Return what ``to_json`` describes; a source replaces the saved one.

        Raises:
            ArtifactError: no source is given, and none is saved.
            UdrError: the index cannot be opened.
        """
        check_format(keys.get("format"), FORMAT, "the saved program", "program.save(), with its source")
        selector = Selector.from_json(keys, opened(keys["source"]) if source is None else source)
        return Demos(selector, fields=keys["fields"], target=keys["target"])

    def __deepcopy__(self, memo: object) -> Self:
        # DSPy copies programs; this object is immutable, and an open index cannot be copied.
        return self

    def __reduce__(self) -> tuple[Callable[..., "Demos"], tuple[dict[str, Json]]]:
        # A pickle of the program holds the source's location, never the source itself.
        return Demos.from_json, (self.to_json(),)


def location(source: AsyncDemonstrationSource) -> dict[str, Json] | None:
    """Return where a source can be opened again: an index directory, its URL or a service's; None if it has none."""
    if isinstance(source, Retriever):
        if source.root is None:
            return None
        # It opens at the version that is then current. A copy of a remote index is on this machine only.
        return {"index": copied_from(source.root) or str(source.root.resolve())}
    if isinstance(source, Client | AsyncClient):
        return {"url": source.url, "asynchronous": isinstance(source, AsyncClient)}
    return None


def opened(location: Mapping[str, Any] | None) -> AsyncDemonstrationSource:
    """Return the source at a location; ``ArtifactError`` if none was saved."""
    if location is None:
        raise ArtifactError("the program was saved without the location of its source; pass a source")
    if "index" in location:
        return Retriever.open(location["index"])
    return AsyncClient(location["url"]) if location["asynchronous"] else Client(location["url"])
