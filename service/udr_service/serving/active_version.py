"""The version that is served, and those that still answer what came before a switch."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from udr.models import TokenCounter
from udr.retrieval import Retriever
from udr_service.errors import NotReadyError


@dataclass(frozen=True, slots=True, eq=False)
class ActiveVersion:
    """One version of an index, as it is served.

    Attributes:
        retriever: answers from it.
        tokenizer: counts the tokens of prompts.
        lent: whether somebody else closes the retriever.
        engine: what encodes queries, see ``udr.query_engines``; None where whoever lent the retriever chose.
    """

    retriever: Retriever
    tokenizer: TokenCounter
    lent: bool = False
    engine: str | None = None

    @property
    def version(self) -> str:
        """The version's name."""
        return self.retriever.index_version


class Current:
    """Says which version answers. A request holds on to one version from its beginning to its end.

    Used on the event loop only, so nothing is locked: a switch falls between requests, never into one.

    Attributes:
        draining: whether the service is about to end; it still answers, but is no longer ready.
    """

    def __init__(self) -> None:
        self._served: ActiveVersion | None = None
        self._leases: Counter[ActiveVersion] = Counter()
        self.draining = False

    @property
    def version(self) -> str | None:
        """The name of the version that answers, or None before there is one."""
        return None if self._served is None else self._served.version

    @property
    def alone(self) -> bool:
        """Whether no version but the one that answers now is in use."""
        return all(served is self._served for served in self._leases)

    @contextmanager
    def lease(self) -> Iterator[ActiveVersion]:
        """Hold on to the version that answers now; it stays open, whatever is switched to meanwhile.

        Raises:
            NotReadyError: no version is open yet.
        """
        if (served := self._served) is None:
            raise NotReadyError("the service is loading its index; try again later")
        self._leases[served] += 1
        try:
            yield served
        finally:
            self._leases[served] -= 1
            self._close_unused(served)

    def switch(self, served: ActiveVersion | None) -> None:
        """Answer from another version from now on, or from none; the one before is closed after its last request."""
        before, self._served = self._served, served
        if before is not None:
            self._close_unused(before)

    def _close_unused(self, served: ActiveVersion) -> None:
        if self._leases[served] == 0:
            del self._leases[served]
            if served is not self._served and not served.lent:
                served.retriever.close()
