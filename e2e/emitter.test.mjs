// Every operation of @socket.io/redis-emitter, to clients on two nodes: what it emits in every form, and what it
// has the nodes do. `SUBJECT=reference` runs the same against two of Socket.IO's own servers.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Emitter } from '@socket.io/redis-emitter';
import { REFERENCE, ask, collect, connectSocket, file, startApp, startRedis, startSubject, until } from './harness.mjs';

const redis = await startRedis(file);
const NAMESPACES = ['/admin', '/tenant-{id}'];
const servers = await Promise.all([
  startSubject(file, { redis, namespaces: NAMESPACES }),
  startSubject(file, { redis, namespaces: NAMESPACES }),
]);
const emitter = await redis.emitter();
const connection = await redis.connect();

// Three clients, two of them on the first node; what each gets.
async function three(t, options) {
  const sockets = await Promise.all([0, 0, 1].map((at) => connectSocket(t, servers[at], options)));
  const got = sockets.map((socket) => {
    const list = [];
    socket.onAny((event, ...args) => event !== 'settled' && event !== 'probe' && list.push([event, ...args]));
    return list;
  });
  return { sockets, got };
}

const join = async (socket, ...rooms) => {
  for (const room of rooms) assert.deepEqual(await ask(socket, 'join', room), { ok: true });
};

// Everything of the emitter's that was on its way is there, on every node: one link, one order.
let settles = 0;
async function settle(sockets, namespace = '/') {
  settles += 1;
  const own = settles;
  const there = sockets.map((socket) => new Promise((resolve) => socket.on('settled', (at) => at === own && resolve())));
  emitter.of(namespace).emit('settled', own);
  let all = false;
  Promise.all(there).then(() => (all = true));
  await until(() => all, 10_000, 'what was sent last is there');
}

// Waits until the socket is in the room, as others see it.
async function inRoom(socket, room, namespace = '/') {
  let heard = false;
  socket.on('probe', (of) => (heard ||= of === room));
  await until(() => {
    emitter.of(namespace).to(room).emit('probe', room);
    return heard;
  }, 10_000, `${socket.id} is in ${room}`);
  socket.off('probe');
}

test('every kind of value arrives as it was given', async (t) => {
  const { sockets, got } = await three(t);
  const circular = { toJSON: () => ({ by: 'toJSON' }) };
  const values = [
    [], ['text'], ['é 🎉'], [''], [1], [-1], [0], [1.5], [2 ** 31], [2 ** 40], [-(2 ** 40)], [true, false], [null], [[]], [{}],
    [[1, [2, [3, { four: 4 }]]]], [{ a: { b: { c: ['d'] } } }], [1, '2', [3], { four: 4 }], ['x'.repeat(40_000)],
    [Array.from({ length: 1_000 }, (_, at) => at)], [{ ...Object.fromEntries(Array.from({ length: 300 }, (_, at) => [`k${at}`, at])) }],
  ];
  for (const args of values) emitter.emit('v', ...args);
  emitter.emit('json', circular, { nested: circular });
  await settle(sockets);
  for (const list of got) {
    assert.deepEqual(list.slice(0, -1), values.map((args) => ['v', ...args]));
    assert.deepEqual(list.at(-1), ['json', { by: 'toJSON' }, { nested: { by: 'toJSON' } }]);
  }
});

test('binary of every form arrives as bytes', async (t) => {
  const { sockets, got } = await three(t);
  const buffer = Buffer.from([0, 1, 254, 255]);
  emitter.emit('b', buffer);
  emitter.emit('b', new Uint8Array([1, 2, 3]), { deep: [buffer, { deeper: Buffer.alloc(0) }] }, 'after');
  emitter.emit('b', Buffer.alloc(70_000, 5));
  await settle(sockets);
  for (const list of got) {
    assert.deepEqual(list, [
      ['b', buffer],
      ['b', Buffer.from([1, 2, 3]), { deep: [buffer, { deeper: Buffer.alloc(0) }] }, 'after'],
      ['b', Buffer.alloc(70_000, 5)],
    ]);
  }
});

test('rooms, several rooms, exceptions, in any order', async (t) => {
  const { sockets, got } = await three(t);
  await join(sockets[0], 'r1');
  await join(sockets[1], 'r1', 'r2');
  await join(sockets[2], 'r3');
  emitter.to('r1').emit('e', 1);
  emitter.in('r2').emit('e', 2);
  emitter.to('r1').to('r2').in('r3').emit('e', 3);
  emitter.to(['r2', 'r3']).emit('e', 4);
  emitter.except('r1').emit('e', 5);
  emitter.to('r1').except('r2').emit('e', 6);
  emitter.except(['r2', 'r3']).emit('e', 7);
  emitter.except(sockets[0].id).except(sockets[2].id).emit('e', 8);
  emitter.to(sockets[2].id).emit('e', 9);
  emitter.to([sockets[0].id, 'r3']).emit('e', 10);
  emitter.compress(false).in('r3').except('r1').emit('e', 11);
  emitter.to('nobody').compress(true).emit('e', 12);
  await settle(sockets);
  assert.deepEqual(got.map((list) => list.map(([, n]) => n)), [
    [1, 3, 6, 7, 10], [1, 2, 3, 4, 8], [3, 4, 5, 9, 10, 11],
  ]);
});

test('volatile reaches those who have nothing waiting', async (t) => {
  const { sockets, got } = await three(t);
  await join(sockets[0], 'v');
  await join(sockets[2], 'v');
  for (const [n, operator] of [emitter.volatile.to('v'), emitter.compress(false).in('v').volatile, emitter.volatile].entries()) {
    await settle(sockets);
    operator.emit('e', n);
    await until(() => got[0].length === n + 1 && got[2].length === n + 1, 5_000, 'it arrives');
  }
  assert.deepEqual(got.map((list) => list.map(([, n]) => n)), [[0, 1, 2], [2], [0, 1, 2]]);
});

test('an operator can be kept and used again', async (t) => {
  const { sockets, got } = await three(t);
  await join(sockets[0], 'kept');
  const operator = emitter.to('kept');
  operator.emit('e', 1);
  operator.except(sockets[0].id).emit('e', 'nobody');
  operator.emit('e', 2);
  await settle(sockets);
  assert.deepEqual(got, [[['e', 1], ['e', 2]], [], []]);
});

test('namespaces, with and without their slash, and those of a pattern', async (t) => {
  const [main, admin, tenant] = [await three(t), await three(t, { namespace: '/admin' }), await three(t, { namespace: '/tenant-1' })];
  emitter.of('/admin').emit('e', 'admin');
  emitter.of('admin').emit('e', 'admin again');
  await join(tenant.sockets[2], 'r');
  emitter.of('/tenant-1').to('r').emit('e', 'tenant');
  emitter.of('/tenant-2').emit('e', 'nobody');
  emitter.of('/').emit('e', 'main');
  await settle(main.sockets);
  await settle(admin.sockets, '/admin');
  await settle(tenant.sockets, '/tenant-1');
  for (const list of main.got) assert.deepEqual(list, [['e', 'main']]);
  for (const list of admin.got) assert.deepEqual(list, [['e', 'admin'], ['e', 'admin again']]);
  assert.deepEqual(tenant.got, [[], [], [['e', 'tenant']]]);
});

test('another key is another installation', async (t) => {
  const { sockets, got } = await three(t);
  const other = new Emitter(connection, { key: 'other' });
  other.emit('e', 'nobody');
  emitter.emit('e', 'all');
  await settle(sockets);
  for (const list of got) assert.deepEqual(list, [['e', 'all']]);
});

test('socketsJoin: all, those of rooms but for others, and one by its id', async (t) => {
  const { sockets, got } = await three(t);
  await join(sockets[1], 'some');
  await join(sockets[2], 'some');
  emitter.socketsJoin('j1');
  emitter.in('some').except(sockets[1].id).socketsJoin(['j2', 'j3']);
  emitter.in(sockets[0].id).socketsJoin('j4');
  for (const socket of sockets) await inRoom(socket, 'j1');
  await inRoom(sockets[2], 'j2');
  await inRoom(sockets[2], 'j3');
  await inRoom(sockets[0], 'j4');
  for (const room of ['j1', 'j2', 'j3', 'j4']) emitter.to(room).emit('e', room);
  await settle(sockets);
  assert.deepEqual(got.map((list) => list.map(([, room]) => room)), [['j1', 'j4'], ['j1'], ['j1', 'j2', 'j3']]);
});

test('socketsLeave: those of a room, several rooms, all', async (t) => {
  const { sockets, got } = await three(t);
  for (const socket of sockets) await join(socket, 'l1', 'l2', 'l3');
  emitter.in(sockets[0].id).socketsLeave('l1');
  emitter.in('l1').socketsLeave(['l2', 'l3']);
  for (const room of ['l1', 'l2', 'l3']) emitter.to(room).emit('e', room);
  await settle(sockets);
  assert.deepEqual(got.map((list) => list.map(([, room]) => room)), [['l2', 'l3'], ['l1'], ['l1']]);
  emitter.socketsLeave('l1');
  emitter.socketsLeave(['l2', 'l3']);
  for (const room of ['l1', 'l2', 'l3']) emitter.to(room).emit('e', 'nobody');
  await settle(sockets);
  assert.deepEqual(got.map((list) => list.length), [2, 1, 1]);
});

test('requests are about one namespace', async (t) => {
  const [main, admin] = [await three(t), await three(t, { namespace: '/admin' })];
  emitter.of('/admin').socketsJoin('only admins');
  for (const socket of admin.sockets) await inRoom(socket, 'only admins', '/admin');
  emitter.to('only admins').emit('e', 'nobody');
  await settle(main.sockets);
  for (const list of main.got) assert.deepEqual(list, []);
  emitter.of('/admin').disconnectSockets();
  await until(() => admin.sockets.every((socket) => !socket.connected), 5_000, 'admins are out');
  assert.ok(main.sockets.every((socket) => socket.connected));
});

test('disconnectSockets: the clients of a room are told and stay away, others stay', async (t) => {
  const { sockets } = await three(t);
  const reasons = sockets.map((socket) => collect(socket, 'disconnect'));
  await join(sockets[0], 'out');
  await join(sockets[2], 'out');
  // Without another namespace the client would end the connection itself.
  const admin = sockets[0].io.socket('/admin');
  await until(() => admin.connected, 5_000, 'it is in another namespace, too');
  emitter.in('out').disconnectSockets();
  await until(() => reasons[0].length && reasons[2].length, 5_000, 'they are told');
  for (const list of [reasons[0], reasons[2]]) assert.equal([list[0]].flat()[0], 'io server disconnect');
  assert.deepEqual(reasons[1], []);
  // The connection is theirs still: they may come back on it.
  await join(admin, 'still');
  sockets[0].connect();
  await until(() => sockets[0].connected, 5_000, 'back on the same connection');
  await join(sockets[0], 'again');
});

test('disconnectSockets(true): the connections end, those of all nodes', async (t) => {
  const { sockets } = await three(t);
  const reasons = sockets.map((socket) => collect(socket, 'disconnect'));
  const engines = sockets.map((socket) => socket.io.engine);
  emitter.except(sockets[1].id).disconnectSockets(true);
  await until(() => reasons[0].length && reasons[2].length, 5_000, 'they are told');
  for (const list of [reasons[0], reasons[2]]) assert.equal([list[0]].flat()[0], 'io server disconnect');
  await until(() => [engines[0], engines[2]].every((engine) => engine.readyState === 'closed'), 5_000, 'the connections end');
  assert.deepEqual(reasons[1], []);
  assert.equal(engines[1].readyState, 'open');
});

test('many at once, in order', async (t) => {
  const { sockets, got } = await three(t);
  await join(sockets[0], 'many');
  await join(sockets[2], 'many');
  const wanted = Array.from({ length: 2_000 }, (_, n) => ['e', n]);
  for (const [event, n] of wanted) emitter.to('many').emit(event, n);
  await settle(sockets);
  assert.deepEqual(got, [wanted, [], wanted]);
});

test('serverSideEmit: the app of every node is told once, with the name of the node', async (t) => {
  const told = [];
  const take = (where, event) => (...args) => told.push([where, event, ...args]);
  if (REFERENCE) {
    for (const [at, { io }] of servers.entries()) io.on('hello', take(at, 'hello'));
  } else {
    const app = await startApp(t, { server_side_emit: ({ node, event, args }) => void take(node, event)(...args) });
    await Promise.all([startSubject(t, { redis, app }), startSubject(t, { redis, app })]);
  }
  emitter.serverSideEmit('hello', { a: 1 }, 'x');
  await until(() => told.length >= 2, 5_000, () => `both: ${JSON.stringify(told)}`);
  assert.deepEqual(told.map(([, ...rest]) => rest), [['hello', { a: 1 }, 'x'], ['hello', { a: 1 }, 'x']]);
  assert.notEqual(told[0][0], told[1][0]);
});
