"""The language model's server of ``gateway.py``: it answers at once, or streams a part every 20 ms. Prints its port.

A process of its own that loads nothing: on a busy machine, what the benchmark itself imports takes minutes.
"""

import asyncio

PARTS, PAUSE_SECONDS = 50, 0.02
ANSWER = b'{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"nature"}}]}'
EVENT = b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


async def serve() -> None:
    server = await asyncio.start_server(_handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await _answer(reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while head := await reader.readuntil(b"\r\n\r\n"):
        length = next(int(line.split(b":")[1]) for line in head.splitlines() if line[:15].lower() == b"content-length:")
        body = await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        if b'"stream":true' not in body:
            writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))
            continue
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(PARTS):
            writer.write(b"%x\r\n%s\r\n" % (len(EVENT), EVENT))
            await writer.drain()
            await asyncio.sleep(PAUSE_SECONDS)
        writer.write(b"0\r\n\r\n")


if __name__ == "__main__":
    asyncio.run(serve())
