// Engine.IO over HTTP, request by request: what each is answered, and what becomes of the session.
// `SUBJECT=reference` runs the same against Socket.IO's own server.

import assert from 'node:assert/strict';
import { gunzipSync, inflateSync } from 'node:zlib';
import test from 'node:test';
import {
  REFERENCE, SEPARATOR, connectRaw, engine, file, maskedFrame, openPolling, startApp, startRedis, startSubject, until,
} from './harness.mjs';

const MAX = 100_000;
const redis = await startRedis(file);
const server = await startSubject(file, { redis, maxHttpBufferSize: MAX });
const emitter = await redis.emitter();

const json = (code, message) => ({ status: 400, body: { code, message } });
const UNKNOWN_SID = json(1, 'Session ID unknown');

function expectJson(answer, { status, body }, what) {
  assert.equal(answer.status, status, `${what}: ${answer.text}`);
  assert.deepEqual(JSON.parse(answer.text), body, what);
  assert.match(answer.headers['content-type'], /^application\/json/, what);
}

// The session is no more.
async function expectGone(session, what = 'the session') {
  expectJson(await session.get(), UNKNOWN_SID, `${what} is gone`);
}

test('a handshake is one open packet with exactly its keys', async () => {
  const session = await openPolling(server, { query: { t: 'x7f', foo: 'b ar' } });
  const { headers, text } = session.handshake;
  assert.match(headers['content-type'], /^text\/plain; charset=UTF-8$/i);
  assert.equal(headers['cache-control'], 'no-store');
  assert.equal(Number(headers['content-length']), Buffer.byteLength(text));
  assert.ok(!text.includes(SEPARATOR), text);
  const { sid, ...rest } = session.open;
  assert.deepEqual(rest, { upgrades: ['websocket'], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: MAX });
  assert.match(sid, /^[\w.-]{20,}$/);
});

test('a handshake against the protocol is refused in its words', async () => {
  const cases = [
    ['transport=polling', {}, json(5, 'Unsupported protocol version')],
    ['EIO=3&transport=polling', {}, json(5, 'Unsupported protocol version')],
    ['EIO=abc&transport=polling', {}, json(5, 'Unsupported protocol version')],
    ['EIO=4', {}, json(0, 'Transport unknown')],
    ['EIO=4&transport=abc', {}, json(0, 'Transport unknown')],
    ['', {}, json(0, 'Transport unknown')],
    ['EIO=4&transport=polling&sid=abc', {}, UNKNOWN_SID],
    ['EIO=4&transport=polling&sid=abc', { method: 'POST', body: '40' }, UNKNOWN_SID],
    ['EIO=4&transport=polling&sid=', { method: 'POST', body: '40' }, json(2, 'Bad handshake method')],
    ['EIO=4&transport=polling', { method: 'POST', body: '40' }, json(2, 'Bad handshake method')],
    ['EIO=4&transport=polling', { method: 'PUT', body: '40' }, json(2, 'Bad handshake method')],
    ['EIO=4&transport=websocket', {}, json(3, 'Bad request')],
  ];
  for (const [query, options, wanted] of cases) {
    expectJson(await engine(server, { query, ...options }), wanted, `${options.method ?? 'GET'} ${query}`);
  }
});

test('the path is a prefix with its slash', async () => {
  assert.equal((await engine(server, { path: '/socket.io/foo', query: { EIO: 4, transport: 'polling' } })).status, 200);
  // The reference leaves it to whoever else serves the port.
  if (!REFERENCE) assert.equal((await engine(server, { path: '/socket.io', query: { EIO: 4, transport: 'polling' } })).status, 404);
});

test('what is posted is "ok", and what is answered comes by the GET', async () => {
  const session = await openPolling(server);
  const posted = await session.post('40');
  assert.equal(posted.status, 200);
  assert.equal(posted.text, 'ok');
  assert.equal(posted.headers['content-type'], 'text/html');
  assert.equal(posted.headers['content-length'], '2');
  assert.equal(posted.headers['cache-control'], 'no-store');
  const got = await session.get();
  assert.equal(got.status, 200);
  assert.match(got.headers['content-type'], /^text\/plain; charset=UTF-8$/i);
  assert.equal(got.headers['cache-control'], 'no-store');
  assert.match(got.text, /^40\{"sid":"[\w-]{20}"\}$/);
});

test('a payload carries packets with a separator between them, binary as base64', async () => {
  const session = await openPolling(server);
  await session.enter();
  const header = '451-["publish","r1","bin",{"_placeholder":true,"num":0}]';
  const posted = ['420["join","r1"]', header, 'bAQIDBA==', '421["publish","r1","echo","é"]'].join(SEPARATOR);
  assert.equal((await session.post(posted)).text, 'ok');
  const came = await session.packets((list) => list.length >= 5);
  const events = came.filter((packet) => !packet.startsWith('43'));
  assert.deepEqual(events, ['451-["bin",{"_placeholder":true,"num":0}]', 'bAQIDBA==', '42["echo","é"]']);
  assert.deepEqual(came.filter((packet) => packet.startsWith('43')), ['430[{"ok":true}]', '431[{"ok":true}]']);
});

test('a posted payload has no bound on packets, only on bytes', async () => {
  const session = await openPolling(server);
  await session.enter();
  const many = Array.from({ length: 2_000 }, (_, at) => `42${at}["join","r"]`);
  assert.equal((await session.post(many.join(SEPARATOR))).text, 'ok');
  const came = await session.packets((list) => list.length >= 2_000);
  assert.deepEqual(came, many.map((_, at) => `43${at}[{"ok":true}]`));
});

test('content types of a POST do not matter, except bytes, which this version does not have', async () => {
  for (const type of ['text/plain;charset=UTF-8', 'text/plain', 'application/x-www-form-urlencoded', 'nonsense']) {
    const session = await openPolling(server);
    assert.equal((await session.post('40', { headers: { 'content-type': type } })).text, 'ok', type);
    assert.match((await session.get()).text, /^40\{/);
  }
  const session = await openPolling(server);
  const answer = await session.post('40', { headers: { 'content-type': 'application/octet-stream' } });
  assert.equal(answer.status, 400);
  await expectGone(session);
});

test('a POST above the limit is 413 with nothing in it, one at the limit is taken', async () => {
  const session = await openPolling(server);
  await session.enter();
  const frame = '420["publish","r","e","';
  assert.equal((await session.post(`${frame}${'x'.repeat(MAX - frame.length - 2)}"]`)).text, 'ok');
  assert.deepEqual(await session.packets((came) => came.length), ['430[{"ok":true}]']);
  // The answer may come, and the connection end, before all of the body is written.
  const tooLarge = await session.post(`42["x","${'x'.repeat(MAX)}"]`).catch((error) => ({ status: error.code, text: '' }));
  assert.ok([413, 'EPIPE', 'ECONNRESET'].includes(tooLarge.status), String(tooLarge.status));
  assert.equal(tooLarge.text, '');
  // Older servers left the session open, newer ones end it. Clients take the answer for the end.
  const next = await session.post('420["join","r"]');
  if (next.status === 200) assert.deepEqual(await session.packets((came) => came.length), ['430[{"ok":true}]']);
  else expectJson(next, UNKNOWN_SID, 'a later POST');
});

test('a POST above the limit without a length is refused too', async () => {
  const session = await openPolling(server);
  const chunked = await session.post(undefined, { headers: { 'transfer-encoding': 'chunked' }, body: 'x'.repeat(2 * MAX) })
    .catch((error) => ({ status: error.code, text: '' }));
  assert.ok([413, 'EPIPE', 'ECONNRESET'].includes(chunked.status), String(chunked.status));
});

test('a POST that cannot be read is "ok" or 400, and ends the session', async () => {
  for (const body of ['abc', '', '420["x"]\x1eabc', SEPARATOR, '4abc', '42{}', '2', 'b***']) {
    const session = await openPolling(server);
    await session.enter();
    const answer = await session.post(body);
    assert.ok(answer.status === 400 || (answer.status === 200 && answer.text === 'ok'), `${JSON.stringify(body)}: ${answer.status}`);
    // The close may still be told once.
    const last = await session.get();
    if (last.status === 200) assert.match(last.text, /(^|\x1e)1$/, JSON.stringify(body));
    await expectGone(session, JSON.stringify(body));
  }
});

// The reference reads them, and drops their events because the session is closed when it comes to them.
test('packets before one that cannot be read take effect', { skip: REFERENCE }, async () => {
  const [session, other] = [await openPolling(server), await openPolling(server)];
  await other.enter();
  await other.post('420["join","before"]');
  await other.packets((came) => came.length);
  await session.enter();
  await session.post(['42["publish","before","e",1]', 'abc', '42["publish","before","e",2]'].join(SEPARATOR));
  await other.post('42["publish","before","e",3]');
  assert.deepEqual(await other.packets((came) => came.length >= 2), ['42["e",1]', '42["e",3]']);
});

test('a close by POST answers the pending GET with a noop', async () => {
  const session = await openPolling(server);
  await session.enter();
  const pending = session.get();
  await arrived(session, pending);
  assert.equal((await session.post('1')).text, 'ok');
  assert.equal((await pending).text, '6');
  await expectGone(session);
});

// Waits until the server has a GET pending: a request that comes behind it on its own connection may
// overtake it, unless the first was seen to leave and some round trips passed on others.
async function arrived(session, pending) {
  await until(() => pending.request.writableFinished, 5_000, 'the GET is sent');
  for (let round = 0; round < 3; round += 1) await engine(server, { query: 'EIO=4' });
}

test('a second GET ends the session: the first gets the close, the second 400', async () => {
  const session = await openPolling(server);
  await session.enter();
  const first = session.get();
  await arrived(session, first);
  const second = await session.get();
  assert.equal(second.status, 400);
  const answer = await first;
  assert.deepEqual([answer.status, answer.text], [200, '1']);
  await expectGone(session);
});

test('a second POST while one is under way ends the session', async () => {
  const session = await openPolling(server);
  await session.enter();
  const first = engine(server, {
    method: 'POST', query: session.query, headers: { 'content-length': 50 }, body: undefined,
  });
  // `engine` has ended the request without its body: it stays under way until the connection ends.
  const outcome = first.then((answer) => answer.status, (error) => error.code ?? error.message);
  await until(() => first.request.socket?.bytesWritten > 0, 5_000, 'its head is sent');
  for (let round = 0; round < 3; round += 1) await engine(server, { query: 'EIO=4' });
  const second = await session.post('42["x"]');
  assert.equal(second.status, 400);
  assert.ok([400, 'ECONNRESET'].includes(await outcome), `the first: ${await outcome}`);
  await expectGone(session);
});

test('a client that cuts its GET off has left', async () => {
  const session = await openPolling(server);
  await session.enter();
  const pending = session.get();
  await arrived(session, pending);
  pending.abort();
  await until(async () => {
    const answer = await session.get();
    return answer.status === 400;
  }, 2_000, 'the session is gone');
  await expectGone(session);
});

test('other methods on a session are refused', async () => {
  for (const method of ['PUT', 'DELETE', 'PATCH']) {
    const session = await openPolling(server);
    const answer = await session.get({ method });
    assert.equal(answer.status, 500, method);
    assert.equal(answer.text, '', method);
  }
});

test('a request whose version or transport is not the session’s is a bad request', async (t) => {
  const session = await openPolling(server);
  expectJson(await session.get({ query: { ...session.query, EIO: 3 } }), json(3, 'Bad request'), 'EIO=3');
  const raw = await connectRaw(t, server);
  await until(() => raw.texts.length, 5_000, 'the open packet');
  const { sid } = JSON.parse(raw.texts[0].slice(1));
  const query = { EIO: 4, transport: 'polling', sid };
  expectJson(await engine(server, { query }), json(3, 'Bad request'), 'GET');
  expectJson(await engine(server, { query, method: 'POST', body: '40' }), json(3, 'Bad request'), 'POST');
  raw.text('40');
  await until(() => raw.texts.length === 2, 5_000, 'the WebSocket session is as it was');
});

test('large answers are compressed as the client accepts, small ones are not', async () => {
  for (const [accepts, plain] of [['gzip, deflate', gunzipSync], ['deflate', inflateSync], ['br;q=1, gzip;q=0.5', gunzipSync]]) {
    const session = await openPolling(server);
    await session.enter();
    await session.post('420["join","z"]');
    await session.packets((came) => came.length);
    // An event of its own, and nothing else, by the next GET.
    const fetched = async (data, accepted) => {
      await session.post(`42["publish","z","e","${data}"]`);
      return session.get({ headers: accepted ? { 'accept-encoding': accepted } : {} });
    };
    assert.equal((await fetched('small', accepts)).headers['content-encoding'], undefined);
    const large = await fetched('abc'.repeat(2_000), accepts);
    assert.equal(large.headers['content-encoding'], accepts.startsWith('deflate') ? 'deflate' : 'gzip');
    assert.equal(plain(large.bytes).toString(), `42["e","${'abc'.repeat(2_000)}"]`);
    assert.ok(large.bytes.length < 1_000);
    assert.equal((await fetched('abc'.repeat(2_000))).headers['content-encoding'], undefined);
    await session.post('1');
  }
});

test('the client that asks for JSONP is refused, or served by the reference', { skip: REFERENCE }, async () => {
  const answer = await engine(server, { query: 'EIO=4&transport=polling&j=0' });
  assert.equal(answer.status, 400);
  assert.match(JSON.parse(answer.text).message, /JSONP/i);
});

// --- Heartbeats -----------------------------------------------------------------------------------

test('pings come by GET, an interval after the open and after each pong, to a few milliseconds', async (t) => {
  const quick = await startSubject(t, { pingInterval: 300, pingTimeout: 500 });
  const session = await openPolling(quick);
  let since = session.started;
  for (let round = 0; round < 3; round += 1) {
    const answer = await session.get();
    const took = performance.now() - since;
    assert.equal(answer.text, '2', `round ${round}`);
    assert.ok(took >= 295 && took < 420, `round ${round}: after ${Math.round(took)} ms of 300`);
    since = performance.now();
    await session.post('3');
  }
});

test('without a pong the session is gone after interval and timeout, to a few milliseconds', async (t) => {
  const quick = await startSubject(t, { pingInterval: 300, pingTimeout: 200 });
  const session = await openPolling(quick);
  assert.equal((await session.get()).text, '2');
  // A GET that waits is answered by the close, at the moment of the close.
  const last = await session.get();
  const took = performance.now() - session.started;
  assert.ok(took >= 490 && took < 650, `after ${Math.round(took)} ms of 500`);
  if (last.status === 200) assert.match(last.text, /^(6\x1e)?1$/);
  assert.equal((await session.get()).status, 400);
});

test('a session that enters no namespace is closed after the connect timeout', async (t) => {
  const quick = await startSubject(t, { connectTimeout: 300 });
  const session = await openPolling(quick);
  const answer = await session.get();
  assert.deepEqual([answer.status, answer.text], [200, '1']);
  await expectGone(session);
});

// --- WebSocket and the upgrade ----------------------------------------------------------------------

test('a WebSocket handshake against the protocol is refused before it is one', async (t) => {
  for (const query of ['EIO=4&transport=websocket&sid=abc', 'EIO=4&transport=abc', 'EIO=4']) {
    const raw = await connectRaw(t, server, { path: `/socket.io/?${query}` });
    assert.equal(raw.status, 400, query);
  }
  // The reference answers 101 and then garbage.
  if (!REFERENCE) {
    for (const query of ['EIO=3&transport=websocket', 'EIO=abc&transport=websocket', 'transport=websocket']) {
      const raw = await connectRaw(t, server, { path: `/socket.io/?${query}` });
      assert.equal(raw.status, 400, query);
    }
  }
  const polling = await connectRaw(t, server, { path: '/socket.io/?EIO=4&transport=polling' });
  assert.equal(polling.status, 101);
  await until(() => polling.closed || polling.closeCode(), 5_000, 'it is closed');
});

test('on WebSocket a packet is a frame, "b" is binary as text, and types of the server are ignored', async (t) => {
  const raw = await connectRaw(t, server);
  await until(() => raw.texts.length, 5_000, 'the open packet');
  assert.deepEqual(JSON.parse(raw.texts[0].slice(1)).upgrades, []);
  for (const text of ['0', '3', '5', '6', '6x', '40']) raw.text(text);
  await until(() => raw.texts.length === 2, 5_000, 'the answer to CONNECT');
  raw.text('420["join","w"]');
  raw.text('451-["publish","w","e",{"_placeholder":true,"num":0}]');
  raw.text('bAQID');
  await until(() => raw.binaries.length === 1, 5_000, 'binary comes back');
  assert.deepEqual(raw.binaries[0], Buffer.from([1, 2, 3]));
  assert.equal(raw.texts.at(-1), '451-["e",{"_placeholder":true,"num":0}]');
  raw.text('42["publish","w","e","a\\u001eb"]');
  await until(() => raw.texts.at(-1).includes('u001e') || raw.texts.at(-1).includes('\x1e'), 5_000, 'a separator is text');
});

test('what cannot be read, or is of the client’s side only, closes a WebSocket', async (t) => {
  for (const text of ['abc', '', '2', '2probe', '1', '4abc', '42{}', '421abc["x"]', 'b***', '7']) {
    const raw = await connectRaw(t, server);
    raw.text('40');
    await until(() => raw.texts.length === 2, 5_000, 'it has entered');
    // The reference leaves it to the client to close after `1`.
    if (REFERENCE && text === '1') continue;
    raw.text(text);
    await until(() => raw.closed || raw.closeCode(), 5_000, `closed by ${JSON.stringify(text)}`);
  }
  const raw = await connectRaw(t, server);
  raw.write(maskedFrame(0x81, 'x'.repeat(MAX + 1)));
  await until(() => raw.closed || raw.closeCode(), 5_000, 'a large frame');
  assert.equal(raw.closeCode(), 1009);
});

async function probed(t, session) {
  const raw = await connectRaw(t, server, { path: session.upgradePath });
  assert.equal(raw.status, 101);
  raw.text('2probe');
  await until(() => raw.texts.length, 5_000, 'the probe is answered');
  assert.deepEqual(raw.texts, ['3probe']);
  return raw;
}

test('an upgrade: probe, every GET meanwhile answered, then all goes over the WebSocket', async (t) => {
  const session = await openPolling(server);
  await session.enter();
  const pending = session.get();
  await arrived(session, pending);
  const raw = await probed(t, session);
  const started = performance.now();
  assert.equal((await pending).text, '6');
  for (let round = 0; round < 3; round += 1) assert.equal((await session.get()).text, '6', `round ${round}`);
  assert.ok(performance.now() - started < 1_500, 'at once, or nearly');
  // Until the client says so, packets go out by polling.
  await session.post('420["join","up"]');
  assert.deepEqual(await session.packets((came) => came.length), ['430[{"ok":true}]']);
  raw.text('5');
  raw.text('421["publish","up","e",1]');
  await until(() => raw.texts.length >= 3, 5_000, 'answers come over the WebSocket');
  assert.deepEqual(raw.texts.slice(1).sort(), ['42["e",1]', '431[{"ok":true}]']);
  expectJson(await session.get(), json(3, 'Bad request'), 'a GET after the upgrade');
  raw.text('422["leave","up"]');
  await until(() => raw.texts.at(-1) === '432[{"ok":true}]', 5_000, 'the WebSocket goes on');
  assert.ok(!raw.texts.includes('6'));
});

test('what waits at the moment of the upgrade goes out once, over the WebSocket', async (t) => {
  const session = await openPolling(server);
  await session.enter();
  await session.post('420["join","waiting"]');
  await session.packets((came) => came.length);
  const raw = await probed(t, session);
  for (let n = 0; n < 20; n += 1) emitter.to('waiting').emit('e', n);
  raw.text('5');
  const came = () => raw.texts.filter((text) => text.startsWith('42'));
  await until(() => came().length >= 20, 5_000, () => `all of 20: ${came().length}`);
  raw.text('421["leave","waiting"]');
  await until(() => raw.texts.at(-1) === '431[{"ok":true}]', 5_000, 'the last answer');
  assert.deepEqual(came(), Array.from({ length: 20 }, (_, n) => `42["e",${n}]`));
});

test('an upgrade packet may carry more', async (t) => {
  const session = await openPolling(server);
  await session.enter();
  const raw = await probed(t, session);
  raw.text('52');
  raw.text('420["join","r"]');
  await until(() => raw.texts.includes('430[{"ok":true}]'), 5_000, 'it is upgraded');
});

test('a WebSocket that breaks off its upgrade, or says something else, leaves the session as it is', async (t) => {
  for (const end of [(raw) => raw.end(), (raw) => raw.text('40'), (raw) => raw.text('hello')]) {
    const session = await openPolling(server);
    await session.enter();
    const raw = await connectRaw(t, server, { path: session.upgradePath });
    assert.equal(raw.status, 101);
    end(raw);
    await until(() => raw.closed || raw.closeCode(), 5_000, 'the WebSocket is closed');
    await session.post('420["join","r"]');
    assert.deepEqual(await session.packets((came) => came.length), ['430[{"ok":true}]']);
    const again = await probed(t, session);
    again.text('5');
    again.text('421["join","r"]');
    await until(() => again.texts.includes('431[{"ok":true}]'), 5_000, 'a later upgrade succeeds');
  }
});

test('a WebSocket that dies after its probe leaves the session as it is', async (t) => {
  const session = await openPolling(server);
  await session.enter();
  const raw = await probed(t, session);
  raw.end();
  await session.post('420["join","r"]');
  assert.deepEqual(await session.packets((came) => came.length), ['430[{"ok":true}]']);
});

test('an upgrade that is not finished in time is over, the session is not', async (t) => {
  const quick = await startSubject(t, { upgradeTimeout: 300 });
  const session = await openPolling(quick);
  await session.enter();
  const raw = await connectRaw(t, quick, { path: session.upgradePath });
  raw.text('2probe');
  await until(() => raw.closed || raw.closeCode(), 3_000, 'the WebSocket is closed');
  assert.deepEqual(raw.texts, ['3probe']);
  await session.post('420["join","r"]');
  assert.deepEqual(await session.packets((came) => came.length), ['430[{"ok":true}]']);
});

test('a second WebSocket for a session is opened and closed, the first does not notice', async (t) => {
  const session = await openPolling(server);
  await session.enter();
  const raw = await probed(t, session);
  const during = await connectRaw(t, server, { path: session.upgradePath });
  assert.equal(during.status, 101);
  await until(() => during.closed || during.closeCode(), 5_000, 'one during the upgrade is closed');
  raw.text('5');
  raw.text('420["join","r"]');
  await until(() => raw.texts.includes('430[{"ok":true}]'), 5_000, 'the upgrade goes on');
  const after = await connectRaw(t, server, { path: session.upgradePath });
  assert.equal(after.status, 101);
  await until(() => after.closed || after.closeCode(), 5_000, 'one after the upgrade is closed');
  raw.text('421["join","r"]');
  await until(() => raw.texts.includes('431[{"ok":true}]'), 5_000, 'the first goes on');
});

// --- The server closes -------------------------------------------------------------------------------

test('a server that disconnects a polling client says so by GET: the packet, then the close', async () => {
  const session = await openPolling(server);
  await session.enter();
  await session.post('420["join","out"]');
  await session.packets((came) => came.length);
  const pending = session.get();
  await arrived(session, pending);
  emitter.in('out').disconnectSockets(true);
  const came = [await pending, await session.get()].map((answer) => answer.text).join(SEPARATOR);
  assert.match(came, /^41\x1e(6\x1e)?1$/, JSON.stringify(came));
  await expectGone(session);
});

test('a server that disconnects a client of a namespace keeps the connection where it is not told otherwise', async () => {
  const session = await openPolling(server);
  await session.enter();
  await session.post('420["join","out"]');
  await session.packets((came) => came.length);
  emitter.in('out').disconnectSockets();
  assert.deepEqual(await session.packets((came) => came.length), ['41']);
  assert.match(await session.enter(), /^40\{"sid"/);
});

test('what is volatile is for those who have a GET pending', async (t) => {
  const witness = await connectRaw(t, server);
  witness.text('40');
  await until(() => witness.texts.length === 2, 5_000, 'it has entered');
  witness.text('420["join","volatile"]');
  await until(() => witness.texts.length === 3, 5_000, 'it has joined');
  const session = await openPolling(server);
  await session.enter();
  await session.post('420["join","volatile"]');
  await session.packets((came) => came.length);
  emitter.volatile.to('volatile').emit('e', 'missed');
  emitter.to('volatile').emit('e', 'kept');
  await until(() => witness.texts.includes('42["e","kept"]'), 5_000, 'both were there');
  assert.deepEqual(await session.packets((came) => came.length), ['42["e","kept"]']);
  const pending = session.get();
  await arrived(session, pending);
  emitter.volatile.to('volatile').emit('e', 'in time');
  assert.equal((await pending).text, '42["e","in time"]');
});

// --- Pages of other hosts ---------------------------------------------------------------------------

test('without origins nothing is said to pages of others', async (t) => {
  const bare = await startSubject(t, { app: await startApp(t) });
  const headers = { origin: 'https://app.example' };
  const answer = await engine(bare, { query: 'EIO=4&transport=polling', headers });
  assert.ok(!Object.keys(answer.headers).some((name) => name.startsWith('access-control')), JSON.stringify(answer.headers));
  const asked = await engine(bare, { method: 'OPTIONS', query: 'EIO=4&transport=polling', headers });
  expectJson(asked, json(2, 'Bad handshake method'), 'OPTIONS');
});

test('pages of every origin may read what is answered, errors too', async (t) => {
  const open = await startSubject(t, { origins: ['*'] });
  const headers = { origin: 'https://app.example' };
  for (const query of ['EIO=4&transport=polling', 'EIO=4&transport=polling&sid=abc', 'EIO=4&transport=abc']) {
    assert.equal((await engine(open, { query, headers })).headers['access-control-allow-origin'], '*', query);
  }
  const asked = await engine(open, {
    method: 'OPTIONS', query: 'EIO=4&transport=polling',
    headers: { ...headers, 'access-control-request-method': 'POST', 'access-control-request-headers': 'x-token, content-type' },
  });
  assert.equal(asked.status, 204);
  assert.equal(asked.headers['access-control-allow-origin'], '*');
  assert.match(asked.headers['access-control-allow-methods'], /GET.*POST/);
  assert.equal(asked.headers['access-control-allow-headers'], 'x-token, content-type');
  assert.match(asked.headers.vary, /Access-Control-Request-Headers/i);
});

test('named origins are told by name and may send credentials, others are not told', async (t) => {
  const named = await startSubject(t, { origins: ['https://app.example', 'https://two.example'] });
  const query = 'EIO=4&transport=polling';
  for (const origin of ['https://app.example', 'https://two.example']) {
    const { headers } = await engine(named, { query, headers: { origin } });
    assert.equal(headers['access-control-allow-origin'], origin);
    assert.equal(headers['access-control-allow-credentials'], 'true');
    assert.match(headers.vary, /Origin/i);
  }
  const other = await engine(named, { query, headers: { origin: 'https://evil.example' } });
  assert.equal(other.headers['access-control-allow-origin'], undefined);
});
