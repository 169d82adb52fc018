"""An open version of an index, and the tokenizers that count for it."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from udr.errors import InvalidInputError, brief
from udr.models import TokenCounter
from udr.retrieval import Retriever
from udr_service.auth import Pools
from udr_service.serving.versions.open_files import OpenFiles


@dataclass(frozen=True, slots=True, eq=False)
class ActiveVersion:
    """One version of an index, open; its tokenizer counts the tokens of prompts, unless a request names another."""

    retriever: Retriever
    tokenizer: TokenCounter
    lent: bool = False  # the caller closes the retriever
    engine: str | None = None  # what encodes queries, see udr.models; None if the caller brought the encoder
    opened: float = field(default_factory=time.time)  # seconds since 1970
    # Answers that depend on nothing but the version and the key's pools, by name and pools; some are being made.
    answers: "dict[tuple[str, Pools], asyncio.Future[bytes]]" = field(default_factory=dict)
    named: Mapping[str, TokenCounter] = field(default_factory=dict)  # the tokenizers of the settings, by name
    files: OpenFiles = field(init=False)  # as they were when it was opened

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", OpenFiles(self.retriever.path, self.retriever.files))

    @property
    def version(self) -> str:
        """The version's name."""
        return self.retriever.index_version

    @property
    def summary(self) -> str:
        """What it holds, in words."""
        sizes = self.retriever.sizes
        return f"{len(sizes)} {'task' if len(sizes) == 1 else 'tasks'}, {sum(sizes.values())} demonstrations"

    @property
    def tokenizers(self) -> dict[str, TokenCounter]:
        """The tokenizers that a request can name; the first is the one of requests that name none."""
        if self.tokenizer in self.named.values():
            return dict(self.named)
        # The manifest's name of the encoder: where its tokenizer lies on this machine differs from version to version.
        return {self.retriever.model: self.tokenizer, **self.named}

    def counter(self, name: str | None) -> TokenCounter:
        """Return the tokenizer of a name, or the one of requests that name none.

        Raises:
            InvalidInputError: the service has no tokenizer of that name.
        """
        if name is None:
            return self.tokenizer
        if name not in self.tokenizers:
            names = ", ".join(self.tokenizers)
            raise InvalidInputError(f"this service has no tokenizer {brief(name)}; it was started with {names}")
        return self.tokenizers[name]

    def name_of(self, counter: TokenCounter) -> str:
        """Return the name of one of the tokenizers."""
        return next(name for name, own in self.tokenizers.items() if own is counter)
