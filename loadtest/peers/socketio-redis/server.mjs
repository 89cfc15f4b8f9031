// `node server.mjs HOST PORT REDIS-URL`: members join by the event `join`, publications come through Redis
// as @socket.io/redis-emitter sends them.

import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';

// Enough for a storm; the kernel caps it at net.core.somaxconn.
const BACKLOG = 4096;

const [host, port, redis] = process.argv.slice(2);
const publishing = createClient({ url: redis });
const subscribing = publishing.duplicate();
await Promise.all([publishing.connect(), subscribing.connect()]);

const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(publishing, subscribing),
  transports: ['websocket'],
  serveClient: false,
});

// What Socket.IO's guide to memory usage recommends: the upgrade request is kept otherwise.
io.engine.on('connection', (raw) => {
  raw.request = null;
});

io.on('connection', (socket) => {
  socket.on('join', (room, ack) => {
    socket.join(room);
    ack({ ok: true });
  });
  socket.on('publish', (room, event, value, ack) => {
    io.to(room).emit(event, value);
    ack({ ok: true });
  });
});

http.listen(Number(port), host, BACKLOG);
