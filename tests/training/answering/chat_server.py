"""A small chat server with a model of its own: it copies the answer of the last demonstration, or answers as told.

As the completions server it fails as a test names; it can also storm: most requests get 429 until some time has passed.
"""

import json
import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from tests.training.feedback.remote.completions_server import CompletionsServer, Failure, serving

Messages = list[dict[str, str]]

Answer = Callable[[Messages], str]
"""The answer to chat messages."""


def copied(messages: Messages) -> str:
    """The answer of the last demonstration; without one, the last word of the instruction."""
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    return answers[-1] if answers else messages[0]["content"].split()[-1]


class ChatServer(CompletionsServer):
    """Answers chats, and texts as if their last lines were chats.

    Attributes:
        answer_of: the answer to messages.
        top: the likeliest first tokens with their probabilities, by messages; None returns no log-probabilities.
        finish: why answers end.
        usage: whether it counts tokens.
        storm: seconds between which it takes ``storm_size`` requests; others get 429 with ``Retry-After``.
        refused: how many requests got 429 in storms.
    """

    paths: ClassVar[tuple[str, ...]] = ("/v1/chat/completions", "/v1/completions")

    def __init__(self, answer_of: Answer = copied) -> None:
        super().__init__()
        self.answer_of = answer_of
        self.top: Callable[[Messages], dict[str, float]] | None = None
        self.usage, self.models, self.finish = True, ["talker"], "stop"
        self.storm, self.storm_size, self.refused = 0.0, 3, 0
        self._window, self._taken, self._storm_lock = 0.0, 0, threading.Lock()

    @property
    def asked(self) -> list[Messages]:
        """The messages of all requests."""
        return [body["messages"] for body in self.bodies]

    def failure(self) -> Failure | None:
        if self.storm:
            with self._storm_lock:
                now = time.monotonic()
                if now - self._window > self.storm:
                    self._window, self._taken = now, 0
                self._taken += 1
                if self._taken > self.storm_size:
                    self.refused += 1
                    return Failure(429, headers={"Retry-After": str(self.storm)})
        return super().failure()

    def response(self, path: str, body: dict[str, Any]) -> str:
        if path == "/v1/completions" and body.get("echo"):
            return super().response(path, body)
        if path == "/v1/completions":
            text = self.answer_of([{"role": "user", "content": body["prompt"]}])
            return json.dumps(
                {"choices": [{"text": text, "finish_reason": self.finish}], **self._usage(body["prompt"], text)}
            )
        messages = body["messages"]
        text = self.answer_of(messages)
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": self.finish,
        }
        if body.get("logprobs") and self.top is not None:
            choice["logprobs"] = self._log_probabilities(messages, body["top_logprobs"])
        prompt = " ".join(message["content"] for message in messages)
        return json.dumps({"choices": [choice], **self._usage(prompt, text)})

    def _usage(self, prompt: str, text: str) -> dict[str, Any]:
        counts = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        return {"usage": counts} if self.usage else {}

    def _log_probabilities(self, messages: Messages, count: int) -> dict[str, Any]:
        assert self.top is not None
        likeliest = sorted(self.top(messages).items(), key=lambda item: -item[1])[:count]
        top = [{"token": token, "logprob": math.log(share)} for token, share in likeliest]
        first = top[0] if top else {"token": self.answer_of(messages), "logprob": -0.1}
        return {"content": [{**first, "top_logprobs": top}]}


def running(answer_of: Answer = copied) -> AbstractContextManager[ChatServer]:
    """Run a chat server until the block ends."""
    return serving(ChatServer(answer_of))
