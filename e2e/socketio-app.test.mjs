// Socket.IO's server side as an app has it behind fanfare: what it is told of clients, and everything it may do
// with them, seen by the real client over both transports. `SUBJECT=reference` runs the same against an app that
// uses Socket.IO's own server.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import test from 'node:test';
import { REFERENCE, ask, collect, connectSocket, file, socketTo, startSpec, until } from './harness.mjs';

const parser = createRequire(import.meta.url)('socket.io-msgpack-parser');
const server = await startSpec(file, { pingInterval: 25_000, pingTimeout: 20_000 });
const packed = REFERENCE ? await startSpec(file, { pingInterval: 25_000, pingTimeout: 20_000, parser }) : server;

const WAYS = {
  websocket: { transports: ['websocket'] },
  polling: { transports: ['polling'] },
  upgraded: { transports: ['polling', 'websocket'] },
  msgpack: { transports: ['websocket'], parser },
};
const BYTES = Buffer.from([0, 1, 254, 255]);
const bytes = (value) => (value instanceof Uint8Array ? Buffer.from(value) : value);

for (const [way, options] of Object.entries(WAYS)) {
  const subject = way === 'msgpack' ? packed : server;
  const connected = (t, more) => connectSocket(t, subject, { ...options, ...more });

  test(`${way}: what is emitted to a client that connects comes after it is connected`, async (t) => {
    const socket = socketTo(t, subject, { ...options, auth: { token: 'x', n: [1, null] } });
    const seen = [];
    socket.on('connect', () => seen.push('connect'));
    socket.on('auth', (auth) => seen.push(auth));
    await until(() => seen.length === 2, 5_000, () => `both: ${seen}`);
    assert.deepEqual(seen, ['connect', { token: 'x', n: [1, null] }]);
  });

  test(`${way}: the app answers events and acknowledges them, with binary anywhere`, async (t) => {
    const socket = await connected(t);
    const back = [];
    socket.on('message-back', (...args) => back.push(args));
    for (const args of [[], [1, '2', { 3: [true, null] }], [BYTES], [{ deep: [BYTES, 'x'] }, BYTES, 'é 🎉']]) {
      socket.emit('message', ...args);
      await until(() => back.length, 5_000, 'it comes back');
      assert.deepEqual(back.pop().map((arg) => (arg?.deep ? { deep: arg.deep.map(bytes) } : bytes(arg))), args);
    }
    const answer = await new Promise((resolve) => socket.emit('message-with-ack', 1, { b: BYTES }, 'x', (...got) => resolve(got)));
    assert.deepEqual([answer[0], bytes(answer[1].b), answer[2]], [1, BYTES, 'x']);
  });

  test(`${way}: events of one client are answered in their order`, async (t) => {
    const socket = await connected(t);
    const back = collect(socket, 'message-back');
    for (let n = 0; n < 100; n += 1) socket.emit('message', n);
    await until(() => back.length === 100, 10_000, () => `all: ${back.length}`);
    assert.deepEqual(back, Array.from({ length: 100 }, (_, n) => n));
  });

  test(`${way}: the app asks a client and is told the answer, or that none came`, async (t) => {
    const socket = await connected(t);
    const [answered, unanswered] = [[], collect(socket, 'unanswered')];
    socket.on('answered', (...args) => answered.push(args));
    socket.on('question', (value, ack) => value !== 'silence' && ack(value, { b: BYTES }));
    socket.emit('ask', 'what', 10_000);
    await until(() => answered.length, 5_000, 'the answer comes back');
    assert.deepEqual([answered[0][0], bytes(answered[0][1].b)], ['what', BYTES]);
    socket.emit('ask', 'silence', 200);
    await until(() => unanswered.length, 5_000, 'the app is told that none came');
    socket.emit('ask', 'again', 10_000);
    await until(() => answered.length === 2, 5_000, 'the next one is answered');
    assert.equal(answered[1][0], 'again');
  });

  test(`${way}: a client that the app refuses is told why, with data, and stays away`, async (t) => {
    const socket = socketTo(t, subject, { ...options, namespace: '/refusing', reconnectionDelay: 20 });
    const errors = collect(socket, 'connect_error');
    await until(() => errors.length, 5_000, 'it is told');
    assert.equal(errors[0].message, 'nope');
    assert.deepEqual(errors[0].data, { code: 7, deep: [null, 'é'] });
    assert.equal(socket.connected, false);
    // The connection is good for other namespaces.
    const main = socket.io.socket('/');
    t.after(() => main.disconnect());
    await until(() => main.connected, 5_000, 'another namespace is entered');
    assert.equal(errors.length, 1);
  });

  test(`${way}: the app puts clients in rooms and emits to rooms, to others, to everyone`, async (t) => {
    const [one, two, three] = [await connected(t), await connected(t), await connected(t)];
    const got = [one, two, three].map((socket) => collect(socket, `e ${way}`));
    assert.equal(await ask(one, 'enter', `r ${way}`), 'entered');
    assert.equal(await ask(two, 'enter', `r ${way}`), 'entered');
    one.emit('tell', { room: `r ${way}` }, `e ${way}`, 'the room');
    two.emit('tell', { room: `r ${way}`, others: true }, `e ${way}`, 'others of the room');
    await until(() => got[0].length === 2 && got[1].length === 1, 5_000, () => JSON.stringify(got));
    three.emit('tell', { others: true }, `e ${way}`, 'others');
    await until(() => got[0].length === 3 && got[1].length === 2, 5_000, () => JSON.stringify(got));
    three.emit('tell', {}, `e ${way}`, 'everyone');
    await until(() => got.every((list) => list.at(-1) === 'everyone'), 5_000, () => JSON.stringify(got));
    assert.equal(await ask(two, 'exit', `r ${way}`), 'left');
    one.emit('tell', { room: `r ${way}` }, `e ${way}`, 'who is left');
    await until(() => got[0].at(-1) === 'who is left', 5_000, 'the last one');
    assert.deepEqual(got[1], ['the room', 'others', 'everyone']);
    assert.deepEqual(got[2], ['everyone']);
  });

  test(`${way}: a client that the app disconnects is told and stays away, with or without its connection`, async (t) => {
    for (const close of [false, true]) {
      const socket = await connected(t, { reconnectionDelay: 20 });
      const custom = socket.io.socket('/custom');
      t.after(() => custom.disconnect());
      await until(() => custom.connected, 5_000, 'a second namespace');
      const [reasons, customReasons] = [[], []];
      socket.on('disconnect', (reason) => reasons.push(reason));
      custom.on('disconnect', (reason) => customReasons.push(reason));
      socket.emit('kick', close);
      await until(() => reasons.length, 5_000, 'it is told');
      assert.deepEqual(reasons, ['io server disconnect']);
      assert.equal(socket.active, false);
      if (close) await until(() => customReasons.length, 5_000, 'the connection ends');
      else assert.ok(custom.connected);
    }
  });
}

test('the app is told what a handshake needs: headers, query, address, url, time, auth', async (t) => {
  const before = Date.now();
  const socket = await connectSocket(t, server, {
    ...WAYS.polling, query: { room: 'r 1', '&a': '&=?a' }, auth: { token: 'x' }, extraHeaders: { 'x-own': 'header' },
  });
  const handshake = await ask(socket, 'handshake');
  assert.equal(handshake.headers['x-own'], 'header');
  assert.equal(handshake.query.room, 'r 1');
  assert.equal(handshake.query['&a'], '&=?a');
  assert.equal(handshake.query.EIO, '4');
  assert.match(handshake.url, /^\/socket\.io\/\?/);
  assert.match(handshake.address, /^(::ffff:)?127\.0\.0\.1$/);
  const time = typeof handshake.time === 'number' ? handshake.time : Date.parse(handshake.time);
  assert.ok(time > before - 2_000 && time < Date.now() + 2_000, String(handshake.time));
  assert.deepEqual(handshake.auth, { token: 'x' });
  const bare = await connectSocket(t, server, WAYS.websocket);
  assert.deepEqual((await ask(bare, 'handshake')).auth, {});
});

test('the app is told once how each client went, after everything else', async (t) => {
  const reasons = {
    'io client disconnect': (socket) => socket.disconnect(),
    'transport close': (socket) => socket.io.engine.close(),
    'server namespace disconnect': (socket) => socket.emit('kick', false),
  };
  for (const [reason, end] of Object.entries(reasons)) {
    // Another namespace keeps the connection, so that what is told is about the namespace.
    const socket = await connectSocket(t, server, { ...WAYS.websocket, reconnection: false });
    const { id } = socket;
    if (reason !== 'transport close') await until(() => custom(t, socket).connected, 5_000, 'a second namespace');
    end(socket);
    await until(() => server.ended.some(([sid]) => sid === id), 5_000, `the app is told of ${reason}`);
    const told = server.ended.filter(([sid]) => sid === id).map(([, why]) => why);
    const known = reason === 'transport close' ? ['transport close', 'client namespace disconnect'] : [reason.replace('io client', 'client namespace')];
    assert.ok(told.length === 1 && known.includes(told[0]), `${reason}: ${told}`);
  }
});

const customs = new WeakMap();
function custom(t, socket) {
  if (!customs.has(socket)) {
    const other = socket.io.socket('/custom');
    t.after(() => other.disconnect());
    customs.set(socket, other);
  }
  return customs.get(socket);
}

test('a client with retries is answered once for each event, in order', async (t) => {
  for (const way of ['websocket', 'polling']) {
    const socket = await connectSocket(t, server, { ...WAYS[way], retries: 3, ackTimeout: 5_000 });
    const answers = await Promise.all([1, 2, 3, 4].map((n) => socket.emitWithAck('message-with-ack', n)));
    assert.deepEqual(answers, [1, 2, 3, 4]);
  }
});

test('a client that the app lets go comes back by itself where only its connection ended', async (t) => {
  const socket = await connectSocket(t, server, { ...WAYS.websocket, reconnectionDelay: 20 });
  const id = socket.id;
  socket.io.engine.close();
  await until(() => socket.connected && socket.id !== id, 5_000, 'it is back');
  assert.deepEqual(await ask(socket, 'message-with-ack', 1), 1);
});
