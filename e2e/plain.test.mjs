// Plain WebSocket with JSON frames: what a browser's own WebSocket needs, and nothing else.

import assert from 'node:assert/strict';
import test from 'node:test';
import { ask, collect, connectPlain, connectRaw, connectSocket, file, startEdge, until } from './harness.mjs';

const edge = await startEdge(file, { dev: true });

test('the first frame says that the connection stands', async (t) => {
  const plain = await connectPlain(t, edge);
  assert.equal(plain.frames[0].type, 'connection_success');
  assert.equal(typeof plain.frames[0].message, 'string');
  assert.equal(await edge.metric('fanfare_connections', { protocol: 'ws_json', transport: 'websocket' }), 1);
});

test('join, event and leave are answered by replies with the id that the client chose', async (t) => {
  const [one, two] = [await connectPlain(t, edge), await connectPlain(t, edge)];
  for (const id of [1, 'text', 0, 9_007_199_254_740_991]) {
    one.send({ type: 'join', id, room: 'r1' });
    assert.deepEqual(await one.next((frame) => frame.type === 'reply' && frame.id === id), { type: 'reply', id, ok: true });
  }
  await two.ask({ type: 'join', room: 'r1' });
  assert.equal((await one.ask({ type: 'event', room: 'r1', event: 'e', data: { a: [1, null, 'é🎉'] } })).ok, true);
  for (const plain of [one, two]) {
    const event = await plain.next((frame) => frame.type === 'event');
    assert.deepEqual(event, { type: 'event', room: 'r1', event: 'e', data: { a: [1, null, 'é🎉'] } });
  }
  assert.equal((await two.ask({ type: 'leave', room: 'r1' })).ok, true);
  await one.ask({ type: 'event', room: 'r1', event: 'e', data: 2 });
  await until(() => one.events('r1', 'e').length === 2, 5_000, 'who stayed receives');
  await two.ask({ type: 'join', room: 'a round trip' });
  assert.equal(two.events('r1', 'e').length, 1);
});

test('several arguments and binary keep their form', async (t) => {
  const plain = await connectPlain(t, edge);
  await plain.ask({ type: 'join', room: 'forms' });
  await plain.ask({ type: 'event', room: 'forms', event: 'args', args: [1, 'two', { three: 3 }] });
  await plain.ask({ type: 'event', room: 'forms', event: 'none' });
  await plain.ask({ type: 'event', room: 'forms', event: 'null', data: null });
  assert.deepEqual((await plain.next((frame) => frame.event === 'args')).args, [1, 'two', { three: 3 }]);
  assert.deepEqual((await plain.next((frame) => frame.event === 'none')).args, []);
  assert.equal((await plain.next((frame) => frame.event === 'null')).data, null);
});

test('what cannot be done is told in a frame, and the connection stays', async (t) => {
  const plain = await connectPlain(t, edge);
  const error = (code) => plain.next((frame) => frame.type === 'error' && frame.code === code && !frame.seen);
  for (const wrong of [
    'no json', '[]', '7', '{}', '{"type":7}', '{"type":"unheard of"}', '{"type":"join"}', '{"type":"join","room":""}',
    '{"type":"join","room":{}}', '{"type":"event","room":"r"}', '{"type":"event","room":"r","event":"e","data":1,"args":[]}',
    '{"type":"event","room":"r","event":"e","args":1}', '{"type":"join","room":"r","id":{}}',
  ]) {
    plain.send(wrong);
    const frame = await error('bad_request');
    assert.equal(typeof frame.message, 'string', wrong);
    assert.equal(frame.retry, false);
    frame.seen = true;
  }
  // With an id, the reply tells.
  const reply = await plain.ask({ type: 'event', room: 'r' });
  assert.equal(reply.ok, false);
  assert.equal(reply.error.code, 'bad_request');
  assert.equal((await plain.ask({ type: 'join', room: 'fine' })).ok, true);
});

test('liveness is WebSocket ping, and a JSON ping for those who offered the subprotocol', async (t) => {
  const quick = await startEdge(t, { dev: true, args: ['--ping-interval', '200ms', '--ping-timeout', '300ms'] });
  const bare = await connectPlain(t, quick);
  const named = await connectPlain(t, quick, { protocols: ['fanfare.v1.json'] });
  assert.equal(named.socket.protocol, 'fanfare.v1.json');
  assert.equal(bare.socket.protocol, '');
  await until(() => bare.pings >= 4, 10_000, 'WebSocket pings, answered by the library');
  await named.next((frame) => frame.type === 'ping');
  assert.ok(!bare.frames.some((frame) => frame.type === 'ping'));
  assert.equal(bare.closed, undefined);
  assert.equal((await bare.ask({ type: 'ping' })).ok, true);
});

test('a plain client that does not answer is closed with a code that says so', async (t) => {
  const quick = await startEdge(t, { dev: true, args: ['--ping-interval', '200ms', '--ping-timeout', '300ms'] });
  const silent = await connectRaw(t, quick, { path: '/ws' });
  await until(() => silent.closed, 5_000, 'it is closed');
  assert.equal(silent.closeCode(), 4000);
});

test('Socket.IO and plain clients share rooms', async (t) => {
  const [plain, socket] = [await connectPlain(t, edge), await connectSocket(t, edge)];
  await plain.ask({ type: 'join', room: 'shared' });
  await ask(socket, 'join', 'shared');
  const got = collect(socket, 'e');
  await plain.ask({ type: 'event', room: 'shared', event: 'e', data: 'from plain' });
  await ask(socket, 'publish', 'shared', 'e', 'from socket');
  await until(() => got.length === 2 && plain.events('shared', 'e').length === 2, 5_000, 'both receive both');
  assert.deepEqual(got, ['from plain', 'from socket']);
  assert.deepEqual(plain.events('shared', 'e'), got);
});
