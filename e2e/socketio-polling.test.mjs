// Unmodified socket.io-client over long-polling, over a polling session that is upgraded, and over WebSocket
// first: an application cannot tell which it has.

import assert from 'node:assert/strict';
import test from 'node:test';
import { REFERENCE, ask, collect, connectSocket, file, socketTo, startRedis, startSubject, until } from './harness.mjs';

const NAMESPACES = ['/admin', '/tenant-{id}'];
const redis = await startRedis(file);
const server = await startSubject(file, { redis, namespaces: NAMESPACES });
const emitter = await redis.emitter();

const WAYS = {
  polling: { transports: ['polling'] },
  upgraded: { transports: ['polling', 'websocket'] },
  'websocket first': { transports: ['websocket', 'polling'] },
};
const upgraded = (socket) => until(() => socket.io.engine.transport.name === 'websocket', 10_000, 'the upgrade');

// A client in rooms of its own, upgraded where it is to be.
async function connected(t, way, { rooms = [], ...options } = {}) {
  const socket = await connectSocket(t, options.server ?? server, { ...WAYS[way], ...options });
  if (way === 'upgraded') await upgraded(socket);
  for (const room of rooms) assert.deepEqual(await ask(socket, 'join', room), { ok: true });
  return socket;
}

for (const way of Object.keys(WAYS)) {
  test(`${way}: events go both ways, and binary in any position`, async (t) => {
    const room = `${way} kinds`;
    const socket = await connected(t, way, { rooms: [room] });
    const got = [];
    socket.on('e', (...args) => got.push(args));
    const large = Buffer.alloc(70_000, 7);
    const all = [
      [], ['text é 🎉 日本語 "quoted" \u2028 \x1e end'], [0, -1, 1.5, 2 ** 53, null, true, {}, []], [{ a: [{ b: null }] }],
      [Buffer.from([1, 2, 3])], ['before', Buffer.alloc(0), 'after'], [{ a: { b: [Buffer.from([0x1e, 0x34])] } }, Buffer.from('b4')],
      [[large, 'x', { large }]], Array.from({ length: 10 }, (_, at) => Buffer.from([at])),
    ];
    for (const args of all) socket.emit('publish', room, 'e', ...args);
    await until(() => got.length === all.length, 10_000, () => `all arrive: ${got.length} of ${all.length}`);
    assert.deepEqual(got, all);
    assert.equal(socket.io.engine.transport.name, way === 'polling' ? 'polling' : 'websocket');
  });

  test(`${way}: acknowledgements answer the event that asked, in a burst too`, async (t) => {
    const socket = await connected(t, way);
    const answers = await Promise.all(Array.from({ length: 300 }, (_, at) => ask(socket, 'join', `${way} ${at % 7}`)));
    assert.equal(answers.length, 300);
    for (const answer of answers) assert.deepEqual(answer, { ok: true });
  });

  test(`${way}: volatile and compress do not change what arrives, and retries come once`, async (t) => {
    const room = `${way} flags`;
    const socket = await connected(t, way, { rooms: [room] });
    const got = collect(socket, 'e');
    socket.compress(true).emit('publish', room, 'e', 'x'.repeat(5_000));
    await until(() => got.length === 1, 5_000, 'it arrives');
    // A GET must be pending for a volatile event to have where to go: an idle connection has one.
    await until(() => socket.io.engine.transport.writable, 5_000, 'the client can write');
    socket.volatile.emit('publish', room, 'e', 'volatile');
    await until(() => got.length === 2, 5_000, 'volatile arrives');
    const retrying = await connected(t, way, { rooms: [room], retries: 3, ackTimeout: 5_000 });
    await Promise.all([1, 2, 3].map((n) => retrying.emitWithAck('publish', room, 'e', n)));
    await until(() => got.length === 5, 5_000, 'all arrive');
    assert.deepEqual(got.slice(1), ['volatile', 1, 2, 3]);
  });

  test(`${way}: namespaces share the connection, those of a pattern come to be, others are refused`, async (t) => {
    const main = await connected(t, way);
    const lost = collect(main, 'disconnect');
    const [admin, tenant, wrong] = ['/admin', '/tenant-7', '/unknown'].map((name) => main.io.socket(name));
    t.after(() => [admin, tenant, wrong].forEach((socket) => socket.disconnect()));
    const refused = collect(wrong, 'connect_error');
    await until(() => admin.connected && tenant.connected && refused.length, 5_000, 'answers to all three');
    assert.equal(refused[0].message, 'Invalid namespace');
    assert.equal(new Set([main, admin, tenant].map(({ id }) => id)).size, 3);
    const got = [main, admin, tenant].map((socket) => collect(socket, 'e'));
    for (const socket of [main, admin, tenant]) await ask(socket, 'join', `${way} same`);
    emitter.of('/tenant-7').to(`${way} same`).emit('e', 'for the tenant');
    emitter.of('/admin').to(`${way} same`).emit('e', 'for admins');
    emitter.to(`${way} same`).emit('e', 'for main');
    await until(() => got.every((list) => list.length), 5_000, () => `all receive: ${JSON.stringify(got)}`);
    assert.deepEqual(got, [['for main'], ['for admins'], ['for the tenant']]);
    admin.disconnect();
    assert.deepEqual(await ask(tenant, 'leave', `${way} same`), { ok: true });
    assert.deepEqual(lost, []);
  });

  test(`${way}: large payloads pass whole both ways`, async (t) => {
    const room = `${way} large`;
    const socket = await connected(t, way, { rooms: [room] });
    const got = collect(socket, 'e');
    const text = Array.from({ length: 90_000 }, (_, at) => at.toString(36)).join(' ').slice(0, 400_000);
    for (const value of [text, Buffer.alloc(600_000, 3), { text, list: [Buffer.alloc(300_000, 1), Buffer.alloc(300_000, 2)] }]) {
      got.length = 0;
      assert.deepEqual(await ask(socket, 'publish', room, 'e', value), { ok: true });
      await until(() => got.length, 10_000, 'it arrives');
      assert.deepEqual(got[0], value);
    }
    assert.ok(socket.connected);
  });
}

test('a client that says b64 gets binary as text, over polling and over WebSocket', async (t) => {
  for (const way of ['polling', 'websocket first']) {
    const room = `b64 ${way}`;
    const socket = await connected(t, way, { rooms: [room], query: { b64: 1 } });
    const [got, raw] = [collect(socket, 'e'), []];
    socket.io.engine.on('packet', ({ data }) => raw.push(data));
    if (way !== 'polling') socket.io.engine.transport.ws.on('message', (_, binary) => raw.push(binary));
    socket.emit('publish', room, 'e', { b: Buffer.from([1, 2, 3]) });
    await until(() => got.length, 5_000, 'it arrives');
    assert.deepEqual(got, [{ b: Buffer.from([1, 2, 3]) }]);
    assert.ok(!raw.includes(true), 'no binary frame');
  }
});

test('events while the connection is upgraded are neither lost, doubled nor out of order', async (t) => {
  for (let round = 0; round < 10; round += 1) {
    const room = `upgrade ${round}`;
    const socket = await connectSocket(t, server, WAYS.upgraded);
    const [up, down] = [collect(socket, 'up'), collect(socket, 'down')];
    await ask(socket, 'join', room);
    // Both directions, as fast as they go, until well after the upgrade.
    let sent = 0;
    const end = performance.now() + 10_000;
    let after = 0;
    while (after < 5) {
      for (let at = 0; at < 20; at += 1) {
        socket.emit('publish', room, 'up', at % 5 ? sent : { n: sent, b: Buffer.from([sent & 255]) });
        emitter.to(room).emit('down', at % 5 ? sent : { n: sent, b: Buffer.from([sent & 255]) });
        sent += 1;
      }
      await new Promise(setImmediate);
      if (socket.io.engine.transport.name === 'websocket') after += 1;
      assert.ok(performance.now() < end, 'the upgrade came');
      assert.ok(socket.connected);
    }
    const wanted = Array.from({ length: sent }, (_, n) => (n % 20 % 5 ? n : { n, b: Buffer.from([n & 255]) }));
    await until(() => up.length >= sent && down.length >= sent, 10_000, () => `of ${sent}: ${up.length} up, ${down.length} down`);
    assert.deepEqual(up, wanted);
    assert.deepEqual(down, wanted);
    socket.disconnect();
  }
});

test('a polling client whose server goes away comes back by itself', async (t) => {
  for (const [way, signal] of [['polling', 'SIGKILL'], ['polling', 'SIGTERM'], ['upgraded', 'SIGKILL']]) {
    const first = await startSubject(t, {});
    const quick = { reconnectionDelay: 50, reconnectionDelayMax: 100 };
    const socket = await connectSocket(t, first, { ...WAYS[way], ...quick });
    if (way === 'upgraded') await upgraded(socket);
    const id = socket.id;
    const reasons = collect(socket, 'disconnect');
    if (REFERENCE) await first.io.close();
    else first.signal(signal);
    await until(() => reasons.length, 10_000, 'the client notices');
    assert.match([reasons[0]].flat()[0], /^transport (error|close)$/);
    await first.exited;
    await startSubject(t, { port: first.port });
    await until(() => socket.connected, 10_000, 'the client is back');
    assert.notEqual(socket.id, id);
    assert.deepEqual(await ask(socket, 'join', 'r'), { ok: true });
    socket.disconnect();
  }
});

test('heartbeats keep an idle polling client', async (t) => {
  const quick = await startSubject(t, { pingInterval: 150, pingTimeout: 200 });
  for (const way of ['polling', 'upgraded']) {
    const socket = await connectSocket(t, quick, WAYS[way]);
    const lost = collect(socket, 'disconnect');
    let pings = 0;
    socket.io.on('ping', () => (pings += 1));
    await until(() => pings >= 6, 10_000, 'pings come');
    assert.deepEqual(lost, []);
    assert.deepEqual(await ask(socket, 'join', 'r'), { ok: true });
  }
});

test('a polling client that disconnects tells the server, and stays away', async (t) => {
  const socket = await connected(t, 'polling');
  const other = await connected(t, 'polling', { rooms: ['leaving'] });
  await ask(socket, 'join', 'leaving');
  const [gone, stays] = [collect(socket, 'e'), collect(other, 'e')];
  const reasons = collect(socket, 'disconnect');
  socket.disconnect();
  await until(() => reasons.length, 5_000, 'it is told');
  assert.equal(reasons[0][0] ?? reasons[0], 'io client disconnect');
  emitter.to('leaving').emit('e', 1);
  await until(() => stays.length, 5_000, 'the other receives');
  assert.deepEqual(gone, []);
  assert.equal(socket.active, false);
});

test('a payload above the limit ends the connection, not the server', async (t) => {
  const small = await startSubject(t, { maxHttpBufferSize: 20_000 });
  const bystander = await connectSocket(t, small, WAYS.polling);
  const lost = collect(bystander, 'disconnect');
  for (const way of ['polling', 'websocket first']) {
    const socket = socketTo(t, small, { ...WAYS[way], reconnection: false });
    await until(() => socket.connected, 5_000, 'connected');
    const reasons = collect(socket, 'disconnect');
    // The largest that fits, then one too many.
    assert.deepEqual(await ask(socket, 'join', 'x'.repeat(60)), { ok: true });
    socket.emit('publish', 'r', 'e', 'x'.repeat(19_000));
    assert.deepEqual(await ask(socket, 'join', 'r'), { ok: true });
    socket.emit('publish', 'r', 'e', 'x'.repeat(20_001));
    await until(() => reasons.length, 5_000, 'it is closed');
    assert.match(String(reasons[0][0] ?? reasons[0]), /transport (error|close)/);
  }
  assert.deepEqual(await ask(bystander, 'join', 'r'), { ok: true });
  assert.deepEqual(lost, []);
});
