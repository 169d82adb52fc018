"""A service that listens: the application, in a thread of this process, on a port of its own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import uvicorn
from fastapi import FastAPI

from udr_service import listening


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve an application until the block ends; yields its address once it is ready."""
    with listening("127.0.0.1", 0) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while httpx2.get(f"{address}/readyz", timeout=30).status_code != 200:
                time.sleep(0.01)
            yield address
        finally:
            server.should_exit = True
            thread.join()
