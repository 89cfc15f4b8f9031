"""An app server of python-socketio's that only publishes: publish.py KIND REDIS_URL

KIND is "sync" or "async". Reads lines of JSON [method, args, kwargs] and calls them on a write-only manager; text
that starts with "$bytes:" stands for bytes. Says "ok" or the error after each.
"""

import asyncio
import json
import sys

import socketio


def bytes_in(value):
    if isinstance(value, str) and value.startswith("$bytes:"):
        return bytes.fromhex(value.removeprefix("$bytes:"))
    if isinstance(value, list):
        return [bytes_in(inner) for inner in value]
    if isinstance(value, dict):
        # A tuple is how several arguments are written.
        if "$tuple" in value:
            return tuple(bytes_in(inner) for inner in value["$tuple"])
        return {key: bytes_in(inner) for key, inner in value.items()}
    return value


async def call(manager, line):
    method, args, options = json.loads(line)
    result = getattr(manager, method)(*bytes_in(args), **bytes_in(options))
    if asyncio.iscoroutine(result):
        await result


async def main(kind, url):
    make = socketio.RedisManager if kind == "sync" else socketio.AsyncRedisManager
    manager = make(url, write_only=True)
    # Without a server the manager has no logger of its own.
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            await call(manager, line)
            print("ok", flush=True)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
