"""Three parts of ``service.py``: are answers correct under load, while versions change, and beside torch in float32?"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from service_load import Clients, Load
from service_made_up import MadeUp, Words, request_of
from service_running import Server, serving

from udr.models import Engine
from udr.retrieval import Retriever
from udr_index.versions import publish

CLIENTS = 64
LENGTHS = Words(4, 60)
TIE = 1.5e-5
"""Similarities are rounded to 5 decimals, and an engine's last bits can change the last one by one."""

Body = Mapping[str, Any]


def equal(made: MadeUp, quick: bool) -> dict[str, object]:
    """Compare each answer to 64 clients with the answer to the same request alone; without the embedding cache."""
    numbers = range(256 if quick else 4_000)
    with serving(made.index, UDR_CACHE_SIZE="0") as server, Clients() as clients:
        under_load, alone = (
            clients.send(Load(server.port, numbers, together, words=LENGTHS, keep=True)).all_ok().answers
            for together in (CLIENTS, 1)
        )
    return _compared([answer.read() for answer in under_load], [answer.read() for answer in alone])


def float32(made: MadeUp, quick: bool) -> dict[str, object]:
    """Compare each answer with that of torch in float32 to the same request."""
    numbers = range(200 if quick else 2_000)
    with serving(made.index) as server, Clients() as clients:
        sent = clients.send(Load(server.port, numbers, CLIENTS, words=LENGTHS, keep=True)).all_ok()
    with Retriever.open(made.index, device="cpu", engine=Engine.TORCH) as retriever:
        expected = [retriever.retrieve(**request_of(number, LENGTHS)).to_json() for number in numbers]
    return _compared([answer.read() for answer in sent.answers], expected)


def reload(made: MadeUp, quick: bool) -> dict[str, object]:
    """Compare the answers while the published version changes with each version's own answers."""
    count, reloads = (500, 3) if quick else (10_000, 20)
    publish(made.index, made.versions[0])
    with serving(made.index) as server, Clients() as clients:
        warm = clients.send(Load(server.port, range(10**6, 10**6 + 8 * CLIENTS), CLIENTS)).all_ok()
        sending = clients.begin(Load(server.port, range(count), CLIENTS, keep=True))
        during = 0
        for turn in range(1, reloads + 1):
            # Spread over the expected duration, minus a margin for the reloads.
            time.sleep(0.7 * count / warm.rate / (reloads + 1))
            _switch(server, made, turn)
            during += not sending.done()
        sent = sending.result()
    answers = {answer.number: answer.read() for answer in sent.answers if answer.status == 200}
    expected = _expected(made, answers)
    versions = [sum(body["index_version"] == name for body in expected.values()) for name in made.versions]
    return {
        "reloads": reloads,
        "reloads_during_requests": during,
        "statuses": sent.statuses(),
        "answers_by_version": versions,
        **_compared([answers[number] for number in expected], list(expected.values())),
    }


def _switch(server: Server, made: MadeUp, turn: int) -> None:
    version = made.versions[turn % 2]
    publish(made.index, version)
    answer = server.post("/v1/admin/reload")
    if answer["index_version"] != version:
        raise RuntimeError(f"reload {turn} should have switched to {version}; found {answer}")


def _expected(made: MadeUp, answers: Mapping[int, Body]) -> dict[int, Body]:
    """Return, by number, what the version named in each answer returns for the same request."""
    expected: dict[int, Body] = {}
    for name in made.versions:
        publish(made.index, name)
        with Retriever.open(made.index, device="cpu", engine=os.environ.get("UDR_ENGINE")) as retriever:
            for number, body in answers.items():
                if body["index_version"] == name:
                    expected[number] = retriever.retrieve(**request_of(number)).to_json()
    return expected


def _compared(answers: Sequence[Body], expected: Sequence[Body]) -> dict[str, object]:
    """Return how many answers are equal to the last digit or in their ids, and how the others differ."""
    same = ids = ties = 0
    largest = 0.0
    for answer, reference in zip(answers, expected, strict=True):
        same += answer == reference
        pairs = list(zip(answer["demonstrations"], reference["demonstrations"], strict=True))
        difference = max(abs(first["similarity"] - second["similarity"]) for first, second in pairs)
        same_ids = all(first["id"] == second["id"] for first, second in pairs)
        ids += same_ids
        # If ids differ, the demonstrations at the same position must be equally similar.
        ties += not same_ids and difference <= TIE
        largest = max(largest, difference)
    return {
        "answers": len(answers),
        "same_to_the_last_digit": same,
        "same_ids": ids,
        "other_ids_for_a_tie": ties,
        "wrong": len(answers) - ids - ties,
        "largest_difference_of_similarities": round(largest, 6),
    }
