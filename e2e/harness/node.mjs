// Socket.IO's own server, in this process: a neighbour on the same Redis, and what shows that a test expects
// what the reference does.

import http from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import { Server } from 'socket.io';
import { free } from './owner.mjs';

// `redis`: a started one, for the classic adapter. `namespaces` as in fanfare's setting; all of them know the
// events of `fanfare serve --dev`. The rest are options of Socket.IO's.
export async function startNode(owner, { redis, port, namespaces = [], adapter = {}, ...options } = {}) {
  const server = http.createServer();
  const io = new Server(server, options);
  const links = redis ? [await redis.connect(), await redis.connect()] : [];
  if (redis) {
    const [publishing, reading] = links;
    io.adapter(createAdapter(publishing, reading, adapter));
  }
  for (const name of ['/', ...namespaces]) {
    const pattern = name.includes('{') ? new RegExp(`^${name.replace(/\{\w+\}/, '.+')}$`) : name;
    io.of(pattern).on('connection', open);
  }
  port ??= await free();
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  owner.after(async () => {
    await io.close();
    // The adapter leaves its unsubscribing on the way; an answer behind it says that it has arrived.
    await Promise.allSettled(links.map((link) => link.ping()));
    server.closeAllConnections();
  });
  return { io, server, port, url: `http://127.0.0.1:${port}` };
}

// What `fanfare serve --dev` does for clients.
function open(socket) {
  const done = { ok: true };
  socket.on('join', (room, ack) => {
    socket.join(room);
    ack?.(done);
  });
  socket.on('leave', (room, ack) => {
    socket.leave(room);
    ack?.(done);
  });
  socket.on('publish', (room, event, ...args) => {
    const ack = typeof args.at(-1) === 'function' ? args.pop() : undefined;
    socket.nsp.to(room).emit(event, ...args);
    ack?.(done);
  });
}
