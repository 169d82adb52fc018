"""A random sequence of writes, published versions and requests, compared with new indexes of the same rows."""

import random
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from tests.live_model import SIZES, Model, build_pools, comparing, random_pools, step
from udr import Retriever
from udr.store import publish


@pytest.mark.parametrize("kind", ["flat", "IVF2,Flat"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_live_pool_answers_as_a_new_index_of_its_rows(kind: str, seed: int, tmp_path: Path) -> None:
    compare = comparing(tmp_path)
    draw, model, out = random.Random(seed), Model(), tmp_path / "index"
    for number in range(2):
        pools = random_pools(draw, SIZES)
        model.versions[build_pools(tmp_path / f"tasks{number}", out, pools, kind=kind)] = pools
    for _ in range(3):
        publish(out, draw.choice(list(model.versions)))
        with Retriever.open(out, encoder=HashEncoder()) as retriever:
            compare(retriever, model.pools(retriever.index_version), draw)
            with Retriever.open(out, encoder=HashEncoder()) as follower:
                for _ in range(3):
                    for _ in range(draw.randrange(4)):
                        step(draw, retriever, model)
                    each = draw.choice([retriever, follower])
                    compare(each, model.pools(each.index_version), draw)
