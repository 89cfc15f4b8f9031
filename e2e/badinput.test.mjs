// Bad input closes or refuses exactly the offender, is counted, and disturbs nobody.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import test from 'node:test';
import {
  ask, collect, connectPlain, connectRaw, connectSocket, fetchText, file, maskedFrame, startEdge, startRedis, until,
} from './harness.mjs';

const redis = await startRedis(file);
const edge = await startEdge(file, { redis, dev: true, args: ['--header-timeout', '1s', '--max-payload', '100kB', '--envelope', '64KiB'] });
const connection = await redis.connect();

// One who must not notice anything.
const bystander = await connectSocket(file, edge);
await ask(bystander, 'join', 'calm');
const heard = collect(bystander, 'calm');
const lost = collect(bystander, 'disconnect');
let rounds = 0;

// The bystander still gets what is published, and the process is the one that was started.
async function undisturbed() {
  rounds += 1;
  await connection.publish('socket.io-publish', JSON.stringify({ room: 'calm', event: 'calm', data: rounds }));
  await until(() => heard.length === rounds, 5_000, 'the bystander receives');
  assert.deepEqual(lost, []);
  assert.equal(edge.how, undefined, `the edge runs\n${edge.log}`);
  assert.doesNotMatch(edge.log, /panicked/);
}

const closed = (reason) => edge.metric('fanfare_connections_closed_total', { reason });

// A raw Socket.IO connection that has joined the main namespace.
async function entered(t) {
  const raw = await connectRaw(t, edge);
  raw.text('40');
  await until(() => raw.texts.some((text) => text.startsWith('40{')), 5_000, 'it is in the namespace');
  return raw;
}

function answerTo(bytes, { end = false } = {}) {
  return new Promise((resolve) => {
    let text = '';
    const socket = net.connect(edge.port, '127.0.0.1', () => (end ? socket.end(bytes) : socket.write(bytes)));
    socket.on('data', (chunk) => (text += chunk.toString('latin1')));
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
    socket.setTimeout(10_000, () => {
      socket.destroy();
      resolve('still open');
    });
  });
}

test('malformed HTTP is answered with 4xx or closed, and a head that never ends has a deadline', async () => {
  const cases = [
    'nonsense\r\n\r\n', 'GET\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', '\x16\x03\x01\x02\x00\x01\x00', '\0'.repeat(100),
    `GET / HTTP/1.1\r\nHost: x\r\nA: ${'x'.repeat(100_000)}\r\n\r\n`, 'GET / HTTP/1.1\r\nBad Header\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\n', '',
  ];
  for (const bytes of cases) {
    const answer = await answerTo(bytes);
    assert.match(answer, /^(HTTP\/1\.1 4\d\d|$)/, `${JSON.stringify(bytes.slice(0, 60))}: ${answer.slice(0, 100)}`);
  }
  assert.ok((await edge.metric('fanfare_connections_rejected_total', { reason: 'bad_request' })) >= 5);
  await undisturbed();
});

test('a WebSocket handshake that is none is refused with the reason', async () => {
  const good = {
    Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==',
  };
  for (const wrong of [
    { 'Sec-WebSocket-Version': '8' }, { 'Sec-WebSocket-Key': 'short' }, { 'Sec-WebSocket-Key': '' }, { Upgrade: 'h2c' },
    { Connection: 'close' },
  ]) {
    for (const path of ['/ws', '/socket.io/?EIO=4&transport=websocket']) {
      const answer = await fetchText(edge.url + path, { headers: { ...good, ...wrong } });
      assert.equal(answer.status, 400, JSON.stringify(wrong));
      assert.ok(answer.text.length > 10);
    }
  }
  assert.equal((await fetchText(`${edge.url}/nowhere`)).status, 404);
  await undisturbed();
});

test('frames against RFC 6455 close with the code of the fault', async (t) => {
  const fragment = (first) => maskedFrame(first, 'part');
  const cases = [
    ['an unmasked frame', maskedFrame(0x81, '40', { masked: false }), 1002],
    ['reserved bits', maskedFrame(0xc1, '40'), 1002],
    ['an unknown opcode', maskedFrame(0x83, '40'), 1002],
    ['an unknown control opcode', maskedFrame(0x8b, ''), 1002],
    ['a fragmented ping', maskedFrame(0x09, ''), 1002],
    ['a long ping', maskedFrame(0x89, 'x'.repeat(126)), 1002],
    ['a continuation of nothing', fragment(0x80), 1002],
    ['a new message within a fragmented one', Buffer.concat([fragment(0x01), fragment(0x01)]), 1002],
    ['a close frame of one byte', maskedFrame(0x88, 'x'), 1002],
    ['a reserved close code', maskedFrame(0x88, Buffer.from([0x03, 0xed])), 1002],
    ['text that is not UTF-8', maskedFrame(0x81, Buffer.from([0xff, 0xfe, 0xfd])), 1007],
    ['a fragmented character that never ends', Buffer.concat([maskedFrame(0x01, Buffer.from([0xe2, 0x82])), maskedFrame(0x80, 'x')]), 1007],
    ['a length of 2^63', Buffer.from([0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]), [1002, 1009]],
    ['a frame over the limit', maskedFrame(0x81, 'x'.repeat(100_001)), 1009],
    ['fragments over the limit', Buffer.concat([maskedFrame(0x01, 'x'.repeat(60_000)), maskedFrame(0x80, 'x'.repeat(60_000))]), 1009],
  ];
  const before = (await closed('protocol_error')) + (await closed('invalid_text')) + (await closed('too_large'));
  for (const [what, bytes, codes] of cases) {
    for (const path of ['/ws', undefined]) {
      const raw = await connectRaw(t, edge, path ? { path } : {});
      await until(() => raw.texts.length, 5_000, 'the first frame');
      raw.write(bytes);
      await until(() => raw.closed, 5_000, `${what} closes ${path ?? 'Socket.IO'}`);
      assert.ok([codes].flat().includes(raw.closeCode()), `${what}: ${raw.closeCode()} where ${codes} was expected`);
    }
  }
  const after = (await closed('protocol_error')) + (await closed('invalid_text')) + (await closed('too_large'));
  assert.equal(after - before, cases.length * 2);
  await undisturbed();
});

test('a message of exactly the limit passes, one byte more closes with 1009', async (t) => {
  const limit = 100_000;
  const raw = await entered(t);
  const envelope = '420["join",""]'.length;
  raw.text(`420["join","${'x'.repeat(limit - envelope)}"]`);
  await until(() => raw.texts.some((text) => text.startsWith('430[')), 5_000, 'the message of the limit is answered');
  raw.text(`420["join","${'x'.repeat(limit - envelope + 1)}"]`);
  await until(() => raw.closed, 5_000, 'one byte more closes');
  assert.equal(raw.closeCode(), 1009);
  await undisturbed();
});

test('packets before CONNECT that are none close the connection', async (t) => {
  for (const packet of [
    '', 'abc', '2', '2probe', '9', '4', '47', '40"s"', '40[1]', '40null', '40{"a":1', '41', '42["x"]', '43[]', '44{}', '45-[]', '450-[]',
    '4511-["a"]', '451-["a",{"_placeholder":true,"num":0}]',
  ]) {
    const raw = await connectRaw(t, edge);
    await until(() => raw.texts.length, 5_000, 'open');
    raw.text(packet);
    await until(() => raw.closed, 5_000, `${JSON.stringify(packet)} closes: ${raw.texts}`);
  }
  await undisturbed();
});

test('packets in a namespace that are none close the connection, harmless ones do not', async (t) => {
  for (const packet of [
    '40', '42[]', '42{}', '42"a"', '42[null]', '42[{}]', '42["connect"]', '42["disconnect"]', '42["connect_error"]', '42["disconnecting"]',
    '42["newListener"]', '42["removeListener"]', '42-1["a"]', '421.5["a"]', '42abc["a"]', '42["a"', '42["a"]x', '44{"message":"x"}',
    '41{"a":1}', '42/admin,["a"]', '41/admin,', '451["a"]', '45-["a"]', '450-["a"]', '4511-["a"]', '451-["a",{"_placeholder":true,"num":1}]',
    '451-["a",{"_placeholder":true,"num":-1}]', '451-["a",{"_placeholder":true,"num":"0"}]', `42["a",${'['.repeat(600)}${']'.repeat(600)}]`,
  ]) {
    const raw = await entered(t);
    raw.text(packet);
    if (packet.startsWith('451-')) raw.write(maskedFrame(0x82, 'x'));
    await until(() => raw.closed, 5_000, `${packet.slice(0, 60)} closes: ${raw.texts}`);
  }
  const stray = await entered(t);
  stray.write(maskedFrame(0x82, 'stray binary'));
  await until(() => stray.closed, 5_000, 'binary that nobody waits for closes');
  const interrupted = await entered(t);
  interrupted.text('451-["a",{"_placeholder":true,"num":0}]');
  interrupted.text('42["b"]');
  await until(() => interrupted.closed, 5_000, 'text while attachments are pending closes');

  const raw = await entered(t);
  for (const packet of ['42', '43', '43[]', '439[]', '42["connection"]', '42[1,"a"]', '42007["a"]', '0', '3', '5', '6']) raw.text(packet);
  raw.text('429["join","still here"]');
  await until(() => raw.texts.includes('439[{"ok":true}]'), 5_000, () => `harmless ones are let pass: ${raw.texts}`);
  assert.equal(raw.closed, false);
  await undisturbed();
});

test('random bytes in frames and over TCP never hurt anyone', async (t) => {
  for (let round = 0; round < 100; round += 1) {
    const [socketio, plain] = [await connectRaw(t, edge), await connectRaw(t, edge, { path: '/ws' })];
    for (const raw of [socketio, plain]) {
      await until(() => raw.texts.length, 5_000, 'open');
      if (round % 3 === 0) raw.write(randomBytes(200));
      else raw.write(maskedFrame(round % 3 === 1 ? 0x81 : 0x82, randomBytes(1 + round)));
      raw.end();
    }
  }
  for (let round = 0; round < 20; round += 1) await answerTo(randomBytes(500), { end: true });
  await undisturbed();
});

test('half a frame and then nothing is a connection like others, and goes away with its socket', async (t) => {
  const half = await entered(t);
  half.write(maskedFrame(0x81, '42["join","half"]').subarray(0, 9));
  await undisturbed();
  half.end();
  await undisturbed();
});

test('JSON that is no frame is told to a plain client, nested or large as it may be', async (t) => {
  const plain = await connectPlain(t, edge);
  for (const text of ['{"type":"join","room":', `{"a":${'['.repeat(10_000)}${']'.repeat(10_000)}}`, `{"type":"event","room":"r","event":"e","data":${'['.repeat(600)}${']'.repeat(600)}}`]) {
    const before = plain.frames.length;
    plain.send(text);
    const frame = await until(() => plain.frames[before], 5_000, 'an answer');
    assert.deepEqual([frame.type, frame.code], ['error', 'bad_request']);
  }
  plain.socket.send(Buffer.from([1, 2, 3]));
  await plain.next((frame) => frame.type === 'error' && /binary/.test(frame.message));
  assert.equal((await plain.ask({ type: 'join', room: 'fine' })).ok, true);
  await undisturbed();
});

test('foreign bytes on every Redis channel are dropped and counted', async () => {
  const deep = Buffer.concat([Buffer.from([0x93, 0xa1, 0x78]), Buffer.alloc(600, 0x91), Buffer.from([0xc0])]);
  const event = (data, nsp = '/') => Buffer.concat([
    Buffer.from('93a7656d697474657283a47479706502a464617461', 'hex'), data, Buffer.from('a36e7370', 'hex'),
    Buffer.from([0xa0 + nsp.length]), Buffer.from(nsp), Buffer.from('83a5726f6f6d7391a463616c6da5666c61677380a665786365707490', 'hex'),
  ]);
  const nested = event(Buffer.concat([Buffer.from([0x92, 0xa1, 0x78]), Buffer.alloc(600, 0x91), Buffer.from([0xc0])]));
  const payloads = [
    '', 'text', '{', '{"room":"calm"}', '[]', 'null', '\0', Buffer.from([0xc1]), Buffer.from([0x93]), Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff]),
    Buffer.from([0x93, 0xc0, 0xc0, 0xc0]), Buffer.from([0x93, 0xa1, 0x78, 0x80, 0x80]), deep, nested, Buffer.alloc(70_000, 0x41),
    event(Buffer.from([0x90])), event(Buffer.from([0x91, 0xc0])), event(Buffer.from([0xa1, 0x78])), event(Buffer.from([0x91, 0xa7, ...Buffer.from('connect')])),
    event(Buffer.from([0x91, 0xa1, 0x78]), '/other'), event(Buffer.from([0x91, 0xa1, 0x78])).subarray(0, 40),
    ...Array.from({ length: 300 }, (_, at) => randomBytes(1 + at)),
  ];
  const strange = [];
  bystander.onAny((name) => name === 'calm' || strange.push(name));
  const malformed = () => edge.metric('fanfare_publications_malformed_total');
  const before = await malformed();
  for (const channel of ['socket.io#/#calm#', 'socket.io#/#', 'socket.io-publish', `socket.io#/#${bystander.id}#`]) {
    for (const payload of payloads) await connection.publish(channel, payload);
  }
  await undisturbed();
  assert.ok((await malformed()) - before > 4 * 300, `counted: ${(await malformed()) - before}`);
  for (const reason of ['too_large', 'shape', 'too_deep', 'wrong_namespace']) {
    assert.ok((await edge.metric('fanfare_publications_malformed_total', { reason })) > 0, reason);
  }
  assert.deepEqual(strange, []);
});

test('many attachments are refused both ways', async (t) => {
  const raw = await entered(t);
  raw.text(`4511-["publish","calm","calm"${',{"_placeholder":true,"num":0}'.repeat(11)}]`);
  await until(() => raw.closed, 5_000, 'eleven attachments close');
  const emitter = await redis.emitter();
  const before = await edge.metric('fanfare_publications_dropped_total', { reason: 'not_encodable' });
  emitter.to('calm').emit('calm', ...Array.from({ length: 11 }, () => Buffer.from('x')));
  await until(
    async () => (await edge.metric('fanfare_publications_dropped_total', { reason: 'not_encodable' })) > before, 5_000, 'it is dropped and counted',
  );
  await undisturbed();
});
