"""A small completions server with a language model of its own: honest, or wrong in a way that a test names.

Its model reads words. After a word, the one that followed it before is likely, any other is unlikely, by a hash.
"""

import hashlib
import json
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from typing import Any

NEXT = " and"
"""What the model generates, whatever it has read."""


def cut(text: str) -> list[str]:
    """The model's tokens: a word with the space before it, or one other character."""
    return re.findall(r" ?\w+|\W", text)


def log_probabilities(tokens: list[str]) -> list[float | None]:
    """The model's rule; the first token has none."""
    seen, values = set[tuple[str, str]](), list[float | None]([None])
    for pair in zip((token.strip() for token in tokens), (token.strip() for token in tokens[1:]), strict=False):
        part = hashlib.sha256(repr(pair).encode()).digest()[0] / 256
        values.append(math.log(0.9 - 0.3 * part) if pair in seen else -6 - 5 * part)
        seen.add(pair)
    return values


def cut_finely(text: str) -> list[str]:
    """The tokens of a model that has none for what is no ASCII, and puts it together from bytes."""
    return re.findall(r" ?[0-9A-Za-z_]+|[^\x00-\x7f]|\W", text)


def log_likelihood(context: str, option: str, cut: Callable[[str], list[str]] = cut) -> tuple[float, int]:
    """What the model says of an option, and of how many tokens; the oracle of the tests."""
    tokens = cut(context + option)
    ends = accumulate(map(len, tokens))
    own = [value for value, end in zip(log_probabilities(tokens), ends, strict=True) if end > len(context)]
    return math.fsum(value for value in own if value is not None), len(own)


Said = dict[str, Any]
"""The ``logprobs`` of an answer."""


def honest(text: str) -> Said:
    tokens = [*cut(text), NEXT]
    offsets = list(accumulate(map(len, tokens), initial=0))[:-1]
    return {"tokens": tokens, "token_logprobs": log_probabilities(tokens), "text_offset": offsets}


def _with(**changes: Callable[[Said], Any]) -> Callable[[str], Said]:
    def said(text: str) -> Said:
        before = honest(text)
        return before | {name: change(before) for name, change in changes.items()}

    return said


def _values(change: Callable[[list[Any]], list[Any]]) -> Callable[[str], Said]:
    return _with(token_logprobs=lambda said: change(said["token_logprobs"]))


def _with_bos(text: str) -> Said:
    """As vLLM does: the BOS is listed, and its text counted as if it were the prompt's."""
    tokens = ["<|begin|>", *cut(text), NEXT]
    offsets = list(accumulate(map(len, tokens), initial=0))[:-1]
    return {
        "tokens": tokens,
        "token_logprobs": [None, -9.0, *log_probabilities(tokens[1:])[1:]],
        "text_offset": offsets,
    }


def _in_template(text: str) -> Said:
    return honest(f"user: {text} assistant:")


def _without_spaces(text: str) -> Said:
    """As some tokenizers decode a token that stands alone; what was generated has one."""
    said = honest(text)
    return said | {"tokens": [token.strip() for token in said["tokens"]]}


def _in_bytes(text: str) -> Said:
    """As vLLM does with a token that is a part of a character: it is shown as one that stands for any."""
    tokens = [*cut_finely(text), NEXT]
    shown = [token if token.isascii() else "\ufffd\ufffd" for token in tokens]
    return {"tokens": shown, "token_logprobs": log_probabilities(tokens)}


ANSWERS: dict[str, Callable[[str], Said | None]] = {
    "honest": honest,
    "with BOS": _with_bos,
    "without offsets": lambda text: {name: part for name, part in honest(text).items() if name != "text_offset"},
    "offsets of -1": _with(text_offset=lambda said: [-1] * len(said["tokens"])),
    "end listed": lambda text: honest(text) | {"tokens": [*honest(text)["tokens"][:-1], ""]},
    "nothing generated": lambda text: {name: part[:-1] for name, part in honest(text).items()},
    "without spaces": _without_spaces,
    "in bytes": _in_bytes,
    "no logprobs": lambda text: None,
    "no echo": lambda text: {name: part[-1:] for name, part in honest(text).items()},
    "zeros": _values(lambda values: [None, *[0.0] * (len(values) - 1)]),
    "chance": _values(lambda values: [None, *[-math.log(32_000)] * (len(values) - 1)]),
    "by word": _with(token_logprobs=lambda said: [None, *[-3.0 - len(token) for token in said["tokens"][1:]]]),
    "early": _values(lambda values: [*values[1:], -0.5]),
    "early, first left": _values(lambda values: [None, *values[2:], -0.5]),
    "late": _values(lambda values: [None, *values[:-1]]),
    "late, none missing": _values(lambda values: [None, 0.0, *values[1:-1]]),
    "of other text": _with(token_logprobs=lambda said: log_probabilities(said["tokens"][::-1])),
    "not a number": _values(lambda values: [*values[:-2], math.nan, -0.5]),
    "infinite": _values(lambda values: [*values[:-2], -math.inf, -0.5]),
    "vLLM's infinite": _values(lambda values: [*values[:-2], -9999.0, -0.5]),
    "above one": _values(lambda values: [*values[:-2], 0.2, -0.5]),
    "null": _values(lambda values: [*values[:-2], None, -0.5]),
    "text": _values(lambda values: [*values[:-2], "-1.5", -0.5]),
    "other tokens": _with(tokens=lambda said: ["word"] * len(said["tokens"])),
    "one too few": _values(lambda values: values[1:]),
    "shortened": lambda text: honest(text[-60:]),
    "in a template": _in_template,
}
"""Ways to answer, by name."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is none.

    Attributes:
        status: of HTTP; 0 drops the connection, -1 is silent until the server stops.
        body: text, as it is sent.
        headers: of HTTP.
    """

    status: int
    body: str = '{"error": {"message": "out of\\norder"}}'
    headers: dict[str, str] = field(default_factory=dict)


class CompletionsServer(ThreadingHTTPServer):
    """Answers on 127.0.0.1, in threads, and counts.

    Attributes:
        answer: how it answers, one of ``ANSWERS``.
        failures: what it answers the next requests with, in this order, in place of that.
        always: what it answers all with, if that is not None.
        models: the names that it lists.
        seconds: how long an answer takes.
        asked: the bodies of the requests, in the order they came.
        keys: what they had for a key.
        busiest: the most requests that were under way at once.
    """

    # So that closing the server waits for its threads.
    daemon_threads = False
    # As many may connect at once; those beyond try again after a second.
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.models, self.seconds = "honest", ["words"], 0.0
        self.failures = list[Failure]()
        self.always: Failure | None = None
        self.asked, self.keys = list[dict[str, Any]](), set[str | None]()
        self.busiest = self._busy = 0
        self.stopped, self._lock = threading.Event(), threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client may hang up.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def prompts(self) -> list[str]:
        return [body["prompt"] for body in self.asked]

    @contextmanager
    def counted(self, body: dict[str, Any]) -> Iterator[Failure | None]:
        with self._lock:
            self.asked.append(body)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
            failure = self.always or (self.failures.pop(0) if self.failures else None)
        try:
            yield failure
        finally:
            with self._lock:
                self._busy -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Else headers and body wait for one another, 40 ms each time.
    disable_nagle_algorithm = True
    server: CompletionsServer

    def do_GET(self) -> None:
        assert self.path == "/v1/models"
        self.server.keys.add(self.headers["Authorization"])
        self._send(200, json.dumps({"object": "list", "data": [{"id": name} for name in self.server.models]}))

    def do_POST(self) -> None:
        assert self.path == "/v1/completions"
        self.server.keys.add(self.headers["Authorization"])
        length = int(self.headers["Content-Length"])
        raw = self.rfile.read(length)
        if len(raw) < length:
            # The client hung up.
            self.close_connection = True
            return
        body = json.loads(raw)
        with self.server.counted(body) as failure:
            time.sleep(self.server.seconds)
            if failure is None:
                answer = self._answer(body["prompt"])
        if failure is None:
            self._send(200, answer)
        elif failure.status == -1:
            self.server.stopped.wait(60)
            self.close_connection = True
        elif failure.status == 0:
            self.close_connection = True
        else:
            self._send(failure.status, failure.body, failure.headers)

    def _answer(self, prompt: str) -> str:
        said = ANSWERS[self.server.answer](prompt)
        generated = 0 if self.server.answer == "nothing generated" else 1
        choice = {"index": 0, "text": prompt + NEXT, "logprobs": said, "finish_reason": "length"}
        return json.dumps({"choices": [choice], "usage": {"completion_tokens": generated}})

    def _send(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        raw = body.encode()
        self.send_response(status)
        own = {"Content-Type": "application/json", "Content-Length": str(len(raw))}
        for name, value in (own | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def running() -> Iterator[CompletionsServer]:
    """A server that runs until the block ends, and leaves neither thread nor socket."""
    with CompletionsServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()
