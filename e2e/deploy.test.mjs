// The files that the project ships for operators: taken by the programs they are for, and doing what
// they promise.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  ask, collect, connectSocket, engine, file, openPolling, startEdge, startHaproxy, startRedis, until,
} from './harness.mjs';
import { CONFIG } from './harness/haproxy.mjs';
import { Started, free } from './harness/owner.mjs';

const shipped = (name) => fileURLToPath(new URL(`../deploy/${name}`, import.meta.url));
const folder = await mkdtemp(path.join(tmpdir(), 'fanfare-deploy-'));
file.after(() => rm(folder, { recursive: true, force: true }));

// nginx with the shipped config, its ports and files changed to free ones.
async function startNginx(t, edges) {
  const port = await free();
  const config = (await readFile(shipped('nginx.conf'), 'utf8'))
    .replaceAll('127.0.0.1:3000', `127.0.0.1:${edges[0].port}`)
    .replaceAll('127.0.0.1:3010', `127.0.0.1:${edges[1].port}`)
    .replace('listen 8080', `listen 127.0.0.1:${port}`);
  const place = path.join(folder, 'nginx.conf');
  await writeFile(place, config);
  const directives = `daemon off; pid ${folder}/nginx.pid; error_log stderr;`;
  const nginx = new Started(t, 'nginx', ['-p', folder, '-c', place, '-g', directives], { leave: 'SIGTERM' });
  nginx.url = `http://127.0.0.1:${port}`;
  return nginx;
}

test('HAProxy and nginx take the configs that are shipped', async () => {
  const haproxy = spawnSync('haproxy', ['-c', '-f', CONFIG], { encoding: 'utf8' });
  assert.equal(haproxy.status, 0, haproxy.stderr);
  assert.doesNotMatch(haproxy.stdout + haproxy.stderr, /warning/i);
  const nginx = spawnSync('nginx', ['-t', '-p', folder, '-c', shipped('nginx.conf'), '-g', `pid ${folder}/test.pid; error_log stderr;`], { encoding: 'utf8' });
  assert.equal(nginx.status, 0, nginx.stderr);
});

test('the example of a config starts a node', async (t) => {
  const config = await readFile(shipped('fanfare.example.toml'), 'utf8');
  // Addresses and Redis are those of this test.
  const own = config.replace(/^(listen|private|redis) *=/gm, '# $&');
  await startEdge(t, { config: own });
});

test('through nginx sessions go to their owners, upgrades too, and nothing is forwarded', async (t) => {
  const redis = await startRedis(t);
  const labelled = (label) => startEdge(t, { redis, dev: true, args: ['--label', label] });
  const edges = [await labelled('edge1'), await labelled('edge2')];
  const nginx = await startNginx(t, edges);
  const options = { transports: ['polling', 'websocket'], reconnection: false };
  const sockets = await until(
    () => Promise.all(Array.from({ length: 20 }, () => connectSocket(t, nginx, options))).catch(() => null),
    10_000, () => nginx.log,
  );
  await until(() => sockets.every((socket) => socket.io.engine.transport.name === 'websocket'), 15_000, 'all upgrade');
  await Promise.all(sockets.map((socket) => ask(socket, 'join', 'r')));
  const of = async (name) => Promise.all(edges.map((edge) => edge.metric(name)));
  // A GET that waits counts for nginx's least_conn, one that is between two does not: the shares are not even.
  await until(async () => {
    const shares = await of('fanfare_memberships');
    return shares[0] + shares[1] === 20 && shares.every((share) => share > 0);
  }, 5_000, 'both have sessions, twenty together');
  assert.deepEqual(await of('fanfare_forwarded_requests_total'), [0, 0]);
  // The owner dies: the other one says that its sessions are gone, and serves their clients anew.
  const session = await openPolling(edges[0]);
  await edges[0].kill9();
  const answer = await engine(nginx, { query: session.query });
  assert.deepEqual([answer.status, JSON.parse(answer.text).code], [400, 1]);
});

test('through nginx clients reach two edges, and the other one while one leaves', async (t) => {
  const redis = await startRedis(t);
  const edges = [await startEdge(t, { redis, dev: true }), await startEdge(t, { redis, dev: true })];
  const nginx = await startNginx(t, edges);
  const sockets = await until(
    () => Promise.all(Array.from({ length: 20 }, () => connectSocket(t, nginx, { reconnection: false }))).catch(() => null),
    10_000, () => nginx.log,
  );
  await Promise.all(sockets.map((socket) => ask(socket, 'join', 'r')));
  const shares = await Promise.all(edges.map((edge) => edge.metric('fanfare_memberships')));
  assert.deepEqual(shares, [10, 10]);
  edges[0].signal('SIGTERM');
  await until(async () => (await edges[0].readiness()) === 503, 5_000, 'it leaves');
  for (let more = 0; more < 10; more += 1) {
    const socket = await connectSocket(t, nginx, { reconnection: false });
    assert.deepEqual(await ask(socket, 'join', 'r'), { ok: true });
  }
});

test('through HAProxy a node that leaves gives its clients to the other without an error to anyone', async (t) => {
  const redis = await startRedis(t);
  const edges = [await startEdge(t, { redis, dev: true }), await startEdge(t, { redis, dev: true })];
  const balancer = await startHaproxy(t, edges);
  const quick = { reconnectionDelay: 100, reconnectionDelayMax: 500 };
  const sockets = await Promise.all(Array.from({ length: 40 }, () => connectSocket(t, balancer, quick)));
  const lost = [];
  for (const socket of sockets) {
    socket.on('disconnect', (reason) => lost.push(reason));
    socket.on('connect', () => ask(socket, 'join', 'r').then((answer) => (socket.joined = answer.ok), () => {}));
    socket.joined = (await ask(socket, 'join', 'r')).ok;
  }
  assert.deepEqual(await edges[0].stop(), { code: 0, signal: null });
  await until(() => lost.length === 20, 5_000, () => `half of them are closed: ${lost.length}`);
  assert.deepEqual([...new Set(lost)], ['transport close']);
  await until(async () => (await edges[1].metric('fanfare_memberships')) === 40, 15_000, 'all are on the other');
  const got = sockets.map((socket) => collect(socket, 'e'));
  const emitter = await redis.emitter();
  emitter.to('r').emit('e', 1);
  await until(() => got.every((list) => list.length === 1), 5_000, 'all receive');
});
