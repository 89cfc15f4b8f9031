// Rules of the config: who may join what, and which events are passed on. Deny by default.

import assert from 'node:assert/strict';
import test from 'node:test';
import {
  ROOMS, ask, collect, connectPlain, connectSocket, file, startEdge, startRedis, until,
} from './harness.mjs';

const redis = await startRedis(file);
const [edge, other] = await Promise.all([
  startEdge(file, { redis, config: ROOMS }),
  startEdge(file, { redis, config: ROOMS }),
]);

const refused = (code) => (answer) => {
  assert.equal(answer.ok, false);
  assert.equal(answer.error.code, code);
  assert.equal(answer.error.retry, false);
  return true;
};

test('without --dev and without a rule nothing is joined or passed on', async (t) => {
  const bare = await startEdge(t, { redis });
  const socket = await connectSocket(t, bare);
  for (const [event, ...args] of [['join', 'r'], ['join:channel', '7'], ['publish', 'r', 'e', 1], ['leave', 'r']]) {
    refused('forbidden')(await ask(socket, event, ...args));
  }
  const plain = await connectPlain(t, bare);
  refused('forbidden')(await plain.ask({ type: 'join', room: 'r' }));
  assert.equal(await bare.metric('fanfare_memberships'), 0);
  assert.equal(await bare.metric('fanfare_commands_refused_total', { code: 'forbidden' }), 5);
});

test('the development events are refused where rules are given', async (t) => {
  const socket = await connectSocket(t, edge);
  refused('forbidden')(await ask(socket, 'join', 'channel:7'));
  refused('forbidden')(await ask(socket, 'publish', 'channel:7', 'e', 1));
});

test('an event of the config joins the room that its argument names, on every edge', async (t) => {
  const sockets = [await connectSocket(t, edge), await connectSocket(t, other)];
  assert.deepEqual(await ask(sockets[0], 'join:channel', '7'), { ok: true });
  assert.deepEqual(await ask(sockets[1], 'join:channel', { channelId: 7 }), { ok: true });
  const got = sockets.map((socket) => collect(socket, 'message:new'));
  const emitter = await redis.emitter();
  emitter.to('channel:7').emit('message:new', { text: 'hello' });
  emitter.to('channel:8').emit('message:new', { text: 'for others' });
  emitter.to('channel:7').emit('message:new', { text: 'again' });
  await until(() => got.every((list) => list.length === 2), 5_000, 'both receive');
  for (const list of got) assert.deepEqual(list, [{ text: 'hello' }, { text: 'again' }]);
});

test('a join without a room, or with an argument that names none, is a bad request', async (t) => {
  const socket = await connectSocket(t, edge);
  for (const args of [[], [null], [{}], [[7]], [''], [{ other: 1 }], ['x'.repeat(300)], ['a\nb']]) {
    refused('bad_request')(await ask(socket, 'join:channel', ...args));
  }
  assert.ok(socket.connected);
});

test('a relayed event reaches the others in the room under its new name, and not its sender', async (t) => {
  const [sender, near, far] = [
    await connectSocket(t, edge), await connectSocket(t, edge), await connectSocket(t, other),
  ];
  for (const socket of [sender, near, far]) await ask(socket, 'join:channel', 'talk');
  const got = [sender, near, far].map((socket) => collect(socket, 'user:typing'));
  const payload = { channelId: 'talk', userId: 'u1', userName: 'Ada' };
  assert.deepEqual(await ask(sender, 'typing:start', payload), { ok: true });
  sender.emit('typing:start', { ...payload, userId: 'without ack' });
  await until(() => got[1].length === 2 && got[2].length === 2, 5_000, 'the others receive');
  assert.deepEqual(got[1], [payload, { ...payload, userId: 'without ack' }]);
  assert.deepEqual(got[2], got[1]);
  // What comes through Redis later would come after what was not to come.
  assert.deepEqual(await ask(sender, 'note:add', { channelId: 'talk' }), { ok: true });
  assert.deepEqual(got[0], []);
});

test('a relay with echo reaches its sender too', async (t) => {
  const [sender, far] = [await connectSocket(t, edge), await connectSocket(t, other)];
  for (const socket of [sender, far]) await ask(socket, 'join:channel', 'echo');
  const got = [sender, far].map((socket) => collect(socket, 'note:added'));
  assert.deepEqual(await ask(sender, 'note:add', { channelId: 'echo', text: 'n' }), { ok: true });
  await until(() => got.every((list) => list.length === 1), 5_000, 'both receive');
});

test('who is not in a room cannot send to it, and no longer after leaving', async (t) => {
  const [outside, inside] = [await connectSocket(t, edge), await connectSocket(t, other)];
  await ask(inside, 'join:channel', 'closed');
  const got = collect(inside, 'user:typing');
  refused('not_joined')(await ask(outside, 'typing:start', { channelId: 'closed' }));
  await ask(outside, 'join:channel', 'closed');
  assert.deepEqual(await ask(outside, 'typing:start', { channelId: 'closed', n: 1 }), { ok: true });
  assert.deepEqual(await ask(outside, 'leave:channel', 'closed'), { ok: true });
  refused('not_joined')(await ask(outside, 'typing:start', { channelId: 'closed', n: 2 }));
  await until(() => got.length, 5_000, 'one arrives');
  assert.deepEqual(got.map((value) => value.n), [1]);
});

test('events of one connection arrive in the order in which it sent them', async (t) => {
  const [sender, far] = [await connectSocket(t, edge), await connectSocket(t, other)];
  for (const socket of [sender, far]) await ask(socket, 'join:channel', 'order');
  const got = collect(far, 'note:added');
  for (let number = 0; number < 500; number += 1) sender.emit('note:add', { channelId: 'order', number });
  await until(() => got.length === 500, 10_000, () => `${got.length} of 500`);
  got.forEach((value, at) => assert.equal(value.number, at));
});

test('plain clients join, leave and send by the same rules', async (t) => {
  const [plain, socket] = [await connectPlain(t, edge), await connectSocket(t, other)];
  await ask(socket, 'join:channel', 'mixed');
  const got = collect(socket, 'user:typing');
  const event = { type: 'event', room: 'channel:mixed', event: 'typing:start', data: { channelId: 'mixed' } };
  refused('not_joined')(await plain.ask(event));
  assert.equal((await plain.ask({ type: 'join', room: 'channel:mixed' })).ok, true);
  refused('forbidden')(await plain.ask({ type: 'join', room: 'user:1' }));
  assert.equal((await plain.ask(event)).ok, true);
  refused('forbidden')(await plain.ask({ ...event, event: 'unheard of' }));
  await until(() => got.length === 1, 5_000, 'the Socket.IO client receives');
  await ask(socket, 'typing:start', { channelId: 'mixed', back: true });
  const back = await plain.next((frame) => frame.type === 'event' && frame.event === 'user:typing');
  assert.deepEqual([back.room, back.data], ['channel:mixed', { channelId: 'mixed', back: true }]);
});
