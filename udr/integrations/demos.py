"""The demonstrations for one call of a program, in the program's own field names; saved as JSON, source included."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, cast

from udr.client import AsyncClient, Client
from udr.errors import ArtifactError, ConfigError, InvalidInputError
from udr.integrations.selector import Selector
from udr.retrieval import AsyncDemonstrationSource, RetrievedDemonstration, Retriever
from udr.types import Fields, Json, Value


@dataclass(frozen=True)
class Demos:
    """From a program's inputs to the demos of one call.

    Attributes:
        selector: what is asked.
        fields: from the task's fields to the program's inputs; None for equal names, where all inputs are fields.
        target: the output that shows a demonstration's target; None is settled by ``checked``.
    """

    selector: Selector
    fields: Mapping[str, str] | None
    target: str | None

    def checked(self, inputs: Sequence[str], outputs: Sequence[str]) -> Self:
        """Return the same for a program of these fields; its last output shows the target, if none is named.

        Raises:
            ConfigError: the program has no field of a name.
        """
        if not outputs:
            raise ConfigError("the program has no predictor to show demonstrations to")
        for name in (self.fields or {}).values():
            if name not in inputs:
                raise ConfigError(f"no predictor of the program has an input {name!r}; there are {', '.join(inputs)}")
        target = outputs[-1] if self.target is None else self.target
        if target not in outputs:
            raise ConfigError(f"no predictor of the program has an output {target!r}; there are {', '.join(outputs)}")
        return replace(self, target=target)

    def select(self, inputs: Mapping[str, object]) -> list[dict[str, Value]]:
        """Return the demos for a call, each the program's fields by name.

        Raises:
            InvalidInputError: an input is missing, or is not what the task has for a field.
            TypeError: the source can only be awaited.
            UdrError: the source cannot answer.
        """
        return [self._demo(found) for found in self.selector.select(self._query(inputs))]

    async def aselect(self, inputs: Mapping[str, object]) -> list[dict[str, Value]]:
        """Return what ``select`` does, from any source; the event loop goes on meanwhile."""
        return [self._demo(found) for found in await self.selector.aselect(self._query(inputs))]

    def _query(self, inputs: Mapping[str, object]) -> Fields:
        fields = {name: name for name in inputs} if self.fields is None else self.fields
        missing = [name for name in fields.values() if name not in inputs]
        if missing:
            found = ", ".join(map(repr, inputs)) or "none"
            raise InvalidInputError(f"input {missing[0]!r} of the program is missing; found {found}")
        # The source says which of them is no value of a field.
        return cast("Fields", {field: inputs[name] for field, name in fields.items()})

    def _demo(self, found: RetrievedDemonstration) -> dict[str, Value]:
        fields = {field: field for field in found.input} if self.fields is None else self.fields
        return {name: found.input[field] for field, name in fields.items()} | {str(self.target): found.target}

    def to_json(self) -> dict[str, Json]:
        """Return all of it, the source by its place: an index directory, a URL, or None where it has neither."""
        return {
            "source": _place(self.selector.source),
            "task": self.selector.task,
            "k": self.selector.k,
            "order": str(self.selector.order),
            "options": cast("dict[str, Json]", dict(self.selector.options)),
            "fields": None if self.fields is None else dict(self.fields),
            "target": self.target,
        }

    @staticmethod
    def from_json(keys: Mapping[str, Any], source: AsyncDemonstrationSource | None = None) -> "Demos":
        """Return what ``to_json`` told of, from this source, or from the one at its place.

        Raises:
            ArtifactError: it names no place, and no source is given.
            UdrError: the index cannot be opened.
        """
        selector = Selector(
            source=_at(keys["source"]) if source is None else source,
            task=keys["task"],
            k=keys["k"],
            order=keys["order"],
            options=keys["options"],
        )
        return Demos(selector, fields=keys["fields"], target=keys["target"])

    def __deepcopy__(self, memo: object) -> Self:
        # Programs are copied; nothing here changes, and an open index cannot be copied.
        return self

    def __reduce__(self) -> tuple[Callable[..., "Demos"], tuple[dict[str, Json]]]:
        # Of a program that is saved as a whole, what to open again; never the source itself.
        return Demos.from_json, (self.to_json(),)


def _place(source: AsyncDemonstrationSource) -> dict[str, Json] | None:
    if isinstance(source, Retriever):
        # A version lies in DIR/versions/<version>; DIR is opened again, at the version that is current by then.
        return {"index": str(source.path.resolve().parents[1])}
    if isinstance(source, Client | AsyncClient):
        return {"url": source.url, "asynchronous": isinstance(source, AsyncClient)}
    return None


def _at(place: Mapping[str, Any] | None) -> AsyncDemonstrationSource:
    if place is None:
        raise ArtifactError("the program was saved with a source that has no place of its own; give a source")
    if "index" in place:
        return Retriever.open(place["index"])
    return AsyncClient(place["url"]) if place["asynchronous"] else Client(place["url"])
