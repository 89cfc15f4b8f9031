// What the official protocol suites hold a server to, in our own words, over both transports: Engine.IO first, then
// Socket.IO. `SUBJECT=reference` runs the same against Socket.IO's own server.

import assert from 'node:assert/strict';
import test from 'node:test';
import { REFERENCE, SEPARATOR, SPEC, connectRaw, engine, file, openPolling, startSpec, until } from './harness.mjs';

const server = await startSpec(file);
const OPEN = { pingInterval: SPEC.pingInterval, pingTimeout: SPEC.pingTimeout, maxPayload: SPEC.maxHttpBufferSize };

// A connection of either transport as one list of packets: text, or bytes. Heartbeats are answered and left out,
// so that a slow machine does not end a case that is about something else.
const TRANSPORTS = { polling: pollingTape, websocket: webSocketTape };

async function pollingTape(t) {
  const session = await openPolling(server);
  const tape = { packets: [], open: session.open, gone: false, heartbeats: 0 };
  (async () => {
    while (!tape.gone) {
      const answer = await session.get().catch((error) => ({ status: error.code, text: '' }));
      if (answer.status !== 200) break;
      for (const packet of answer.text.split(SEPARATOR)) {
        if (packet === '1') tape.gone = true;
        else if (packet === '2') tape.heartbeats += 1, await session.post('3');
        else if (packet !== '6') tape.packets.push(packet[0] === 'b' ? Buffer.from(packet.slice(1), 'base64') : packet);
      }
    }
    tape.gone = true;
  })();
  t.after(() => (tape.gone ? undefined : session.post('1').catch(() => {})));
  const shown = (packet) => (typeof packet === 'string' ? packet : `b${packet.toString('base64')}`);
  tape.send = (...packets) => session.post(packets.map(shown).join(SEPARATOR)).catch(() => {});
  return tape;
}

async function webSocketTape(t) {
  const tape = { packets: [], gone: false, heartbeats: 0 };
  const raw = await connectRaw(t, server);
  await until(() => raw.texts.length, 5_000, 'the open packet');
  tape.open = JSON.parse(raw.texts[0].slice(1));
  const take = raw.onFrame;
  raw.onFrame = (opcode, payload) => {
    take(opcode, payload);
    if (opcode === 8 || opcode === 'end') tape.gone = true;
    if (opcode === 2) tape.packets.push(Buffer.from(payload));
    if (opcode !== 1) return;
    if (payload.toString() === '2') tape.heartbeats += 1, raw.text('3');
    else tape.packets.push(payload.toString());
  };
  tape.send = async (...packets) => {
    for (const packet of packets) {
      if (typeof packet === 'string') raw.text(packet);
      else raw.write(Buffer.concat([Buffer.from([0x82, 0x80 | packet.length, 0, 0, 0, 0]), packet]));
    }
  };
  return tape;
}

const came = (tape, count) => until(() => tape.packets.length >= count, 5_000, () => `${count} packets: ${tape.packets}`);
const ended = (tape) => until(() => tape.gone, 5_000, () => `the connection ends: ${tape.packets}`);

// Exactly these packets come to answer what was sent: text, a pattern, or bytes.
async function expect(tape, ...wanted) {
  await came(tape, wanted.length);
  for (const [at, want] of wanted.entries()) {
    const got = tape.packets[at];
    if (want instanceof RegExp) assert.match(got, want);
    else assert.deepEqual(got, want);
  }
  assert.equal(tape.packets.length, wanted.length, `no more: ${tape.packets.slice(wanted.length)}`);
  tape.packets.length = 0;
}

const CONNECTED = /^40\{"sid":"[\w-]{20}"\}$/;
const CONNECTED_CUSTOM = /^40\/custom,\{"sid":"[\w-]{20}"\}$/;

async function entered(t, transport) {
  const tape = await TRANSPORTS[transport](t);
  await tape.send('40');
  await expect(tape, CONNECTED, '42["auth",{}]');
  return tape;
}

// --- Engine.IO --------------------------------------------------------------------------------------

test('a session is opened with exactly five keys', async (t) => {
  const polling = await openPolling(server);
  const { sid, ...rest } = polling.open;
  assert.equal(typeof sid, 'string');
  assert.deepEqual(rest, { upgrades: ['websocket'], ...OPEN });
  const { open } = await webSocketTape(t);
  const { sid: other, ...alike } = open;
  assert.equal(typeof other, 'string');
  assert.deepEqual(alike, { upgrades: [], ...OPEN });
});

test('wrong versions, transports and methods are refused', async (t) => {
  for (const query of ['transport=polling', 'EIO=abc&transport=polling', 'EIO=4', 'EIO=4&transport=abc']) {
    assert.equal((await engine(server, { query })).status, 400, query);
  }
  for (const method of ['POST', 'PUT']) {
    assert.equal((await engine(server, { method, query: 'EIO=4&transport=polling' })).status, 400, method);
  }
  for (const query of ['transport=websocket', 'EIO=abc&transport=websocket', 'EIO=4', 'EIO=4&transport=abc']) {
    const raw = await connectRaw(t, server, { path: `/socket.io/?${query}` });
    if (raw.status === 101) await until(() => raw.closed || raw.failure, 5_000, query);
  }
});

test('three heartbeats by GET, each the only packet of its answer', async () => {
  const session = await openPolling(server);
  for (let round = 0; round < 3; round += 1) {
    const answer = await session.get();
    assert.deepEqual([answer.status, answer.text], [200, '2']);
    assert.deepEqual((await session.post('3')).text, 'ok');
  }
});

test('three heartbeats by WebSocket', async (t) => {
  const tape = await entered(t, 'websocket');
  await until(() => tape.heartbeats >= 3, 5_000, 'three rounds');
  assert.ok(!tape.gone);
});

test('who answers no heartbeat is gone half a second after the handshake', async (t) => {
  const session = await openPolling(server);
  // A request after the deadline, on the clock of the client, finds nothing.
  const opened = performance.now();
  await until(() => performance.now() - opened >= SPEC.pingInterval + SPEC.pingTimeout, 2_000, 'the deadline');
  assert.equal((await session.get()).status, 400);
  const raw = await connectRaw(t, server);
  const since = performance.now();
  await until(() => raw.closed || raw.closeCode(), 2_000, 'the WebSocket is closed');
  const took = performance.now() - since;
  assert.ok(took >= 480 && took < 700, `after ${Math.round(took)} ms`);
});

for (const transport of Object.keys(TRANSPORTS)) {
  test(`${transport}: a packet that is none ends the connection`, async (t) => {
    const tape = await TRANSPORTS[transport](t);
    await tape.send('abc');
    await ended(tape);
  });

  // On a WebSocket the reference leaves it to the heartbeat.
  test(`${transport}: the client's close ends the connection`, { skip: REFERENCE && transport === 'websocket' }, async (t) => {
    const tape = await entered(t, transport);
    await tape.send('1');
    await ended(tape);
  });

  // --- Socket.IO ------------------------------------------------------------------------------------

  test(`${transport}: "/" and "/custom" are entered, with and without auth, and greet`, async (t) => {
    const cases = [
      ['40', CONNECTED, '42["auth",{}]'],
      ['40{"token":"123"}', CONNECTED, '42["auth",{"token":"123"}]'],
      ['40/custom,', CONNECTED_CUSTOM, '42/custom,["auth",{}]'],
      ['40/custom,{"token":"abc","n":[1,null,{"é":1.5}]}', CONNECTED_CUSTOM, '42/custom,["auth",{"token":"abc","n":[1,null,{"é":1.5}]}]'],
    ];
    for (const [packet, ...wanted] of cases) {
      const tape = await TRANSPORTS[transport](t);
      await tape.send(packet);
      await expect(tape, ...wanted);
    }
  });

  test(`${transport}: other namespaces are refused, the connection stays`, async (t) => {
    const tape = await TRANSPORTS[transport](t);
    await tape.send('40/random');
    await expect(tape, '44/random,{"message":"Invalid namespace"}');
    await tape.send('40');
    await expect(tape, CONNECTED, '42["auth",{}]');
  });

  test(`${transport}: who enters nothing, or says nonsense instead, is closed`, async (t) => {
    const silent = await TRANSPORTS[transport](t);
    const nonsense = await TRANSPORTS[transport](t);
    await nonsense.send('4abc');
    await ended(nonsense);
    await ended(silent);
  });

  test(`${transport}: leaving a namespace ends neither the connection nor the other`, async (t) => {
    const tape = await entered(t, transport);
    const before = tape.heartbeats;
    await tape.send('41');
    await until(() => tape.heartbeats > before, 2_000, 'the next thing is a heartbeat');
    assert.deepEqual(tape.packets, []);
    const two = await entered(t, transport);
    await two.send('40/custom');
    await expect(two, CONNECTED_CUSTOM, '42/custom,["auth",{}]');
    await two.send('41/custom');
    await two.send('42["message","still here"]');
    await expect(two, '42["message-back","still here"]');
  });

  test(`${transport}: events come back with their arguments, and attachments right behind them`, async (t) => {
    const tape = await entered(t, transport);
    await tape.send('42["message",1,"2",{"3":[true]}]');
    await expect(tape, '42["message-back",1,"2",{"3":[true]}]');
    const [first, second] = [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])];
    const args = '{"_placeholder":true,"num":0},"between",{"deep":{"_placeholder":true,"num":1}}';
    await tape.send(`452-["message",${args}]`, first, second);
    await expect(tape, `452-["message-back",${args}]`, first, second);
  });

  test(`${transport}: acknowledgements have the id and the arguments that were sent`, async (t) => {
    const tape = await entered(t, transport);
    await tape.send('42456["message-with-ack",1,"2",{"3":[false]}]');
    await expect(tape, '43456[1,"2",{"3":[false]}]');
    const [first, second] = [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])];
    const args = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}';
    await tape.send(`452-789["message-with-ack",${args}]`, first, second);
    await expect(tape, `462-789[${args}]`, first, second);
  });

  test(`${transport}: what is no packet of Socket.IO's closes the connection`, async (t) => {
    for (const packet of ['4abc', '42{}', '42abc["message-with-ack",1]', '42["message"', '47', '450-["message"]']) {
      const tape = await entered(t, transport);
      await tape.send(packet);
      await ended(tape);
    }
  });
}

test('payloads of one packet, of three, and of text and bytes come back as one', async () => {
  const session = await openPolling(server);
  await session.enter();
  for (const payload of [
    ['42["message","one"]'],
    ['42["message",1]', '42["message",2]', '42["message",3]'],
    ['42["message","text"]', '451-["message",{"_placeholder":true,"num":0}]', 'bAQIDBA=='],
  ]) {
    assert.equal((await session.post(payload.join(SEPARATOR))).text, 'ok');
    const back = payload.map((packet) => packet.replace('"message"', '"message-back"'));
    const greeting = (packet) => packet !== '42["auth",{}]' && packet !== '2';
    assert.deepEqual((await session.packets((list) => list.filter(greeting).length >= back.length)).filter(greeting), back);
  }
});

// --- The upgrade -------------------------------------------------------------------------------------

async function upgraded(t) {
  const session = await openPolling(server);
  const raw = await connectRaw(t, server, { path: session.upgradePath });
  raw.text('2probe');
  await until(() => raw.texts.length, 2_000, 'the probe is answered');
  assert.deepEqual(raw.texts, ['3probe']);
  return { session, raw };
}

test('an upgrade: every GET meanwhile is a noop, none is taken afterwards, events come by WebSocket', async (t) => {
  const { session, raw } = await upgraded(t);
  assert.deepEqual((await session.get()).text, '6');
  raw.text('5');
  raw.text('40');
  await until(() => raw.texts.filter((text) => text !== '2').length >= 3, 2_000, 'CONNECT is answered');
  assert.equal((await session.get()).status, 400);
  raw.text('42["message","hi"]');
  await until(() => raw.texts.includes('42["message-back","hi"]'), 2_000, 'the event comes back');
});

test('a second WebSocket with the same session is closed, without harm to the first', async (t) => {
  const { session, raw } = await upgraded(t);
  raw.text('5');
  raw.text('40');
  await until(() => raw.texts.filter((text) => text !== '2').length >= 3, 2_000, 'CONNECT is answered');
  const second = await connectRaw(t, server, { path: session.upgradePath });
  assert.equal(second.status, 101);
  await until(() => second.closed || second.closeCode(), 2_000, 'it is closed');
  raw.text('42["message","hi"]');
  await until(() => raw.texts.includes('42["message-back","hi"]'), 2_000, 'the first goes on');
});
