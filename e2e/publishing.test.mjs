// Every way to publish, each reaching members on every node.

import assert from 'node:assert/strict';
import test from 'node:test';
import {
  ROOMS, ask, collect, connectPlain, connectSocket, file, publish, startEdge, startRedis, until,
} from './harness.mjs';

const redis = await startRedis(file);
const edges = await Promise.all([
  startEdge(file, { redis, dev: true, config: ROOMS }),
  startEdge(file, { redis, dev: true, config: ROOMS }),
]);
const emitter = await redis.emitter();
const connection = await redis.connect();

// One client on each edge, all in `rooms`, with what they receive.
async function pair(t, rooms, options) {
  const sockets = await Promise.all(edges.map((edge) => connectSocket(t, edge, options)));
  for (const socket of sockets) {
    for (const room of rooms) assert.deepEqual(await ask(socket, 'join', room), { ok: true });
  }
  const got = sockets.map(() => []);
  sockets.forEach((socket, at) => socket.onAny((event, ...args) => got[at].push([event, ...args])));
  return { sockets, got };
}

// Everything that was published before is there when this has arrived everywhere: one feed, one order.
async function settle(got, room, namespace = '/') {
  emitter.of(namespace).to(room).emit('settled');
  await until(() => got.every((list) => list.some(([event]) => event === 'settled')), 10_000, 'the last one arrives');
  return got.map((list) => list.filter(([event]) => event !== 'settled'));
}

test('the emitter reaches one room on both edges, and nobody else', async (t) => {
  const { got } = await pair(t, ['one']);
  emitter.to('one').emit('e', 1, 'two', { three: 3 });
  emitter.in('one').emit('e', 'in');
  emitter.to('another').emit('e', 'not here');
  for (const list of await settle(got, 'one')) assert.deepEqual(list, [['e', 1, 'two', { three: 3 }], ['e', 'in']]);
});

test('the emitter reaches several rooms, members of more than one of them once', async (t) => {
  const { sockets, got } = await pair(t, ['a']);
  await ask(sockets[0], 'join', 'b');
  emitter.to('a').to('b').emit('e', 1);
  emitter.to(['b', 'c']).emit('e', 2);
  const [first, second] = await settle(got, 'a');
  assert.deepEqual(first, [['e', 1], ['e', 2]]);
  assert.deepEqual(second, [['e', 1]]);
});

test('the emitter reaches everyone in the namespace when it names no room', async (t) => {
  const { got } = await pair(t, ['everyone']);
  const admin = await pair(t, ['everyone'], { namespace: '/admin' });
  emitter.emit('e', 'all');
  for (const list of await settle(got, 'everyone')) assert.deepEqual(list, [['e', 'all']]);
  for (const list of await settle(admin.got, 'everyone', '/admin')) assert.deepEqual(list, []);
});

test('the emitter leaves out members of rooms that it excepts', async (t) => {
  const { sockets, got } = await pair(t, ['most']);
  await ask(sockets[1], 'join', 'few');
  emitter.to('most').except('few').emit('e', 1);
  emitter.except(['few', 'nobody']).emit('e', 2);
  emitter.to('most').except(sockets[0].id).emit('e', 3);
  const [first, second] = await settle(got, 'most');
  assert.deepEqual(first, [['e', 1], ['e', 2]]);
  assert.deepEqual(second, [['e', 3]]);
});

test('the emitter reaches a room of another namespace only', async (t) => {
  const main = await pair(t, ['same']);
  const admin = await pair(t, ['same'], { namespace: '/admin' });
  emitter.of('/admin').to('same').emit('e', 'admin');
  emitter.of('admin').emit('e', 'all of admin');
  for (const list of await settle(admin.got, 'same', '/admin')) {
    assert.deepEqual(list, [['e', 'admin'], ['e', 'all of admin']]);
  }
  for (const list of await settle(main.got, 'same')) assert.deepEqual(list, []);
});

test('volatile and compress reach members that can take them', async (t) => {
  const { got } = await pair(t, ['flags']);
  emitter.volatile.to('flags').emit('e', 1);
  emitter.compress(false).to('flags').emit('e', 2);
  emitter.to('flags').volatile.compress(true).emit('e', 3);
  for (const list of await settle(got, 'flags')) assert.deepEqual(list, [['e', 1], ['e', 2], ['e', 3]]);
});

test('binary, dates and nested values arrive as Socket.IO shows them', async (t) => {
  const { got } = await pair(t, ['values']);
  const date = new Date('2023-11-14T22:13:20.123Z');
  const value = {
    date, text: 'é 🎉', none: null, yes: true, float: 1.5, negative: -5, large: 2 ** 40, list: [[1], [{ a: [] }]],
    custom: { toJSON: () => 'by toJSON' },
  };
  emitter.to('values').emit('e', value);
  emitter.to('values').emit('bin', Buffer.from([1, 2, 3, 4]), { u: Buffer.from([5, 6]) }, 'after');
  emitter.to('values').emit('e', NaN, Infinity, -0);
  for (const list of await settle(got, 'values')) {
    const { custom, ...plain } = value;
    assert.deepEqual(list[0][1].date, date.toISOString());
    assert.deepEqual({ ...list[0][1], custom: undefined, date }, { ...plain, custom: undefined });
    assert.deepEqual(list[1], ['bin', Buffer.from([1, 2, 3, 4]), { u: Buffer.from([5, 6]) }, 'after']);
    assert.deepEqual(list[2], ['e', null, null, 0]);
  }
});

test("a session's id is a room of its own", async (t) => {
  const { sockets, got } = await pair(t, ['sid']);
  emitter.to(sockets[1].id).emit('e', 'for one');
  emitter.to([sockets[0].id, sockets[1].id]).emit('e', 'for both');
  const [first, second] = await settle(got, 'sid');
  assert.deepEqual(first, [['e', 'for both']]);
  assert.deepEqual(second, [['e', 'for one'], ['e', 'for both']]);
});

test('rooms with odd names and numbers as rooms are reached', async (t) => {
  const names = ['a#b', 'x*?[y]', 'with space', 'é🎉', '#', '{brace}', 'channel:1:2'];
  const { got } = await pair(t, [...names, '42']);
  for (const name of names) emitter.to(name).emit('e', name);
  emitter.to(42).emit('e', 42);
  for (const list of await settle(got, '42')) {
    assert.deepEqual(list, [...names.map((name) => ['e', name]), ['e', 42]]);
  }
});

test('plain clients receive what emitters publish, the room named, binary as base64', async (t) => {
  const plain = await Promise.all(edges.map((edge) => connectPlain(t, edge)));
  for (const one of plain) await one.ask({ type: 'join', room: 'plain' });
  emitter.to('plain').emit('e', { a: 1 });
  emitter.to('plain').emit('two', 1, 2);
  emitter.to('plain').emit('bin', Buffer.from([1, 2, 3]));
  for (const one of plain) {
    const single = await one.next((frame) => frame.event === 'e');
    assert.deepEqual([single.type, single.room, single.data], ['event', 'plain', { a: 1 }]);
    assert.deepEqual((await one.next((frame) => frame.event === 'two')).args, [1, 2]);
    const binary = await one.next((frame) => frame.event === 'bin');
    assert.match(JSON.stringify(binary), /AQID/);
    assert.match(JSON.stringify(binary), /"binary":true/);
  }
});

test('PUBLISH of plain JSON from any Redis client reaches both edges', async (t) => {
  const { got } = await pair(t, ['json']);
  const admin = await pair(t, ['json'], { namespace: '/admin' });
  const say = (object) => connection.publish('socket.io-publish', JSON.stringify(object));
  await say({ namespace: '/', room: 'json', event: 'x', data: { a: [1, 'é'] } });
  await say({ room: 'json', event: 'x', args: [1, 2] });
  await say({ rooms: ['json', 'other'], event: 'x', data: null });
  await say({ event: 'x', data: 'everyone' });
  await say({ room: 'other', event: 'x', data: 'not here' });
  await say({ namespace: '/admin', room: 'json', event: 'x', data: 'admin' });
  const expected = [['x', { a: [1, 'é'] }], ['x', 1, 2], ['x', null], ['x', 'everyone']];
  await until(() => got.every((list) => list.length >= 4), 5_000, () => `all four: ${JSON.stringify(got)}`);
  await until(() => admin.got.every((list) => list.length >= 1), 5_000, 'the other namespace');
  for (const list of got) assert.deepEqual(list, expected);
  for (const list of admin.got) assert.deepEqual(list, [['x', 'admin']]);
});

test('POST /v1/publish on one edge reaches members on both', async (t) => {
  const { sockets, got } = await pair(t, ['http', 'http2']);
  await ask(sockets[1], 'join', 'few');
  for (const body of [
    { room: 'http', event: 'e', data: { a: 1 } },
    { namespace: '/', rooms: ['http', 'http2'], event: 'e', args: [1, 2] },
    { rooms: ['http'], except: ['few'], event: 'e', data: 'most' },
    { room: 'nobody', event: 'e', data: 1 },
  ]) {
    const answer = await publish(edges[0], body);
    assert.ok([200, 202, 204].includes(answer.status), `${answer.status} ${answer.text}`);
  }
  const [first, second] = await settle(got, 'http');
  const both = [['e', { a: 1 }], ['e', 1, 2]];
  assert.deepEqual(first, [...both, ['e', 'most']]);
  assert.deepEqual(second, both);
});

test('POST /v1/publish refuses what is no publication, with the reason', async () => {
  for (const body of [
    '', 'no json', '[]', '"x"', '{}', '{"room":"r"}', { room: 'r', data: 1 }, { room: 'r', event: 7, data: 1 },
    { room: 'r', event: '', data: 1 }, { room: {}, event: 'e', data: 1 }, { rooms: 'r', event: 'e', data: 1 },
    { room: '', event: 'e', data: 1 }, { room: 'r', rooms: ['s'], event: 'e', data: 1 },
    { room: 'r', event: 'e', data: 1, args: [1] }, { room: 'r', event: 'e', args: 1 },
    { room: 'r', event: 'connect', data: 1 },
    { room: 'x'.repeat(300), event: 'e', data: 1 }, `{"room":"r","event":"e","data":${'['.repeat(600)}${']'.repeat(600)}}`,
  ]) {
    const answer = await publish(edges[0], body);
    assert.equal(answer.status, 400, `${JSON.stringify(body).slice(0, 80)}: ${answer.status} ${answer.text}`);
    assert.ok(answer.text.length > 10, 'it says why');
  }
  const large = await publish(edges[0], { room: 'r', event: 'e', data: 'x'.repeat(1_100_000) });
  assert.equal(large.status, 413);
});

test("another client's event reaches the room on both edges, the sender included, with an ack", async (t) => {
  const { sockets, got } = await pair(t, ['relay']);
  assert.deepEqual(await ask(sockets[0], 'publish', 'relay', 'e', { n: 1 }), { ok: true });
  sockets[1].emit('publish', 'relay', 'e', { n: 2 });
  await until(() => got.every((list) => list.length === 2), 5_000, 'both receive both');
  for (const list of got) assert.deepEqual(list, [['e', { n: 1 }], ['e', { n: 2 }]]);
});

test('while Redis is away publishing says so, and works again afterwards', async (t) => {
  const own = await startRedis(t);
  const edge = await startEdge(t, { redis: own, dev: true });
  const socket = await connectSocket(t, edge);
  await ask(socket, 'join', 'r');
  const got = collect(socket, 'e');
  await own.stop();
  const body = { room: 'r', event: 'e', data: 'lost' };
  await until(async () => (await publish(edge, body)).status === 503, 5_000, 'publishing is refused with 503');
  const answer = await ask(socket, 'publish', 'r', 'e', 'lost');
  assert.equal(answer.ok, false);
  assert.equal(answer.error.code, 'unavailable');
  assert.equal(answer.error.retry, true);
  await own.restart();
  // Publishing may work before the room is subscribed again; what is sent in between is lost.
  await until(async () => (await publish(edge, { ...body, data: 'back' })).status === 200 && got.includes('back'), 5_000, 'publishing works and arrives');
  assert.ok(!got.includes('lost'));
});
