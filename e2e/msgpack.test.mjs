// Clients with socket.io-msgpack-parser: recognised by themselves, in the same rooms as clients with the
// default parser and as emitters.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import test from 'node:test';
import { REFERENCE, ask, collect, connectRaw, connectSocket, file, startRedis, startSubject, until } from './harness.mjs';

const parser = createRequire(import.meta.url)('socket.io-msgpack-parser');
const redis = await startRedis(file);
const server = await startSubject(file, { redis, msgpack: true, namespaces: ['/admin'] });
// The reference has one parser for a server; fanfare has both on one.
const texts = REFERENCE ? await startSubject(file, { redis, namespaces: ['/admin'] }) : server;
const emitter = await redis.emitter();

const WAYS = {
  polling: { transports: ['polling'] },
  upgraded: { transports: ['polling', 'websocket'] },
  websocket: { transports: ['websocket'] },
};
const DATE = new Date('2023-11-14T22:13:20.123Z');
const bytes = (value) => (value instanceof Uint8Array ? Buffer.from(value) : value);

// One client of each parser in `room`, and what each gets.
async function both(t, room, way = 'websocket') {
  const packed = await connectSocket(t, server, { ...WAYS[way], parser });
  const text = await connectSocket(t, texts, WAYS[way]);
  const got = [packed, text].map((socket) => {
    const list = [];
    socket.onAny((...all) => list.push(all));
    return list;
  });
  for (const socket of [packed, text]) assert.deepEqual(await ask(socket, 'join', room), { ok: true });
  return { packed, text, got };
}

for (const way of Object.keys(WAYS)) {
  test(`${way}: clients of both parsers and an emitter reach each other in one room`, async (t) => {
    const room = `mixed ${way}`;
    const { packed, text, got } = await both(t, room, way);
    const values = ['é 🎉', 0, -1, -33, 127, 128, 65_536, 2 ** 40, -(2 ** 40), 1.5, null, true, [], {}, [{ a: [1, 'x'.repeat(300)] }]];
    assert.deepEqual(await ask(packed, 'publish', room, 'packed', ...values), { ok: true });
    assert.deepEqual(await ask(text, 'publish', room, 'text', ...values), { ok: true });
    emitter.to(room).emit('emitter', ...values);
    await until(() => got.every((list) => list.length === 3), 10_000, () => `all arrive: ${got.map((list) => list.length)}`);
    for (const list of got) {
      // The emitter's came by another way than the clients'.
      const byName = Object.fromEntries(list.map(([event, ...args]) => [event, args]));
      assert.deepEqual(byName, { packed: values, text: values, emitter: values });
    }
    if (way === 'upgraded') await until(() => packed.io.engine.transport.name === 'websocket', 10_000, 'the upgrade');
  });

  test(`${way}: binary of either parser arrives at the other, whole and in its place`, async (t) => {
    const room = `binary ${way}`;
    const { packed, text, got } = await both(t, room, way);
    const [small, large] = [Buffer.from([0, 1, 2, 255]), Buffer.alloc(100_000, 9)];
    const args = [small, { deep: [{ b: Buffer.alloc(0) }, 'text'], large }, 'after'];
    await ask(packed, 'publish', room, 'b', ...args);
    await ask(text, 'publish', room, 'b', ...args);
    emitter.to(room).emit('b', ...args);
    await until(() => got.every((list) => list.length === 3), 10_000, () => `all arrive: ${got.map((list) => list.length)}`);
    for (const list of got) {
      for (const [event, first, second, third] of list) {
        assert.equal(event, 'b');
        assert.deepEqual(bytes(first), small);
        assert.deepEqual(bytes(second.deep[0].b), Buffer.alloc(0));
        assert.equal(second.deep[1], 'text');
        assert.deepEqual(bytes(second.large), large);
        assert.equal(third, 'after');
      }
    }
  });
}

test('a date is a date to this parser and text in ISO form to the other', async (t) => {
  const { packed, text, got } = await both(t, 'dates');
  await ask(packed, 'publish', 'dates', 'd', DATE, { at: DATE });
  emitter.to('dates').emit('d', DATE, { at: DATE });
  await until(() => got.every((list) => list.length === 2), 5_000, 'all arrive');
  for (const [, first, second] of got[0]) {
    assert.ok(first instanceof Date, String(first));
    assert.deepEqual([first, second], [DATE, { at: DATE }]);
  }
  for (const [, first, second] of got[1]) assert.deepEqual([first, second], [DATE.toISOString(), { at: DATE.toISOString() }]);
  assert.ok(text.connected);
});

test('undefined is nothing to whoever receives it', async (t) => {
  const { packed, text, got } = await both(t, 'nothing');
  await ask(packed, 'publish', 'nothing', 'u', undefined, { a: undefined, b: 1 }, [undefined], 'end');
  emitter.to('nothing').emit('u', undefined, { a: undefined, b: 1 }, [undefined], 'end');
  await until(() => got.every((list) => list.length === 2), 5_000, 'all arrive');
  for (const list of got) {
    for (const [, first, second, third, last] of list) {
      assert.equal(first ?? 'nothing', 'nothing');
      assert.equal(second.a ?? 'nothing', 'nothing');
      assert.equal(second.b, 1);
      assert.deepEqual(third.map((value) => value ?? 'nothing'), ['nothing']);
      assert.equal(last, 'end');
    }
  }
  assert.ok(packed.connected && text.connected);
});

test('namespaces, refusals, auth and a burst of acknowledgements', async (t) => {
  const packed = await connectSocket(t, server, { ...WAYS.websocket, parser, auth: { token: 'x', bytes: Buffer.from([1]) } });
  const [admin, wrong] = ['/admin', '/unknown'].map((name) => packed.io.socket(name));
  const refused = collect(wrong, 'connect_error');
  await until(() => admin.connected && refused.length, 5_000, 'answers to both');
  assert.equal(refused[0].message, 'Invalid namespace');
  assert.match(packed.id, /^[\w-]{20}$/);
  const answers = await Promise.all(Array.from({ length: 200 }, (_, at) => ask(at % 2 ? packed : admin, 'join', `r${at}`)));
  for (const answer of answers) assert.deepEqual(answer, { ok: true });
  const got = collect(admin, 'e');
  emitter.of('/admin').to('r2').emit('e', 1);
  await until(() => got.length, 5_000, 'admin receives');
  admin.disconnect();
  assert.deepEqual(await ask(packed, 'leave', 'r1'), { ok: true });
});

// What the parser writes, by hand (§2.8 of its wire): maps with the keys in any order.
const CONNECT = Buffer.from('83a47479706500a464617461d40000a36e7370a12f', 'hex');
const map = (hex) => Buffer.from(hex, 'hex');

async function entered(t) {
  const raw = await connectRaw(t, server);
  raw.write(frame(CONNECT));
  await until(() => raw.binaries.length === 1, 5_000, () => `CONNECT is answered: ${raw.texts}`);
  return raw;
}

function frame(payload) {
  const head = payload.length < 126 ? [0x82, 0x80 | payload.length] : [0x82, 0xfe, payload.length >> 8, payload.length & 255];
  return Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), payload]);
}

test('frames of the parser are read whatever the order of their keys, and unknown keys are skipped', async (t) => {
  const raw = await entered(t);
  const answer = raw.binaries[0].toString('latin1');
  assert.match(answer, /type\x00/);
  assert.match(answer, /sid\xb4[\w-]{20}/);
  // {"id":7,"nsp":"/","options":{"x":[nil]},"data":["join","r"],"type":2}
  raw.write(frame(map('85a26964' + '07' + 'a36e7370a12f' + 'a76f7074696f6e7381a17891c0' + 'a46461746192a46a6f696ea172' + 'a47479706502')));
  await until(() => raw.binaries.length === 2, 5_000, 'the ack');
  const ack = raw.binaries[1].toString('hex');
  assert.ok(ack.includes('a2696407'), `the id: ${ack}`);
  assert.ok(ack.includes('a47479706503'), `the type: ${ack}`);
  assert.ok(ack.includes('9181a26f6bc3'), `[{"ok":true}]: ${ack}`);
});

const FAULTS = {
  'a text frame': 'text',
  'bytes behind the packet': '83a47479706502a46461746191a178a36e7370a12f00',
  'a type of 5': '83a47479706505a46461746191a178a36e7370a12f',
  'a type that is text': '83a474797065a132a46461746191a178a36e7370a12f',
  'no namespace': '82a47479706502a46461746191a178',
  'a namespace that is a number': '83a47479706502a46461746191a178a36e737001',
  'data that is no array': '83a47479706502a464617461a178a36e7370a12f',
  'an id that is text': '84a26964a131a47479706502a46461746191a178a36e7370a12f',
  'a map that ends too early': '83a47479706502a46461746191',
  'no map': '93010203',
  'an event for a namespace that was not entered': '83a47479706502a46461746191a178a36e7370a62f61646d696e',
};

test('packets against the parser close the connection, and only it', async (t) => {
  const bystander = await connectSocket(t, server, { ...WAYS.websocket, parser });
  for (const [what, hex] of Object.entries(FAULTS)) {
    const raw = await entered(t);
    if (hex === 'text') raw.text('42["x"]');
    else raw.write(frame(map(hex)));
    await until(() => raw.closed || raw.closeCode(), 5_000, `closed by ${what}`);
  }
  assert.deepEqual(await ask(bystander, 'join', 'r'), { ok: true });
});
