"""An open graph, whatever computes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from udr.errors import ModelError
from udr.models.query_tokenizer import Tokens
from udr.search import Vectors


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph that returns vectors for tokens, ready to run on any thread.

    Threads that share a text wait for one another at every step of the model. A single text gains from that; for many
    texts, one thread per text is faster.

    Attributes:
        single: computes a batch on one thread; several threads may call it at the same time.
        shared: computes a batch on all threads.
        inputs: the names of the inputs, of ``Tokens``.
        shapes: of the outputs; a dimension that is not fixed is not a number.
    """

    single: Callable[[Tokens], Vectors]
    shared: Callable[[Tokens], Vectors]
    inputs: Sequence[str]
    shapes: Sequence[Sequence[object]]

    def check(self, path: Path, dimension: int) -> None:
        """Raise ``ModelError`` unless the graph of this file returns vectors of this dimension."""
        if len(self.shapes) != 1 or len(self.shapes[0]) != 2 or self.shapes[0][1] != dimension:
            found = list(map(list, self.shapes))
            raise ModelError(f"{path}: must return vectors of {dimension} numbers, found outputs of shapes {found}")
