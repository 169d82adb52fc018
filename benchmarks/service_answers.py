"""Two parts of ``service.py``: are the answers under load right, and those while versions change?"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from service_load import Answer, Clients, Load
from service_made_up import MadeUp, Words, asked
from service_running import Server, serving

from udr.models import DEFAULT_ENCODER, load_encoder
from udr.retrieval import Retriever
from udr_index.versions import publish

CLIENTS = 64
LENGTHS = Words(4, 60)
TIE = 2e-5
"""Similarities are rounded to 5 decimals, and an engine's last bits may carry one of them over the edge."""


def equal(made: MadeUp, quick: bool) -> dict[str, object]:
    """Each answer among those of 64 clients, beside the answer to the same request alone; no vector is kept."""
    numbers = range(256 if quick else 4_000)
    with serving(made.index, UDR_CACHE_SIZE="0") as server, Clients() as clients:
        under_load, alone = (
            clients.send(Load(server.port, numbers, together, words=LENGTHS, keep=True)).whole().answers
            for together in (CLIENTS, 1)
        )
    return _beside([answer.read() for answer in under_load], [answer.read() for answer in alone])


def reload(made: MadeUp, quick: bool) -> dict[str, object]:
    """What is answered while the published version changes, beside what each version answers by itself."""
    count, reloads = (500, 3) if quick else (10_000, 20)
    publish(made.index, made.versions[0])
    with serving(made.index) as server, Clients() as clients:
        warm = clients.send(Load(server.port, range(10**6, 10**6 + 8 * CLIENTS), CLIENTS)).whole()
        sending = clients.begin(Load(server.port, range(count), CLIENTS, keep=True))
        during = 0
        for turn in range(1, reloads + 1):
            # Spread over what the requests should take, with time to spare for what reloads take.
            time.sleep(0.7 * count / warm.rate / (reloads + 1))
            _switch(server, made, turn)
            during += not sending.done()
        sent = sending.result()
    answers = sent.answers
    expected = _expected(made, [answer for answer in answers if answer.status == 200])
    versions = {name: sum(one["index_version"] == name for one in expected.values()) for name in made.versions}
    found = {answer.number: answer.read() for answer in answers if answer.status == 200}
    return {
        "reloads": reloads,
        "reloads_during_requests": during,
        "statuses": sent.statuses(),
        "answers_by_version": list(versions.values()),
        **_beside([found[number] for number in expected], list(expected.values())),
    }


def _switch(server: Server, made: MadeUp, turn: int) -> None:
    publish(made.index, made.versions[turn % 2])
    answer = server.post("/v1/admin/reload")
    if answer["index_version"] != made.versions[turn % 2]:
        raise RuntimeError(f"reload {turn} should have switched to {made.versions[turn % 2]}; found {answer}")


def _expected(made: MadeUp, answers: Sequence[Answer]) -> dict[int, Mapping[str, Any]]:
    """Return what the version that an answer names answers to the same request, by number."""
    encoder = load_encoder(DEFAULT_ENCODER, "cpu")
    expected: dict[int, Mapping[str, Any]] = {}
    for name in made.versions:
        publish(made.index, name)
        with Retriever.open(made.index, encoder=encoder) as retriever:
            for answer in answers:
                if answer.read()["index_version"] == name:
                    expected[answer.number] = retriever.retrieve(**asked(answer.number)).to_json()
    return expected


def _beside(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return how many answers are what they should be: to the last digit, and in their ids; and what differs."""
    same = ids = ties = 0
    largest = 0.0
    for one, other in zip(found, expected, strict=True):
        same += one == other
        mine, theirs = ([hit["similarity"] for hit in answer["demonstrations"]] for answer in (one, other))
        names = [[hit["id"] for hit in answer["demonstrations"]] for answer in (one, other)]
        differences = [abs(a - b) for a, b in zip(mine, theirs, strict=True)]
        ids += names[0] == names[1]
        # Where ids differ, those at the same place must be as similar.
        ties += names[0] != names[1] and max(differences) <= TIE
        largest = max(largest, *differences)
    return {
        "answers": len(found),
        "same_to_the_last_digit": same,
        "same_ids": ids,
        "other_ids_for_a_tie": ties,
        "wrong": len(found) - ids - ties,
        "largest_difference_of_similarities": round(largest, 6),
    }
