"""Mutations of valid files: of their bytes, of their JSON, and of their SQLite and array structure."""

import json
import random
from collections.abc import Sequence
from typing import Any

TOKENS = [
    *(b"\0", b"\xff", b"\n", b"\r", b"\xef\xbb\xbf", b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b",", b":", b"=", b"."),
    *(b"null", b"true", b"-1", b"1e999", b"NaN", b"Infinity", b"../", b"/etc/passwd", b"\\ud800", b'"""', b"[[", b"]]"),
    *(b"{target}", b"{", b"{}", b"{a", b"999999999999999999999", b"-0", b"0x", b"1979-05-27", b"sha256", b"id"),
    *(b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"a." * 3000, b"a = [" + b"[" * 500, b"\xcc\x81" * 300, b" " * 3000),
    *(b"CREATE TRIGGER", b"\x93NUMPY", b"object", b"(1,)", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\xff\xff\xff\xff"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e308, "", "a", "..", "../x", "/x"),
    *("\0", "a\nb", "x" * 10_000, [], {}, [[]], {"": ""}, {"a": {"a": {}}}, "float32", "flat", "IVF4,SQ8", "é\u0301"),
]


def of_bytes(generator: random.Random, samples: Sequence[bytes]) -> bytes:
    """Return a sample with one to eight changes of its bytes."""
    data = bytearray(generator.choice(samples))
    for _ in range(1 << generator.randrange(4)):
        start = generator.randrange(len(data) + 1)
        stop = min(len(data), start + (1 << generator.randrange(9)))
        change = generator.randrange(9)
        if change <= 1 and data:
            data[start % len(data)] ^= 1 << generator.randrange(8)
        elif change == 2 and data:
            data[start % len(data)] = generator.randrange(256)
        elif change == 3:
            del data[start:stop]
        elif change == 4:
            data[start:start] = data[start:stop]
        elif change == 5:
            other = generator.choice(samples)
            at = generator.randrange(len(other) + 1)
            data[start:stop] = other[at : at + stop - start]
        elif change == 6:
            data[start:start] = generator.choice(TOKENS)
        elif change == 7:
            data[start:stop] = generator.choice(TOKENS)
        elif generator.random() < 0.2:
            del data[start:]
    return bytes(data)


def of_json(generator: random.Random, value: Any) -> Any:  # noqa: ANN401
    """Return JSON with one to four changes of its structure; the value itself is changed, too."""
    for _ in range(1 << generator.randrange(3)):
        places = list(_places(value))
        if not places:
            return generator.choice(VALUES)
        container, key = generator.choice(places)
        change = generator.randrange(5)
        if change == 0:
            del container[key]
        elif change == 1 and isinstance(container, dict):
            container[generator.choice(("", "x", "../x", "files", "sha256", "a\nb"))] = container.pop(key)
        elif change == 2:
            container[key] = [container[key]]
        elif change == 3 and isinstance(container[key], int) and not isinstance(container[key], bool):
            container[key] += generator.choice((-1, 1, 2**20, 2**40))
        else:
            # A copy, so that a later change does not reach the list itself.
            container[key] = json.loads(json.dumps(generator.choice(VALUES)))
    return value


def _places(value: Any) -> Any:  # noqa: ANN401
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
