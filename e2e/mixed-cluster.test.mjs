// fanfare beside Socket.IO's own servers with the classic Redis adapter, on one Redis: each reaches the other's
// clients, and what a Node server asks of all servers is answered by fanfare, too.
// `SUBJECT=reference` puts a second Node server in fanfare's place.

import assert from 'node:assert/strict';
import test from 'node:test';
import { REFERENCE, ask, collect, connectSocket, file, startApp, startNode, startRedis, startSubject, until } from './harness.mjs';

const redis = await startRedis(file);
const NAMESPACES = ['/admin'];
const node = await startNode(file, { redis, namespaces: NAMESPACES, adapter: { requestsTimeout: 4_000 } });
const edge = await startSubject(file, { redis, namespaces: NAMESPACES });
const { io } = node;

// A client on each, in `rooms`.
async function pair(t, rooms = [], options) {
  const sockets = await Promise.all([node, edge].map((server) => connectSocket(t, server, options)));
  for (const socket of sockets) {
    for (const room of rooms) assert.deepEqual(await ask(socket, 'join', room), { ok: true });
  }
  const got = sockets.map((socket) => {
    const list = [];
    socket.onAny((...all) => list.push(all));
    return list;
  });
  return { onNode: sockets[0], onEdge: sockets[1], sockets, got };
}

// Runs something that must not wait for a server that does not answer.
async function quickly(what) {
  const started = performance.now();
  const value = await what();
  const took = performance.now() - started;
  assert.ok(took < 2_000, `answered after ${Math.round(took)} ms`);
  return value;
}

test('what either publishes reaches the clients of both, once and in order', async (t) => {
  const { onNode, onEdge, got } = await pair(t, ['both']);
  await ask(onNode, 'join', 'few');
  for (let n = 0; n < 50; n += 1) io.to('both').emit('node', n);
  io.to('both').except('few').emit('node', 'not few');
  io.to(['both', 'few']).emit('node', 'twice a member');
  io.to('both').emit('bin', { b: Buffer.from([1, 2, 3]) }, Buffer.alloc(0));
  io.to(onEdge.id).emit('node', 'by sid');
  io.local.emit('node', 'local');
  io.emit('last');
  for (let n = 0; n < 50; n += 1) onEdge.emit('publish', 'both', 'edge', n);
  onEdge.emit('publish', 'both', 'bin', 'edge', Buffer.from([4]));
  const all = (list, name) => list.filter(([event]) => event === name).map(([, first]) => first);
  await until(() => got.every((list) => all(list, 'edge').length >= 50 && all(list, 'bin').length >= 2 && list.some(([event]) => event === 'last')), 10_000, () => `all: ${got.map((list) => list.length)}`);
  const numbers = Array.from({ length: 50 }, (_, n) => n);
  assert.deepEqual(all(got[0], 'node'), [...numbers, 'twice a member', 'local']);
  assert.deepEqual(all(got[1], 'node'), [...numbers, 'not few', 'twice a member', 'by sid']);
  for (const list of got) {
    assert.deepEqual(all(list, 'edge'), numbers);
    const binary = list.filter(([event]) => event === 'bin').map(([, ...args]) => JSON.stringify(args)).sort();
    assert.deepEqual(binary, [
      [{ b: Buffer.from([1, 2, 3]) }, Buffer.alloc(0)], ['edge', Buffer.from([4])],
    ].map((args) => JSON.stringify(args)).sort());
  }
});

test('a namespace of both is one, what is published in it stays in it', async (t) => {
  const [main, admin] = [await pair(t, ['r']), await pair(t, ['r'], { namespace: '/admin' })];
  io.of('/admin').to('r').emit('e', 'node');
  await ask(admin.onEdge, 'publish', 'r', 'e', 'edge');
  await until(() => admin.got.every((list) => list.length === 2), 5_000, 'both arrive at both');
  for (const list of admin.got) assert.deepEqual(list.map(([, from]) => from).sort(), ['edge', 'node']);
  assert.deepEqual(main.got, [[], []]);
});

test('fetchSockets shows the clients of both, at once', async (t) => {
  const { onNode, onEdge } = await pair(t, ['fetched']);
  await ask(onEdge, 'join', 'more');
  const found = await quickly(() => io.in('fetched').fetchSockets());
  assert.deepEqual(found.map(({ id }) => id).sort(), [onNode.id, onEdge.id].sort());
  const theirs = found.find(({ id }) => id === onEdge.id);
  assert.deepEqual([...theirs.rooms].sort(), [onEdge.id, 'fetched', 'more'].sort());
  assert.equal(typeof theirs.handshake.address, 'string');
  assert.ok(Math.abs(new Date(theirs.handshake.time) - Date.now()) < 60_000, theirs.handshake.time);
  assert.deepEqual((await quickly(() => io.in('more').except('nobody').fetchSockets())).map(({ id }) => id), [onEdge.id]);
  assert.deepEqual(await quickly(() => io.in('fetched').except('more').in('nowhere').fetchSockets()).then((list) => list.map(({ id }) => id)), [onNode.id]);
  assert.equal((await quickly(() => io.in('nowhere').fetchSockets())).length, 0);
  assert.ok((await quickly(() => io.fetchSockets())).length >= 2);
  assert.deepEqual(await quickly(() => io.of('/admin').in('fetched').fetchSockets()), []);
});

test('the rooms of both are told', async (t) => {
  const { onEdge } = await pair(t, []);
  await ask(onEdge, 'join', 'a room of the other');
  const rooms = await quickly(() => io.of('/').adapter.allRooms());
  assert.ok(rooms.has('a room of the other'), [...rooms].join());
  assert.ok(rooms.has(onEdge.id));
});

test('a broadcast is acknowledged by the clients of both', async (t) => {
  const { onNode, onEdge } = await pair(t, ['acks']);
  onNode.on('question', (n, ack) => ack?.(`node ${n}`));
  onEdge.on('question', (n, ack) => ack(`edge ${n}`));
  const answers = await quickly(() => io.timeout(3_000).to('acks').emitWithAck('question', 1));
  assert.deepEqual(answers.sort(), ['edge 1', 'node 1']);
  assert.deepEqual(await quickly(() => io.timeout(3_000).to(onEdge.id).emitWithAck('question', 2)), ['edge 2']);
  assert.deepEqual(await quickly(() => io.timeout(3_000).to('nobody').emitWithAck('question', 3)), []);
  onEdge.off('question');
  onEdge.on('question', (n, ack) => ack({ b: Buffer.from([n]) }, 'more is not shown'));
  const binary = await quickly(() => io.timeout(3_000).to(onEdge.id).emitWithAck('question', 4));
  assert.deepEqual(binary, [{ b: Buffer.from([4]) }]);
});

test('many clients of both acknowledge one broadcast', async (t) => {
  const sockets = await Promise.all(Array.from({ length: 40 }, (_, at) => connectSocket(t, at % 2 ? edge : node)));
  for (const [at, socket] of sockets.entries()) {
    await ask(socket, 'join', 'crowd');
    socket.on('question', (ack) => ack(at));
  }
  const answers = await quickly(() => io.timeout(3_000).to('crowd').emitWithAck('question'));
  assert.deepEqual(answers.sort((a, b) => a - b), sockets.map((_, at) => at));
});

test('one who does not acknowledge is missed when the time is over, the answers of others are told', async (t) => {
  const { onNode, onEdge } = await pair(t, ['silent']);
  onNode.on('question', (ack) => ack('node'));
  const error = await new Promise((resolve) => {
    io.timeout(300).to('silent').emit('question', (failure, answers) => resolve({ failure, answers }));
  });
  assert.match(error.failure.message, /timed out/);
  assert.deepEqual(error.answers, ['node']);
  assert.ok(onEdge.connected);
});

test('serverSideEmit with an acknowledgement is answered', async (t) => {
  if (REFERENCE) edge.io.on('hey', (_, ack) => ack?.('from the other'));
  const answers = await quickly(() => io.serverSideEmitWithAck('hey', 1));
  assert.equal(answers.length, 1, JSON.stringify(answers));
  io.serverSideEmit('hey', 'nobody answers');
  t.diagnostic(`answered ${JSON.stringify(answers)}`);
});

test('serverSideEmit reaches the app of a fanfare, whose acknowledgement is the answer', { skip: REFERENCE }, async (t) => {
  const app = await startApp(t, { server_side_emit: ({ event, args }) => ({ ack: [{ event, args, from: 'the app' }] }) });
  const other = await startSubject(t, { redis, app });
  const answers = await quickly(() => io.serverSideEmitWithAck('hey', 1, { a: [null] }));
  assert.equal(answers.length, 2, JSON.stringify(answers));
  assert.deepEqual(answers.filter((answer) => answer?.from), [{ event: 'hey', args: [1, { a: [null] }], from: 'the app' }]);
  io.serverSideEmit('told', 'without an answer');
  const [first, second] = await app.came('server_side_emit', 2);
  assert.deepEqual([first.namespace, first.event, second.event, second.args], ['/', 'hey', 'told', ['without an answer']]);
  await other.kill9();
  await until(async () => (await io.serverSideEmitWithAck('gone').catch(() => [])).length === 1, 10_000, 'it is missed no longer');
});

test('Node has clients of fanfare join, leave and go', async (t) => {
  const { onNode, onEdge, got } = await pair(t, ['movers']);
  const moved = (list) => list.filter(([event]) => event === 'e').map(([, n]) => n);
  io.in('movers').socketsJoin(['moved', 'moved too']);
  await until(async () => (await io.in('moved').fetchSockets()).length === 2, 5_000, 'both are in it');
  await until(() => {
    io.to('moved too').emit('probe');
    return got.every((list) => list.some(([event]) => event === 'probe'));
  }, 5_000, 'both are reached');
  io.in(onEdge.id).socketsLeave('moved');
  io.to('moved').emit('e', 1);
  io.to('movers').emit('e', 2);
  await until(() => got.every((list) => moved(list).includes(2)), 5_000, 'what was sent last');
  assert.deepEqual(got.map(moved), [[1, 2], [2]]);
  const reasons = collect(onEdge, 'disconnect');
  const [remote] = await io.in(onEdge.id).fetchSockets();
  remote.emit('e', 'by the remote socket');
  remote.join('by remote');
  await until(async () => (await io.in('by remote').fetchSockets()).length === 1, 5_000, 'it joined');
  remote.disconnect(true);
  await until(() => reasons.length, 5_000, 'it is told');
  assert.equal([reasons[0]].flat()[0], 'io server disconnect');
  assert.deepEqual(moved(got[1]), [2, 'by the remote socket']);
  assert.ok(onNode.connected);
});

test('garbage for fanfare is no garbage for Node: nothing but envelopes on the shared channels', async (t) => {
  const { onEdge } = await pair(t, ['watched']);
  const watching = await redis.connect();
  const seen = [];
  await watching.pSubscribe('*', (payload, channel) => seen.push([channel, payload]), true);
  onEdge.emit('publish', 'watched', 'e', 1);
  await until(() => seen.length, 5_000, 'it is published');
  await io.in('watched').fetchSockets();
  const shared = seen.filter(([channel]) => channel.toString().startsWith('socket.io#'));
  assert.equal(shared.length, 1);
  for (const [channel, payload] of shared) assert.ok([0x93, 0x94].includes(payload[0]), `${channel}: ${payload.toString('hex')}`);
});

test('a fanfare that dies is no longer waited for', { skip: REFERENCE }, async (t) => {
  const mortal = await startSubject(t, { redis });
  const { id } = await connectSocket(t, mortal, { reconnection: false });
  await until(async () => (await quickly(() => io.in(id).fetchSockets())).length === 1, 5_000, 'it is seen');
  await mortal.kill9();
  // As soon as Redis has noticed that the connection is gone.
  await until(async () => {
    const started = performance.now();
    const found = await io.in(id).fetchSockets().catch(() => [id]);
    return found.length === 0 && performance.now() - started < 1_000;
  }, 10_000, 'Node no longer waits');
  const { onEdge, onNode } = await pair(t, ['after']);
  onNode.on('question', (ack) => ack('node'));
  onEdge.on('question', (ack) => ack('edge'));
  assert.deepEqual((await quickly(() => io.timeout(3_000).to('after').emitWithAck('question'))).sort(), ['edge', 'node']);
});

test('a Node server that goes away is not missed by fanfare', async (t) => {
  const second = await startNode(t, { redis, namespaces: NAMESPACES });
  const { onEdge, got } = await pair(t, ['stays']);
  second.io.to('stays').emit('e', 'from the second');
  await until(() => got.every((list) => list.length === 1), 5_000, 'both receive');
  await second.io.close();
  await ask(onEdge, 'publish', 'stays', 'e', 'from the edge');
  await until(() => got.every((list) => list.length === 2), 5_000, 'both receive');
});
