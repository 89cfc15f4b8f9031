// Starting, being refused, and leaving service.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import net from 'node:net';
import test from 'node:test';
import { WebSocket } from 'ws';
import {
  ask, collect, connectPlain, connectRaw, connectSocket, counted, fetchText, publish, startEdge, startRedis, until,
} from './harness.mjs';
import { BINARY } from './harness/edge.mjs';
import { Started } from './harness/owner.mjs';

const UPGRADE = {
  Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==',
};

test('SIGTERM: not ready, handshakes refused with 503, outboxes flushed, transports closed, exit 0', async (t) => {
  const redis = await startRedis(t);
  const edge = await startEdge(t, { redis, dev: true });
  const sockets = await Promise.all(Array.from({ length: 40 }, () => connectSocket(t, edge, { reconnection: false })));
  const plain = await connectPlain(t, edge);
  await Promise.all(sockets.map((socket) => ask(socket, 'join', 'r')));
  await plain.ask({ type: 'join', room: 'r' });
  const got = sockets.map((socket) => collect(socket, 'e'));
  const reasons = [];
  for (const socket of sockets) socket.on('disconnect', (reason) => reasons.push(reason));
  await Promise.all(Array.from({ length: 100 }, (_, at) => publish(edge, { room: 'r', event: 'e', data: at })));

  const started = performance.now();
  edge.signal('SIGTERM');
  await until(async () => (await edge.readiness()) === 503, 3_000, 'it says that it is not ready');
  for (const path of ['/ws', '/socket.io/?EIO=4&transport=websocket']) {
    const answer = await fetchText(edge.url + path, { headers: UPGRADE });
    assert.equal(answer.status, 503, path);
  }
  const how = await edge.exited;
  const took = performance.now() - started;
  assert.deepEqual(how, { code: 0, signal: null }, edge.log);
  assert.ok(took < 10_000, `left after ${Math.round(took)} ms`);
  await until(() => reasons.length === 40 && plain.closed, 2_000, 'everyone knows');
  assert.deepEqual(counted(reasons), { 'transport close': 40 });
  assert.equal(plain.closed.code, 1001);
  for (const list of got) assert.equal(list.length, 100, 'what was published before arrived');
});

test('SIGTERM without connections ends at once', async (t) => {
  const edge = await startEdge(t, { dev: true });
  const started = performance.now();
  assert.deepEqual(await edge.stop(), { code: 0, signal: null });
  assert.ok(performance.now() - started < 3_000);
});

test('clients of a leaving node come back to it when it is started again', async (t) => {
  const first = await startEdge(t, { dev: true });
  const socket = await connectSocket(t, first, { reconnectionDelay: 50, reconnectionDelayMax: 200 });
  const reasons = collect(socket, 'disconnect');
  await first.stop();
  await startEdge(t, { dev: true, port: first.port });
  await until(() => socket.connected, 10_000, 'it is back');
  assert.equal(reasons[0][0] ?? reasons[0], 'transport close');
});

test('wrong settings are refused before a port opens, with the sentence that says why', async (t) => {
  const cases = [
    [{ args: ['--ping-interval', '25'] }, /--ping-interval.*25s/s],
    [{ args: ['--redis', 'http://127.0.0.1'] }, /--redis.*redis:\/\//s],
    [{ args: ['--plain-path', 'ws'] }, /--plain-path.*\/ws/s],
    [{ env: { FANFARE_LISTN: 'x' } }, /FANFARE_LISTN.*FANFARE_LISTEN/s],
    [{ config: 'namespaces = 7\n' }, /fanfare\.toml:1.*namespaces/s],
    [{ config: '[rooms.channel]\njoin = ["join:channel"]\n' }, /fanfare\.toml:1.*pattern/s],
    [{ config: '[rooms.channel]\npattern = "channel:{a}{b}"\n' }, /fanfare\.toml:2.*pattern/s],
    [{ config: 'lisent = "127.0.0.1:1"\n' }, /lisent.*Did you mean `listen`/s],
    [{ config: 'listen = \n' }, /fanfare\.toml:1.*TOML/s],
    [{ args: ['--outbox-soft', '2MiB', '--outbox-hard', '1MiB'] }, /--outbox-soft.*outbox_hard/s],
    [{ args: ['--unheard-of'] }, /unexpected argument '--unheard-of'/],
  ];
  for (const [options, sentence] of cases) {
    const edge = await startEdge(t, { ...options, ready: false });
    const how = await edge.exited;
    assert.ok([2, 3].includes(how.code), `${JSON.stringify(options)}: ${JSON.stringify(how)}\n${edge.log}`);
    assert.match(edge.log, sentence);
    assert.doesNotMatch(edge.log, /serving|clients +http/, 'nothing was opened');
  }
});

test('a port that is taken is said to be so', async (t) => {
  const edge = await startEdge(t, { dev: true });
  const second = await startEdge(t, { dev: true, port: edge.port, ready: false });
  assert.equal((await second.exited).code, 1);
  assert.match(second.log, new RegExp(`127\\.0\\.0\\.1:${edge.port}`));
  assert.match(second.log, /in use/i);
});

test('--dev refuses a listener that is not loopback', async (t) => {
  for (const name of ['FANFARE_LISTEN', 'FANFARE_PRIVATE']) {
    const env = { PATH: process.env.PATH, [name]: '0.0.0.0:0' };
    const edge = new Started(t, BINARY, ['serve', '--dev'], { env });
    assert.equal((await edge.exited).code, 3);
    assert.match(edge.log, /0\.0\.0\.0:0 is not a loopback address/);
  }
});

test('variables stand beside the flags, and flags go first', async (t) => {
  const redis = await startRedis(t);
  const env = { FANFARE_REDIS: redis.url, FANFARE_DEV: 'true', FANFARE_PREFIX: 'other', FANFARE_NODE: 'named-by-variable' };
  const edge = await startEdge(t, { env, args: ['--prefix', 'chosen', '--python-channel', 'chosen-python', '--node', 'named-by-flag'] });
  const socket = await connectSocket(t, edge);
  await ask(socket, 'join', 'r');
  const connection = await redis.connect();
  const channels = await connection.sendCommand(['PUBSUB', 'CHANNELS', '*']);
  assert.ok(channels.includes('chosen#/#r#'), channels.join());
  assert.ok(channels.every((channel) => channel.startsWith('chosen')), channels.join());
  assert.match(edge.log, /named-by-flag/);
});

test("a browser's page may connect from the same host or from the list, others get 403", async (t) => {
  const [own, listed, open] = await Promise.all([
    startEdge(t), startEdge(t, { args: ['--origins', 'https://app.example'] }), startEdge(t, { args: ['--origins', '*'] }),
  ]);
  const status = (edge, origin) => new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${edge.port}/ws`, { origin });
    socket.on('open', () => resolve(101));
    socket.on('unexpected-response', (_, answer) => resolve(answer.statusCode));
    socket.on('error', () => resolve(undefined));
    t.after(() => socket.terminate());
  });
  assert.equal(await status(own, undefined), 101);
  assert.equal(await status(own, own.url), 101);
  assert.equal(await status(own, 'https://app.example'), 403);
  assert.equal(await status(own, 'null'), 403);
  assert.equal(await status(listed, 'https://app.example'), 101);
  assert.equal(await status(listed, 'https://app.example.evil.test'), 403);
  assert.equal(await status(open, 'https://anywhere.example'), 101);
  assert.equal(await own.metric('fanfare_connections_rejected_total', { reason: 'origin' }), 2);
  const refused = await fetchText(`${own.url}/socket.io/?EIO=4&transport=websocket`, { headers: { ...UPGRADE, origin: 'https://x.example' } });
  assert.equal(refused.status, 403);
});

test('at the bound of connections new ones are refused and counted, others undisturbed', async (t) => {
  // 300 open files less the node's reserve leave room for 225 connections.
  const edge = await startEdge(t, { dev: true, files: 300 });
  const limit = await edge.metric('fanfare_connections_limit');
  assert.equal(limit, 225);
  const sockets = await Promise.all(Array.from({ length: limit }, () => connectSocket(t, edge)));
  await Promise.all(sockets.map((socket) => ask(socket, 'join', 'r')));
  const lost = [];
  for (const socket of sockets) socket.on('disconnect', (reason) => lost.push(reason));
  for (let at = 0; at < 20; at += 1) {
    const raw = await connectRaw(t, edge);
    await until(() => raw.closed || raw.status === 503, 5_000, 'it is refused');
    assert.ok([503, undefined].includes(raw.status), `${raw.status}`);
  }
  assert.equal(await edge.metric('fanfare_connections_rejected_total', { reason: 'connections' }), 20);
  const got = sockets.map((socket) => collect(socket, 'e'));
  await publish(edge, { room: 'r', event: 'e', data: 1 });
  await until(() => got.every((list) => list.length === 1), 5_000, 'those who are in receive');
  assert.deepEqual(lost, []);
  sockets[0].disconnect();
  await until(async () => (await edge.metric('fanfare_connections')) === limit - 1, 5_000, 'one leaves');
  const next = await connectSocket(t, edge);
  assert.deepEqual(await ask(next, 'join', 'r'), { ok: true });
});

test('at the limit of open files the node refuses without spinning, and goes on when files are free', async (t) => {
  const edge = await startEdge(t, { dev: true });
  const sockets = await Promise.all(Array.from({ length: 20 }, () => connectSocket(t, edge)));
  await Promise.all(sockets.map((socket) => ask(socket, 'join', 'r')));
  const got = sockets.map((socket) => collect(socket, 'e'));
  const lost = [];
  for (const socket of sockets) socket.on('disconnect', (reason) => lost.push(reason));
  // The node keeps descriptors in reserve, so that only a limit lowered from outside is ever met.
  const limit = (files) => {
    const ran = spawnSync('prlimit', ['--pid', String(edge.pid), `--nofile=${files}:20000`], { encoding: 'utf8' });
    assert.equal(ran.status, 0, ran.stderr);
  };
  limit(readdirSync(`/proc/${edge.pid}/fd`).length + 5);
  const callers = Array.from({ length: 200 }, () => connectKept(edge.port));
  t.after(() => callers.forEach((socket) => socket.destroy()));
  await until(() => callers.filter((socket) => socket.ended).length > 150, 15_000, 'callers are refused');

  // Processor time while the limit stands, over a second of the wall clock.
  const [from, cpu] = [performance.now(), edge.processorTime()];
  await until(() => performance.now() - from > 1_000, 2_000, 'a second has passed');
  const used = edge.processorTime() - cpu;
  assert.ok(used < 0.5, `${used} s of processor time in a second at the limit`);
  for (let number = 0; number < 10; number += 1) assert.deepEqual(await ask(sockets[0], 'publish', 'r', 'e', number), { ok: true });
  await until(() => got.every((list) => list.length === 10), 5_000, 'those who are in receive');
  assert.deepEqual(lost, []);

  limit(20_000);
  callers.forEach((socket) => socket.destroy());
  const next = await connectSocket(t, edge);
  assert.deepEqual(await ask(next, 'join', 'r'), { ok: true });
  assert.ok((await edge.metric('fanfare_connections_rejected_total', { reason: 'files' })) > 100, 'refusals are counted');
});

function connectKept(port) {
  const socket = net.connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.on('close', () => (socket.ended = true));
  socket.resume();
  return socket;
}
