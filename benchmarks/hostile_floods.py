"""Attacks by many values, many bodies or many requests."""

from collections.abc import Mapping

from hostile_client import Attack, head, post
from hostile_index import LONG, Keys
from hostile_requests import BATCH, EMBEDDINGS, RETRIEVE, texts_by_batch
from service_made_up import TASKS, request_of, sentence

BODY = 2 * 1024 * 1024 - 1024
"""Bytes of a body, just below the service's limit."""

_QUERY = '{"task":"letters","k":8,"input":'
_EXCLUDE = f'{_QUERY}"x","exclude":['


def _bodies(keys: Keys, *bodies: bytes, path: str = RETRIEVE) -> list[bytes]:
    return [post(path, body, keys.hostile) for body in bodies]


def _filled(before: str, item: str, after: str) -> bytes:
    """A body with as many items as fit; each has its number for a ``#``."""
    count = (BODY - len(before) - len(after)) // (len(item) + 1 + 5 * item.count("#"))
    items = (item.replace("#", f"{n:06}") for n in range(count)) if "#" in item else [item] * count
    return (before + ",".join(items) + after).encode()


def _bad_items(keys: Keys) -> list[bytes]:
    queries = [_filled('{"requests":[', item, "]}") for item in ("1", "{}", '{"k":"x"}')]
    texts = [_filled('{"input":[', item, "]}") for item in ('""', "{}")]
    return [*_bodies(keys, *queries, path=BATCH), *_bodies(keys, *texts, path=EMBEDDINGS)]


def _values(keys: Keys) -> list[bytes]:
    deep = BODY // 8
    return _bodies(
        keys,
        (_QUERY + '{"text":' + "[" * deep + "]" * deep + "}}").encode(),
        ('{"a":' * deep + "1" + "}" * deep).encode(),
        _filled(_QUERY + "{", '"#":1', "}}"),
        _filled("{", '"#":1', "}"),
        _filled(_QUERY + '{"text":[', "1", "]}}"),
        _filled(_QUERY + '{"text":[', "[]", "]}}"),
        f'{_QUERY}"x","min_similarity":{"9" * 1_000_000}}}'.encode(),
        f'{{"task":"{"x" * 1_000_000}","input":"x"}}'.encode(),
    )


def _gets(keys: Keys) -> list[bytes]:
    paths = ["/v1/tasks", "/v1/info", "/v1/openapi.json", "/", "/playground/page.js", f"/{'x' * 8_000}", "/v1/models"]
    paths += [f"/v1/tasks/{'%41' * 2_000}", f"/v1/tasks/{LONG}/demonstrations/{'/' * 4_000}"]
    paths += [f"/v1/info?{'a=1&' * 2_000}", "/readyz"]
    return [*(head("GET", path, keys.hostile) for path in paths), head("GET", "/metrics", keys.admin)]


FLOODS: Mapping[str, Attack] = {
    "exclude": Attack(
        about="`exclude` with a million numbers, and with 400,000 ids",
        requests=lambda keys: _bodies(keys, *(_filled(_EXCLUDE, item, "]}") for item in ("1", '"12"', "{}"))),
    ),
    "bad-items": Attack(about="a million bad items in a batch, and in a list of texts", requests=_bad_items),
    "values": Attack(
        about="2 MiB of nested lists and objects, of distinct keys, of numbers, of one number", requests=_values
    ),
    "bodies": Attack(
        about="64 connections that send bodies of 2 MiB at once",
        requests=lambda keys: _bodies(keys, _filled(_EXCLUDE, f'"{"x" * 64}"', "]}")),
        clients=64,
    ),
    "one-key": Attack(
        about="64 connections of one valid key, as fast as they are answered",
        requests=lambda keys: [post(RETRIEVE, request_of(10**6 + n), keys.hostile) for n in range(20_000)],
        clients=64,
    ),
    "batches": Attack(
        about="16 connections of one valid key with batches of 64",
        requests=lambda keys: texts_by_batch(keys, 50, lambda seed: sentence(seed), task=TASKS[0]),
        clients=16,
    ),
    "get-floods": Attack(
        about="300 tasks, metrics, readiness, the page, the description, long and unknown paths",
        requests=_gets,
        clients=16,
    ),
    "reload-storm": Attack(
        about="reloads with a stolen key of an administrator",
        requests=lambda keys: [post("/v1/admin/reload", b"", keys.admin)],
        clients=8,
    ),
    "wrong-keys": Attack(
        about="wrong keys, each another, as fast as they are refused",
        requests=lambda keys: [head("GET", "/v1/info", f"udr_{n:043}") for n in range(10_000)],
        clients=32,
    ),
    "wrong-key-bodies": Attack(
        about="bodies of 2 MiB with wrong keys",
        requests=lambda keys: [post(RETRIEVE, b" " * BODY, f"udr_{n:043}") for n in range(16)],
        clients=16,
    ),
}
