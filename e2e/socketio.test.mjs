// Unmodified socket.io-client against one edge: what an application relies on.

import assert from 'node:assert/strict';
import test from 'node:test';
import {
  ROOMS, ask, collect, connectRaw, connectSocket, fetchText, file, maskedFrame, socketTo, startEdge, until,
} from './harness.mjs';

const edge = await startEdge(file, { dev: true, config: ROOMS });

test('a client connects with auth and gets a public id of its own', async (t) => {
  const one = await connectSocket(t, edge, { auth: { token: 'x', nested: { a: [1] } } });
  const other = await connectSocket(t, edge, { auth: (give) => give({ token: 'y' }) });
  assert.match(one.id, /^[\w-]{20}$/);
  assert.notEqual(one.id, other.id);
  assert.notEqual(one.id, one.io.engine.id, 'the Engine.IO id stays secret');
  assert.ok(!one.recovered);
});

test('the open packet and the answer to CONNECT have exactly the keys of the protocol', async (t) => {
  const raw = await connectRaw(t, edge);
  raw.text('40');
  await until(() => raw.texts.length === 2, 5_000, 'open and connect');
  const open = JSON.parse(raw.texts[0].slice(1));
  assert.equal(raw.texts[0][0], '0');
  assert.deepEqual(Object.keys(open).sort(), ['maxPayload', 'pingInterval', 'pingTimeout', 'sid', 'upgrades']);
  assert.deepEqual(
    { upgrades: open.upgrades, pingInterval: open.pingInterval, pingTimeout: open.pingTimeout, maxPayload: open.maxPayload },
    { upgrades: [], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: 1_000_000 },
  );
  assert.ok(raw.texts[1].startsWith('40{'));
  assert.deepEqual(Object.keys(JSON.parse(raw.texts[1].slice(2))), ['sid']);
});

test('configured namespaces are served on one connection, others are refused as "Invalid namespace"', async (t) => {
  const main = await connectSocket(t, edge);
  const lost = collect(main, 'disconnect');
  const admin = main.io.socket('/admin');
  const wrong = main.io.socket('/unknown');
  t.after(() => [admin, wrong].forEach((socket) => socket.disconnect()));
  const refused = new Promise((resolve) => wrong.once('connect_error', resolve));
  assert.equal((await refused).message, 'Invalid namespace');
  await until(() => admin.connected, 5_000, 'the namespace is entered');
  assert.notEqual(admin.id, main.id);

  // A room of one namespace is not the room of another.
  const [inMain, inAdmin] = [collect(main, 'x'), collect(admin, 'x')];
  await ask(main, 'join', 'same');
  await ask(admin, 'join', 'same');
  await ask(admin, 'publish', 'same', 'x', 1);
  await ask(main, 'publish', 'same', 'x', 2);
  await until(() => inMain.length && inAdmin.length, 5_000, 'both receive');
  assert.deepEqual([inMain, inAdmin], [[2], [1]]);

  admin.disconnect();
  assert.deepEqual(await ask(main, 'join', 'still'), { ok: true });
  assert.deepEqual(lost, [], 'the connection stays');
});

test('events go both ways with every kind of argument', async (t) => {
  const [one, two] = [await connectSocket(t, edge), await connectSocket(t, edge)];
  for (const socket of [one, two]) await ask(socket, 'join', 'kinds');
  const got = collect(two, 'e');
  const values = [
    'text with "quotes", é, 日本語 and 🎉', 0, -1, 1.5, 1e300, 2 ** 53, true, false, null, [], {}, [1, [2, [3]]],
    { deep: { a: { b: [null, { c: 'x' }] } } }, '',
  ];
  for (const value of values) await ask(one, 'publish', 'kinds', 'e', value);
  await until(() => got.length === values.length, 5_000, 'all arrive');
  assert.deepEqual(got, values);

  const many = collect(two, 'many');
  await ask(one, 'publish', 'kinds', 'many', 1, 'two', { three: 3 });
  await until(() => many.length, 5_000, 'several arguments');
  assert.deepEqual(many[0], [1, 'two', { three: 3 }]);
});

test('binary goes both ways, whole and in its place', async (t) => {
  const [one, two] = [await connectSocket(t, edge), await connectSocket(t, edge)];
  for (const socket of [one, two]) await ask(socket, 'join', 'binary');
  const got = collect(two, 'bin');
  const large = Buffer.alloc(200_000, 7);
  await ask(one, 'publish', 'binary', 'bin', { first: Buffer.from([1, 2, 3]), rest: [Buffer.alloc(0), 'text', large] });
  await until(() => got.length, 5_000, 'binary arrives');
  assert.deepEqual(got[0].first, Buffer.from([1, 2, 3]));
  assert.deepEqual(got[0].rest, [Buffer.alloc(0), 'text', large]);

  // Attachments of one event are never torn apart by others.
  const numbered = collect(two, 'n');
  for (let at = 0; at < 200; at += 1) {
    one.emit('publish', 'binary', 'n', at % 2 ? Buffer.from([at]) : [at, Buffer.from([at]), Buffer.from([at])]);
  }
  await until(() => numbered.length === 200, 10_000, 'all arrive');
  numbered.forEach((value, at) => {
    assert.deepEqual(value, at % 2 ? Buffer.from([at]) : [at, Buffer.from([at]), Buffer.from([at])]);
  });
});

test('an acknowledgement answers exactly the event that asked for it', async (t) => {
  const socket = await connectSocket(t, edge);
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, at) => (at % 10 === 3 ? ask(socket, 'unheard of') : ask(socket, 'join', `r${at}`))),
  );
  answers.forEach((answer, at) => {
    if (at % 10 !== 3) return assert.deepEqual(answer, { ok: true });
    assert.equal(answer.ok, false);
    assert.equal(answer.error.code, 'forbidden');
    assert.equal(answer.error.retry, false);
    assert.equal(typeof answer.error.message, 'string');
  });
});

test('a room is left: nothing of it arrives afterwards', async (t) => {
  const [one, two] = [await connectSocket(t, edge), await connectSocket(t, edge)];
  for (const socket of [one, two]) await ask(socket, 'join', 'leaving');
  const [left, stayed] = [collect(one, 'e'), collect(two, 'e')];
  await ask(two, 'publish', 'leaving', 'e', 1);
  await until(() => left.length && stayed.length, 5_000, 'both receive');
  assert.deepEqual(await ask(one, 'leave', 'leaving'), { ok: true });
  await ask(two, 'publish', 'leaving', 'e', 2);
  await until(() => stayed.length === 2, 5_000, 'who stayed receives');
  await ask(one, 'join', 'a round trip');
  assert.deepEqual(left, [1]);
});

test('heartbeats keep an idle client, a silent one is closed as a ping timeout', async (t) => {
  const quick = await startEdge(t, { dev: true, args: ['--ping-interval', '300ms', '--ping-timeout', '400ms'] });
  const socket = await connectSocket(t, quick);
  const lost = [];
  socket.on('disconnect', (reason) => lost.push(reason));
  let pings = 0;
  socket.io.on('ping', () => (pings += 1));
  const started = performance.now();
  const silent = await connectRaw(t, quick);
  silent.text('40');
  await until(() => silent.closed, 5_000, 'the silent one is closed');
  const took = performance.now() - started;
  assert.ok(took >= 650 && took < 3_000, `closed after ${Math.round(took)} ms of 700`);
  assert.equal(silent.texts.filter((text) => text === '2').length, 1);
  await until(() => pings >= 4, 5_000, 'the client answers pings');
  assert.deepEqual(lost, []);
  assert.equal(await quick.metric('fanfare_connections_closed_total', { reason: 'ping_timeout' }), 1);
});

test('a client that disconnects is gone at once and stays away', async (t) => {
  const own = await startEdge(t, { dev: true });
  const socket = await connectSocket(t, own);
  await ask(socket, 'join', 'r');
  const reason = new Promise((resolve) => socket.once('disconnect', resolve));
  socket.disconnect();
  assert.equal(await reason, 'io client disconnect');
  await until(async () => (await own.metric('fanfare_connections')) === 0, 5_000, 'the edge closed it');
  assert.equal(await own.metric('fanfare_memberships'), 0);
  assert.equal(await own.metric('fanfare_connections_closed_total', { reason: 'client' }), 1);
  assert.equal(socket.active, false);
});

test('a connection that breaks is a "transport close", and the client comes back by itself', async (t) => {
  const first = await startEdge(t, { dev: true });
  const socket = await connectSocket(t, first, { reconnectionDelay: 50, reconnectionDelayMax: 100 });
  const id = socket.id;
  const reasons = [];
  socket.on('disconnect', (reason) => reasons.push(reason));
  await first.kill9();
  await until(() => reasons.length, 5_000, 'the client notices');
  await startEdge(t, { dev: true, port: first.port });
  await until(() => socket.connected, 10_000, 'the client is back');
  assert.deepEqual(reasons, ['transport close']);
  assert.notEqual(socket.id, id);
  assert.deepEqual(await ask(socket, 'join', 'r'), { ok: true });
});

test('an event right after CONNECT is never lost', async (t) => {
  for (let round = 0; round < 50; round += 1) {
    const socket = socketTo(t, edge);
    // socket.io-client sends what it buffered in the turn in which it learns that it is connected.
    const answers = await Promise.all([ask(socket, 'join', `early${round}`), ask(socket, 'join', 'early')]);
    assert.deepEqual(answers, [{ ok: true }, { ok: true }]);
    socket.disconnect();
  }
  const both = await connectRaw(t, edge);
  both.text('40');
  both.text('420["join","raw"]');
  await until(() => both.texts.includes('430[{"ok":true}]'), 5_000, () => `the ack: ${both.texts}`);
  assert.ok(both.texts.findIndex((text) => text.startsWith('40{')) < both.texts.indexOf('430[{"ok":true}]'));
});

test('bytes that come with the handshake are not lost', async (t) => {
  const early = Buffer.concat([maskedFrame(0x81, '40'), maskedFrame(0x81, '420["join","with the handshake"]')]);
  const raw = await connectRaw(t, edge, { early });
  await until(() => raw.texts.includes('430[{"ok":true}]'), 5_000, () => `the ack: ${raw.texts}`);
});

test('handshakes that Engine.IO refuses are refused in its words', async () => {
  const cases = [
    ['EIO=4&transport=carrier-pigeon', 400, 0],
    ['EIO=4', 400, 0],
    ['transport=polling', 400, 5],
    ['EIO=3&transport=polling', 400, 5],
    ['EIO=4&transport=websocket', 400, 3],
  ];
  for (const [query, status, code] of cases) {
    const answer = await fetchText(`${edge.url}/socket.io/?${query}`);
    assert.equal(answer.status, status, query);
    assert.equal(JSON.parse(answer.text).code, code, `${query}: ${answer.text}`);
  }
});
