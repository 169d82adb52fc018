"""A small completions server with a language model of its own: honest, or wrong in a way that a test names.

Its model reads words. After a word, the word that followed it before is likely; any other is unlikely, by a hash.
"""

import hashlib
import json
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate, pairwise
from typing import Any, ClassVar, TypeVar

NEXT = " and"
"""The text that the model generates after every prompt."""


def tokenize(text: str) -> list[str]:
    """Return the model's tokens: a word with the space before it, or one other character."""
    return re.findall(r" ?\w+|\W", text)


def tokenize_ascii(text: str) -> list[str]:
    """Return the tokens of a model that spells other than ASCII characters by bytes."""
    return re.findall(r" ?[0-9A-Za-z_]+|[^\x00-\x7f]|\W", text)


def log_probabilities(tokens: list[str]) -> list[float | None]:
    seen, values = set[tuple[str, str]](), list[float | None]([None])
    for pair in pairwise(token.strip() for token in tokens):
        part = hashlib.sha256(repr(pair).encode()).digest()[0] / 256
        values.append(math.log(0.9 - 0.3 * part) if pair in seen else -6 - 5 * part)
        seen.add(pair)
    return values


def log_likelihood(context: str, option: str, tokenize: Callable[[str], list[str]] = tokenize) -> tuple[float, int]:
    """Return the true log-likelihood of an option, and its number of tokens."""
    tokens = tokenize(context + option)
    ends = accumulate(map(len, tokens))
    values = [value for value, end in zip(log_probabilities(tokens), ends, strict=True) if end > len(context)]
    return math.fsum(value for value in values if value is not None), len(values)


LogProbs = dict[str, Any]
"""The ``logprobs`` of a response."""

Answer = Callable[[str], LogProbs | None]


def honest(text: str) -> LogProbs:
    tokens = [*tokenize(text), NEXT]
    offsets = list(accumulate(map(len, tokens), initial=0))[:-1]
    return {"tokens": tokens, "token_logprobs": log_probabilities(tokens), "text_offset": offsets}


def _with(**changes: Callable[[LogProbs], Any]) -> Answer:
    return lambda text: honest(text) | {name: change(honest(text)) for name, change in changes.items()}


def _values(change: Callable[[list[Any]], list[Any]]) -> Answer:
    return _with(token_logprobs=lambda answer: change(answer["token_logprobs"]))


def _with_bos(text: str) -> LogProbs:
    """As vLLM: the BOS is listed, and its text counts in the offsets."""
    tokens = ["<|begin|>", *tokenize(text), NEXT]
    values = [None, -9.0, *log_probabilities(tokens[1:])[1:]]
    offsets = list(accumulate(map(len, tokens), initial=0))[:-1]
    return {"tokens": tokens, "token_logprobs": values, "text_offset": offsets}


def _in_bytes(text: str) -> LogProbs:
    """As vLLM shows a token that is part of a character: by a replacement character."""
    tokens = [*tokenize_ascii(text), NEXT]
    shown = [token if token.isascii() else "\ufffd\ufffd" for token in tokens]
    return {"tokens": shown, "token_logprobs": log_probabilities(tokens)}


ANSWERS: dict[str, Answer] = {
    "honest": honest,
    "with BOS": _with_bos,
    "without offsets": lambda text: {name: part for name, part in honest(text).items() if name != "text_offset"},
    "offsets of -1": _with(text_offset=lambda answer: [-1] * len(answer["tokens"])),
    "end listed": _with(tokens=lambda answer: [*answer["tokens"][:-1], ""]),
    "nothing generated": lambda text: {name: part[:-1] for name, part in honest(text).items()},
    "without spaces": _with(tokens=lambda answer: [token.strip() for token in answer["tokens"]]),
    "in bytes": _in_bytes,
    "no logprobs": lambda text: None,
    "no echo": lambda text: {name: part[-1:] for name, part in honest(text).items()},
    "zeros": _values(lambda values: [None, *[0.0] * (len(values) - 1)]),
    "chance": _values(lambda values: [None, *[-math.log(32_000)] * (len(values) - 1)]),
    "by word": _with(token_logprobs=lambda answer: [None, *[-3.0 - len(token) for token in answer["tokens"][1:]]]),
    "early": _values(lambda values: [*values[1:], -0.5]),
    "early, first left": _values(lambda values: [None, *values[2:], -0.5]),
    "late": _values(lambda values: [None, *values[:-1]]),
    "late, none missing": _values(lambda values: [None, 0.0, *values[1:-1]]),
    "of other text": _with(token_logprobs=lambda answer: log_probabilities(answer["tokens"][::-1])),
    "not a number": _values(lambda values: [*values[:-2], math.nan, -0.5]),
    "other tokens": _with(tokens=lambda answer: ["word"] * len(answer["tokens"])),
    "one too few": _values(lambda values: values[1:]),
    "shortened": lambda text: honest(text[-60:]),
    "in a template": lambda text: honest(f"user: {text} assistant:"),
}
"""Ways to answer, by name."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed response; the status 0 drops the connection, -1 is silent until the server stops."""

    status: int
    body: str = '{"error": {"message": "out of\\norder"}}'
    headers: dict[str, str] = field(default_factory=dict)


class CompletionsServer(ThreadingHTTPServer):
    """Answers on 127.0.0.1, in threads, and keeps the bodies and the keys (authorization headers) of all requests.

    Attributes:
        answer: how it answers, one of ``ANSWERS``.
        failures: the responses to the next requests, in this order; None answers.
        always: the response to every request, if not None.
        seconds: how long a response takes.
        busiest: the largest number of open requests.
        models: the names in its list of models; None for a server without a list.
        models_fail: whether reading the list fails.
        num_lists: how often the list was read.
        queries: the query strings of all requests.
        paths: the endpoints it has.
    """

    paths: ClassVar[tuple[str, ...]] = ("/v1/completions",)

    # So that closing the server waits for its threads.
    daemon_threads = False
    # Connections beyond these are retried after a second.
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.answer, self.seconds = "honest", 0.0
        self.models: list[str] | None = ["words"]
        self.models_fail = False
        self.num_lists, self.queries = 0, list[str]()
        self.failures = list[Failure | None]()
        self.always: Failure | None = None
        self.bodies, self.keys = list[dict[str, Any]](), set[str | None]()
        self.busiest = self._busy = 0
        self.stopped, self._lock = threading.Event(), threading.RLock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client may hang up.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def response(self, path: str, body: dict[str, Any]) -> str:
        """The body of the response to a request."""
        prompt = body["prompt"]
        answer = ANSWERS[self.answer](prompt)
        choice = {"index": 0, "text": prompt + NEXT, "logprobs": answer, "finish_reason": "length"}
        usage = {"completion_tokens": 0 if self.answer == "nothing generated" else 1}
        return json.dumps({"choices": [choice], "usage": usage})

    @property
    def prompts(self) -> list[str]:
        return [body["prompt"] for body in self.bodies]

    def failure(self) -> Failure | None:
        """The failed response to the next request; None if it succeeds."""
        with self._lock:
            return self.always or (self.failures.pop(0) if self.failures else None)

    @contextmanager
    def counted(self, body: dict[str, Any]) -> Iterator[Failure | None]:
        with self._lock:
            self.bodies.append(body)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        failure = self.failure()
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
        assert self.path.partition("?")[0] == "/v1/models"
        self.server.keys.add(self.headers["Authorization"])
        self.server.num_lists += 1
        if self.server.models_fail:
            self._send(500, '{"detail": "no cache"}')
            return
        if self.server.models is None:
            self._send(404, '{"detail": "Not Found"}')
            return
        self._send(200, json.dumps({"object": "list", "data": [{"id": name} for name in self.server.models]}))

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        assert path in self.server.paths
        self.server.queries.append(self.path.partition("?")[2])
        self.server.keys.add(self.headers["Authorization"])
        length = int(self.headers["Content-Length"])
        raw = self.rfile.read(length)
        # A short body means that the client hung up.
        self.close_connection = len(raw) < length
        if self.close_connection:
            return
        body = json.loads(raw)
        with self.server.counted(body) as failure:
            time.sleep(self.server.seconds)
        if failure is None:
            self._send(200, self.server.response(path, body))
        elif failure.status > 0:
            self._send(failure.status, failure.body, failure.headers)
        else:
            if failure.status == -1:
                self.server.stopped.wait(60)
            self.close_connection = True

    def _send(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        raw = body.encode()
        self.send_response(status)
        standard = {"Content-Type": "application/json", "Content-Length": str(len(raw))}
        for name, value in (standard | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


_Server = TypeVar("_Server", bound=CompletionsServer)


@contextmanager
def serving(server: _Server) -> Iterator[_Server]:
    """Run a server until the block ends; it leaves neither threads nor sockets."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()


@contextmanager
def watched(running: AbstractContextManager[_Server]) -> Iterator[_Server]:
    """Run a server until the block ends, and assert that neither it nor its clients left a thread."""
    before = set(threading.enumerate())
    with running as server:
        yield server
    # Those of earlier tests may have ended. That of the status line ends up to a second after the line.
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert [name for name in left if name != "udr-status"] == []


def running() -> AbstractContextManager[CompletionsServer]:
    """Run a completions server until the block ends."""
    return serving(CompletionsServer())
