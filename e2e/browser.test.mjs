// The unmodified client in a real browser, from the bundle that the server itself gives out.

import assert from 'node:assert/strict';
import http from 'node:http';
import test from 'node:test';
import {
  REFERENCE, ask, collect, connectSocket, engine, fetchText, file, free, startBrowser, startEdge, startRedis, startSubject, until,
} from './harness.mjs';

const redis = await startRedis(file);
// The origin of an app's pages, and one that may not connect.
const [app, stranger] = [await startPages(file), await startPages(file)];
const server = await startSubject(file, { redis, bundles: true, origins: [app.url] });
const emitter = await redis.emitter();
const browser = await startBrowser(file);

// A server of one page that loads the client from `server` and knows no more.
async function startPages(owner) {
  const pages = http.createServer((request, answer) => {
    const bundle = new URL(request.url, 'http://x').searchParams.get('bundle');
    answer.setHeader('content-type', 'text/html');
    answer.end(`<!doctype html><title>a page</title><script src="${bundle}"></script>`);
  });
  const port = await free();
  await new Promise((resolve) => pages.listen(port, '127.0.0.1', resolve));
  owner.after(() => {
    pages.closeAllConnections();
    pages.close();
  });
  return { url: `http://127.0.0.1:${port}` };
}

// A page of `origin` with a client that has joined `room`, and what it gets there.
async function open(origin, room, options, bundle = 'socket.io.js', from = server) {
  const page = await browser.newPage();
  await page.goto(`${origin.url}/?bundle=${from.url}/socket.io/${bundle}`);
  await page.evaluate(([url, options]) => {
    window.got = [];
    window.failures = [];
    window.socket = window.io(url, options);
    window.socket.on('connect_error', (error) => window.failures.push(error.message));
    const shown = (value) => {
      if (value instanceof ArrayBuffer) return { bytes: [...new Uint8Array(value)] };
      if (ArrayBuffer.isView(value)) return { bytes: [...value] };
      if (Array.isArray(value)) return value.map(shown);
      if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, shown(v)]));
      return value;
    };
    window.socket.on('e', (...args) => window.got.push(shown(args)));
  }, [from.url, options]);
  if (room) {
    await page.waitForFunction(() => window.socket.connected);
    assert.deepEqual(await page.evaluate((room) => window.socket.emitWithAck('join', room), room), { ok: true });
  }
  page.got = () => page.evaluate(() => window.got);
  page.transport = () => page.evaluate(() => window.socket.io.engine.transport.name);
  return page;
}

const WAYS = {
  polling: { transports: ['polling'] },
  'polling, upgraded': {},
  websocket: { transports: ['websocket'] },
};

for (const [way, options] of Object.entries(WAYS)) {
  test(`${way}: events and binary both ways, from a page of another origin, with credentials`, async (t) => {
    const room = `browser ${way}`;
    const page = await open(app, room, { ...options, withCredentials: true });
    t.after(() => page.close());
    const other = await connectSocket(t, server);
    await ask(other, 'join', room);
    const got = collect(other, 'e');
    await page.evaluate((room) => {
      window.socket.emit('publish', room, 'e', 'text é 🎉', { a: [null, 1] });
      window.socket.emit('publish', room, 'e', new Uint8Array([1, 2, 3]), { b: new ArrayBuffer(2) });
    }, room);
    await until(() => got.length === 2, 10_000, 'it arrives elsewhere');
    assert.deepEqual(got, [['text é 🎉', { a: [null, 1] }], [Buffer.from([1, 2, 3]), { b: Buffer.alloc(2) }]]);
    for (let n = 0; n < 100; n += 1) emitter.to(room).emit('e', n, Buffer.from([n]));
    await page.waitForFunction(() => window.got.length === 102);
    assert.deepEqual((await page.got()).slice(2), Array.from({ length: 100 }, (_, n) => [n, { bytes: [n] }]));
    if (way === 'polling') assert.equal(await page.transport(), 'polling');
    else await page.waitForFunction(() => window.socket.io.engine.transport.name === 'websocket');
    assert.deepEqual(await page.evaluate(() => window.failures), []);
  });
}

test('the bundle with the msgpack parser works beside clients without it', async (t) => {
  const packed = REFERENCE ? await startSubject(t, { redis, bundles: true, origins: [app.url], msgpack: true }) : server;
  const other = await connectSocket(t, server);
  await ask(other, 'join', 'packed');
  const got = collect(other, 'e');
  for (const options of [{ transports: ['polling'] }, {}]) {
    got.length = 0;
    const page = await open(app, 'packed', options, 'socket.io.msgpack.min.js', packed);
    await page.evaluate(() => window.socket.emit('publish', 'packed', 'e', { b: new Uint8Array([7]).buffer }, null));
    await until(() => got.length === 1, 5_000, 'it arrives elsewhere');
    assert.deepEqual(got, [[{ b: Buffer.from([7]) }, null]]);
    await page.waitForFunction(() => window.got.length === 1);
    assert.deepEqual(await page.got(), [[{ b: { bytes: [7] } }, null]]);
    await page.close();
  }
});

test('a page of an origin that is not allowed gets nothing by polling', async (t) => {
  const page = await open(stranger, undefined, { transports: ['polling'], reconnection: false });
  t.after(() => page.close());
  await page.waitForFunction(() => window.failures.length);
  assert.deepEqual(await page.evaluate(() => window.failures), ['xhr poll error']);
});

// Browsers ask no leave for a WebSocket, so the server has to look; the reference does not.
test('a page of an origin that is not allowed gets no WebSocket', { skip: REFERENCE }, async (t) => {
  const page = await open(stranger, undefined, { transports: ['websocket'], reconnection: false });
  t.after(() => page.close());
  await page.waitForFunction(() => window.failures.length);
  assert.deepEqual(await page.evaluate(() => window.failures), ['websocket error']);
});

test('a page that is closed while it polls is gone at once', async (t) => {
  const own = await startSubject(t, { bundles: true, origins: [app.url] });
  const count = async () => (REFERENCE ? own.io.engine.clientsCount : own.metric('fanfare_connections'));
  const page = await open(app, 'closing', { transports: ['polling'] }, 'socket.io.js', own);
  assert.equal(await count(), 1);
  await page.close();
  await until(async () => (await count()) === 0, 3_000, 'it is gone');
});

test('a page that goes offline comes back by itself', async (t) => {
  const page = await open(app, 'offline', { reconnectionDelay: 50, reconnectionDelayMax: 100 });
  t.after(() => page.close());
  await page.waitForFunction(() => window.socket.io.engine.transport.name === 'websocket');
  const before = await page.evaluate(() => window.socket.id);
  await page.evaluate(() => window.socket.io.engine.close());
  await page.waitForFunction((before) => window.socket.connected && window.socket.id !== before, before);
  assert.deepEqual(await page.evaluate(() => window.socket.emitWithAck('join', 'offline')), { ok: true });
});

test('the bundles are served with their types and can be kept by browsers', async () => {
  for (const name of ['socket.io.js', 'socket.io.min.js', 'socket.io.esm.min.js', 'socket.io.msgpack.min.js']) {
    const answer = await engine(server, { path: `/socket.io/${name}` });
    assert.equal(answer.status, 200, name);
    assert.match(answer.headers['content-type'], /^application\/javascript/, name);
    assert.ok(answer.text.includes('Socket.IO v4.8.4'), name);
    const again = await engine(server, { path: `/socket.io/${name}`, headers: { 'if-none-match': answer.headers.etag } });
    assert.equal(again.status, 304, name);
    const map = await engine(server, { path: `/socket.io/${name}.map` });
    assert.match(map.headers['content-type'], /^application\/json/, name);
  }
  for (const name of ['other.js', '..%2fpackage.json', 'socket.io.js.map.map', 'socket.io.js/x']) {
    const answer = await engine(server, { path: `/socket.io/${name}` });
    assert.ok(answer.status >= 400 && answer.status < 500, `${name}: ${answer.status}`);
  }
});

test('without the setting the answer says how they are served', { skip: REFERENCE }, async (t) => {
  const bare = await startEdge(t, { dev: true });
  const answer = await fetchText(`${bare.url}/socket.io/socket.io.js`);
  assert.equal(answer.status, 404);
  assert.match(answer.text, /client.dist/);
});
