"""Finding a tokenizer's special tokens in data, where they are not meant as such."""

from collections.abc import Iterator, Sequence

from udr.prompts.types import SpecialToken
from udr.retrieval import RetrievedDemonstration


def find(
    tokens: Sequence[str], shown: Sequence[RetrievedDemonstration], task: str, query: str
) -> Iterator[SpecialToken]:
    """Yield which demonstrations, in the order shown, and which query hold texts that a tokenizer reads as special.

    Args:
        tokens: the tokenizer's special tokens.
        shown: the demonstrations of the prompt.
        task: the query's task.
        query: the query's text.
    """
    texts = [(one.task, one.id, one.text) for one in shown]
    parts: list[tuple[str, str | None, str]] = [*texts, (task, None, query)]
    # Some tokenizers have hundreds of special tokens, and data hardly ever has one.
    whole = "\n".join(text for _, _, text in parts)
    present = [token for token in sorted(set(tokens)) if token and token in whole]
    for of_task, id, text in parts if present else ():
        yield from (SpecialToken(token=token, task=of_task, id=id) for token in present if token in text)
