"""How long the input of a request is, and may be."""

from collections.abc import Mapping
from itertools import islice

from udr.data import Wording, value_text
from udr.errors import InvalidInputError, TooLongError
from udr.types import Fields, plain

MAX_CHARACTERS = 32_768
"""The maximum length of a query's formatted input: encoders read far less, and one request must not block others."""


def num_characters(value: object) -> int:
    """Return how many characters the text of an input has at least; stops counting above ``MAX_CHARACTERS``."""
    count, values = 0, [value]
    for _ in range(2 * MAX_CHARACTERS):
        if not values or count > MAX_CHARACTERS:
            break
        item = values.pop()
        if isinstance(item, Mapping):
            values += islice(item.values(), MAX_CHARACTERS)
        elif isinstance(item, list | tuple):
            # A comma and a space follow each value but the last.
            count += 2 * max(0, len(item) - 1)
            values += item[:MAX_CHARACTERS]
        elif item is not None:
            count += len(item) if isinstance(item, str) else 1
    return count


def checked_text(wording: Wording, input: Fields | str) -> str:
    """Return an input as the encoder reads it.

    Raises:
        InvalidInputError: the input does not fit the task, or a value is no valid text.
        TooLongError: the input has more than ``MAX_CHARACTERS`` characters.
    """
    # Of fields, also before they are formatted.
    if not isinstance(input, str) and (length := num_characters(input)) > MAX_CHARACTERS:
        raise TooLongError(f"the input has at least {length} characters; the limit is {MAX_CHARACTERS}")
    text = wording.input(input)
    if len(text) > MAX_CHARACTERS:
        raise TooLongError(f"the input has {len(text)} characters; the limit is {MAX_CHARACTERS}")
    values = {"the input": input} if isinstance(input, str) else {f"field {name!r}": input[name] for name in input}
    for name, value in values.items():
        try:
            value_text(plain(value)).encode()
        except UnicodeEncodeError as error:
            half = f"character {error.start + 1}, {error.object[error.start]!r}, is half a surrogate pair"
            raise InvalidInputError(f"{name} is not valid text: {half}") from error
    return text
