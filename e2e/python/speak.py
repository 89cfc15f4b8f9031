"""A client of python-socketio, as a test has it: speak.py KIND URL TRANSPORTS ROOM

KIND is "sync" or "async". It connects to / and /admin, joins ROOM, publishes every kind of value to it, and says
in lines of JSON what it sees; bytes are {"$bytes": hex}. It leaves when "finish" arrives.
"""

import asyncio
import json
import queue
import sys

import socketio

VALUES = [
    ["text é 🎉"], [0, -1, 1.5, None, True], [{"a": [{"b": None}]}, []], [b"\x00\x01\xff"],
    ["before", b"", {"deep": [b"\x1e4", "x"]}], ["x" * 50_000],
]


def say(what, **more):
    print(json.dumps({"what": what, **more}, default=lambda b: {"$bytes": b.hex()}), flush=True)


def sync(url, transports, room):
    io = socketio.Client(reconnection=False)
    came = queue.Queue()
    io.on("*", lambda event, *args: came.put((event, args)))
    io.on("*", lambda event, *args: came.put((event, args)), namespace="/admin")
    io.on("disconnect", lambda reason: say("disconnect", reason=reason))
    io.connect(url, transports=transports, auth={"token": "x"}, namespaces=["/", "/admin"], wait_timeout=10)
    say("connected", sid=io.get_sid(), admin=io.get_sid("/admin"))
    say("joined", answer=io.call("join", room, timeout=10), admin=io.call("join", room, namespace="/admin", timeout=10))
    for args in VALUES:
        io.emit("publish", (room, "e", *args))
    say("ready", transport=io.transport())
    while True:
        event, args = came.get(timeout=20)
        if event == "finish":
            break
        say("event", event=event, args=args)
    say("finished", transport=io.transport())
    io.disconnect()


async def asynchronous(url, transports, room):
    io = socketio.AsyncClient(reconnection=False)
    came = asyncio.Queue()

    async def take(event, *args):
        await came.put((event, args))

    io.on("*", take)
    io.on("*", take, namespace="/admin")
    io.on("disconnect", lambda reason: say("disconnect", reason=reason))
    await io.connect(url, transports=transports, auth={"token": "x"}, namespaces=["/", "/admin"], wait_timeout=10)
    say("connected", sid=io.get_sid(), admin=io.get_sid("/admin"))
    answer = await io.call("join", room, timeout=10)
    say("joined", answer=answer, admin=await io.call("join", room, namespace="/admin", timeout=10))
    for args in VALUES:
        await io.emit("publish", (room, "e", *args))
    say("ready", transport=io.transport())
    while True:
        event, args = await asyncio.wait_for(came.get(), 20)
        if event == "finish":
            break
        say("event", event=event, args=args)
    say("finished", transport=io.transport())
    await io.disconnect()


if __name__ == "__main__":
    kind, url, transports, room = sys.argv[1:]
    if kind == "sync":
        sync(url, transports.split(","), room)
    else:
        asyncio.run(asynchronous(url, transports.split(","), room))
