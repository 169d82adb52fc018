"""Each test that connects runs with both clients."""

from collections.abc import Iterator

import pytest

from tests.clients import KINDS, Connect, connecting


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    with connecting(request.param) as connect:
        yield connect
