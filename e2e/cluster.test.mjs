// No sticky sessions: a balancer that knows nothing of them, three edges, and clients that do not notice.

import assert from 'node:assert/strict';
import http from 'node:http';
import test from 'node:test';
import {
  ask, collect, connectRaw, connectSocket, counted, engine, openPolling, startBlindHaproxy, startEdge, startHaproxy,
  startRedis, until,
} from './harness.mjs';

const UNKNOWN = '{"code":1,"message":"Session ID unknown"}';

// Edges that are labelled as the shipped configs have it.
const startEdges = (t, redis, count, options = {}) =>
  Promise.all(Array.from({ length: count }, (_, at) =>
    startEdge(t, { redis, dev: true, args: ['--label', `edge${at + 1}`], ...options })));

const sum = async (edges, name, labels) =>
  (await Promise.all(edges.map((edge) => edge.metric(name, labels)))).reduce((all, one) => all + one, 0);

// A session over polling whose requests share connections that are kept.
class Session {
  constructor(server, agent) {
    this.server = server;
    this.agent = agent;
    this.statuses = [];
  }

  request(method, query, body) {
    return new Promise((resolve, reject) => {
      const path = `/socket.io/?EIO=4&transport=polling${query}`;
      const options = { host: '127.0.0.1', port: this.server.port, agent: this.agent, method, path };
      const request = http.request(options, (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk) => (text += chunk));
        answer.on('end', () => {
          this.statuses.push(answer.statusCode);
          resolve(text);
        });
        answer.on('error', reject);
      });
      request.on('error', reject);
      request.end(body);
    });
  }

  async open() {
    this.sid = JSON.parse((await this.request('GET', '')).slice(1)).sid;
    await this.post('40');
    assert.match(await this.get(), /^40\{"sid":/);
  }

  get() {
    return this.request('GET', `&sid=${this.sid}`);
  }

  post(body) {
    return this.request('POST', `&sid=${this.sid}`, body);
  }

  // An event and its acknowledgement.
  async turn(id, room) {
    assert.equal(await this.post(`42${id}["join","${room}"]`), 'ok');
    assert.equal(await this.get(), `43${id}[{"ok":true}]`);
  }
}

test('10,000 polls through a balancer that sends each to the next of three edges: not one is unknown', async (t) => {
  const edges = await startEdges(t, await startRedis(t), 3);
  const balancer = await startBlindHaproxy(t, edges);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 100 });
  t.after(() => agent.destroy());
  const sessions = Array.from({ length: 50 }, () => new Session(balancer, agent));
  await Promise.all(sessions.map((session) => session.open()));
  const owners = counted(sessions.map((session) => session.sid.split('.')[0]));
  assert.deepEqual(Object.keys(owners).sort(), ['edge1', 'edge2', 'edge3']);
  await Promise.all(sessions.map(async (session, at) => {
    for (let id = 0; id < 100; id += 1) await session.turn(id, `r${at}`);
  }));
  // Each session also opened, and entered its namespace.
  assert.deepEqual(counted(sessions.flatMap((session) => session.statuses)), { 200: 10_000 + 150 });
  const forwarded = await sum(edges, 'fanfare_forwarded_requests_total', { result: 'ok' });
  // Two of three arrive elsewhere.
  assert.ok(forwarded > 6_000 && forwarded < 7_500, `${forwarded} forwarded`);
  assert.equal(await sum(edges, 'fanfare_forwarded_requests_total'), forwarded);
  assert.equal(await sum(edges, 'fanfare_connections', { transport: 'polling' }), 50);
});

test('the official client works through it over polling alone, with binary and 50 events at once', async (t) => {
  const redis = await startRedis(t);
  const edges = await startEdges(t, redis, 3);
  const balancer = await startBlindHaproxy(t, edges);
  const sockets = await Promise.all(Array.from({ length: 10 }, () => connectSocket(t, balancer, { transports: ['polling'], reconnection: false })));
  const got = sockets.map((socket) => collect(socket, 'e'));
  await Promise.all(sockets.map((socket) => ask(socket, 'join', 'r')));
  const emitter = await redis.emitter();
  for (let number = 0; number < 50; number += 1) emitter.to('r').emit('e', number);
  emitter.to('r').emit('e', Buffer.from([1, 2, 3]));
  await until(() => got.every((list) => list.length === 51), 10_000, () => `all receive: ${got.map((list) => list.length)}`);
  for (const list of got) {
    assert.deepEqual(list.slice(0, 50), Array.from({ length: 50 }, (_, number) => number));
    assert.deepEqual(Buffer.from(list[50]), Buffer.from([1, 2, 3]));
  }
  assert.ok(sockets.every((socket) => socket.connected));
});

test('upgrades through it succeed, in tunnels that are counted and end with their clients', async (t) => {
  const redis = await startRedis(t);
  const edges = await startEdges(t, redis, 3);
  const balancer = await startBlindHaproxy(t, edges);
  const options = { transports: ['polling', 'websocket'], reconnection: false };
  const sockets = await Promise.all(Array.from({ length: 30 }, () => connectSocket(t, balancer, options)));
  const names = () => counted(sockets.map((socket) => socket.io.engine.transport.name));
  await until(() => names().websocket === 30, 15_000, () => JSON.stringify(names()));
  const tunnels = await sum(edges, 'fanfare_tunnelled_connections');
  assert.ok(tunnels > 5 && tunnels <= 30, `${tunnels} tunnels`);
  const got = sockets.map((socket) => collect(socket, 'e'));
  await Promise.all(sockets.map((socket) => ask(socket, 'join', 'r')));
  const emitter = await redis.emitter();
  emitter.to('r').emit('e', 'x'.repeat(100_000));
  await until(() => got.every((list) => list.length === 1), 10_000, 'all receive');
  for (const socket of sockets) socket.disconnect();
  await until(async () => (await sum(edges, 'fanfare_tunnelled_connections')) === 0, 5_000, 'the tunnels end');
  await until(async () => (await sum(edges, 'fanfare_connections')) === 0, 5_000, 'the sessions end');
});

test('at the bound of tunnels an upgrade is refused in words, and the client polls on', async (t) => {
  const redis = await startRedis(t);
  const [one, two] = await startEdges(t, redis, 2, { env: { FANFARE_TUNNELS: '0' } });
  const polling = await openPolling(one);
  const refused = await connectRaw(t, two, { path: polling.upgradePath });
  assert.equal(refused.status, 503);
  assert.equal(await two.metric('fanfare_limit_reached_total', { limit: 'tunnels' }), 1);
  const socket = await connectSocket(t, await startBlindHaproxy(t, [one, two]), { transports: ['polling', 'websocket'] });
  assert.deepEqual(await ask(socket, 'join', 'r'), { ok: true });
});

test('a GET that is cut off on the other side of balancer and edge ends the session', async (t) => {
  const edges = await startEdges(t, await startRedis(t), 2);
  const sessions = () => edges[0].metric('fanfare_connections', { transport: 'polling' });
  // Through the balancer to its owner, and through the other edge.
  for (const server of [await startHaproxy(t, edges), edges[1]]) {
    const polling = await openPolling(edges[0]);
    polling.server = server;
    await polling.enter();
    const cut = polling.get();
    await until(() => cut.request.socket?.bytesWritten > 0, 5_000, 'it is sent');
    assert.equal(await sessions(), 1);
    cut.abort();
    await until(async () => (await sessions()) === 0, 5_000, 'the session ends');
  }
});

test('the death of an owner is told at once, and clients go on elsewhere', async (t) => {
  const redis = await startRedis(t);
  const edges = await startEdges(t, redis, 3);
  const balancer = await startBlindHaproxy(t, edges);
  const session = await openPolling(edges[0]);
  const waiting = engine(edges[1], { query: session.query });
  await until(async () => (await edges[1].metric('fanfare_forwarded_requests')) === 1, 5_000, 'a GET waits');
  const options = { transports: ['polling', 'websocket'], reconnectionDelay: 50, reconnectionDelayMax: 200 };
  const sockets = await Promise.all(Array.from({ length: 20 }, () => connectSocket(t, balancer, options)));
  const killed = performance.now();
  await edges[0].kill9();
  assert.equal((await waiting).text, UNKNOWN);
  for (let asked = 0; asked < 5; asked += 1) {
    const answer = await engine(edges[1], { query: session.query });
    assert.deepEqual([answer.status, answer.text], [400, UNKNOWN]);
  }
  const took = performance.now() - killed;
  assert.ok(took < 1_500, `${took} ms`);
  await until(async () => (await sum(edges.slice(1), 'fanfare_connections')) === 20, 15_000, 'all are on the others');
  for (const socket of sockets) await until(() => socket.connected, 5_000, 'it is back');
});

test('an owner that freezes is noticed within seconds, by those who wait and those who come', async (t) => {
  const redis = await startRedis(t);
  const edges = await startEdges(t, redis, 2);
  const session = await openPolling(edges[0]);
  const tunnelled = await openPolling(edges[0]);
  const socket = await connectRaw(t, edges[1], { path: tunnelled.upgradePath });
  assert.equal(socket.status, 101);
  const waiting = engine(edges[1], { query: session.query });
  await until(async () => (await edges[1].metric('fanfare_forwarded_requests')) === 1, 5_000, 'a GET waits');
  const frozen = performance.now();
  edges[0].signal('SIGSTOP');
  t.after(() => edges[0].signal('SIGCONT'));
  const come = await engine(edges[1], { query: session.query });
  assert.deepEqual([come.status, come.text], [400, UNKNOWN]);
  assert.equal((await waiting).text, UNKNOWN);
  await until(() => socket.closed, 5_000, 'the tunnel ends');
  const again = await engine(edges[1], { query: session.query });
  assert.equal(again.text, UNKNOWN);
  const took = performance.now() - frozen;
  t.diagnostic(`noticed and told after ${took.toFixed(0)} ms`);
  assert.ok(took < 4_000, `${took} ms`);
});

test('a node with another secret is refused, and says so', async (t) => {
  const redis = await startRedis(t);
  const secret = (text) => ({ env: { FANFARE_CLUSTER_SECRET: text } });
  const one = await startEdge(t, { redis, dev: true, ...secret('the secret of one of them') });
  const two = await startEdge(t, { redis, dev: true, ...secret('the secret of another one') });
  const session = await openPolling(one);
  const answer = await engine(two, { query: session.query });
  assert.deepEqual([answer.status, answer.text], [400, UNKNOWN]);
  await until(() => /different cluster secrets/.test(two.log), 5_000, () => two.log);
  assert.match(one.log, /another node was refused/);
  assert.equal(await one.metric('fanfare_links'), 0);
  // Where it belongs it goes on.
  assert.equal((await session.post('40')).text, 'ok');
});

test('a node that leaves ends what passes through it over its window', async (t) => {
  const redis = await startRedis(t);
  const edges = await startEdges(t, redis, 2);
  const ends = [];
  const session = await openPolling(edges[0]);
  const tunnels = await Promise.all(Array.from({ length: 20 }, async () => {
    const { upgradePath } = await openPolling(edges[0]);
    return connectRaw(t, edges[1], { path: upgradePath });
  }));
  for (const tunnel of tunnels) tunnel.socket.on('close', () => ends.push(performance.now()));
  assert.equal(await edges[1].metric('fanfare_tunnelled_connections'), 20);
  assert.deepEqual(await edges[1].stop(), { code: 0, signal: null });
  await until(() => ends.length === 20, 5_000, 'all tunnels end');
  const spread = Math.max(...ends) - Math.min(...ends);
  assert.ok(spread > 500, `over ${spread} ms`);
  // Sockets that had not said a word were no transports yet: their sessions poll on.
  assert.equal(await edges[0].metric('fanfare_connections', { transport: 'polling' }), 21);
  assert.equal((await session.post('40')).text, 'ok');
});

test('with the config that is shipped nothing is forwarded', async (t) => {
  const redis = await startRedis(t);
  const edges = await startEdges(t, redis, 2);
  const balancer = await startHaproxy(t, edges);
  const options = { transports: ['polling', 'websocket'], reconnection: false };
  const sockets = await Promise.all(Array.from({ length: 20 }, () => connectSocket(t, balancer, options)));
  await until(() => sockets.every((socket) => socket.io.engine.transport.name === 'websocket'), 15_000, 'all upgrade');
  await Promise.all(sockets.map((socket) => ask(socket, 'join', 'r')));
  const shares = await Promise.all(edges.map((edge) => edge.metric('fanfare_memberships')));
  assert.ok(Math.min(...shares) >= 5, `${shares}`);
  assert.equal(await sum(edges, 'fanfare_forwarded_requests_total'), 0);
  assert.equal(await sum(edges, 'fanfare_tunnelled_connections'), 0);
});

test('what a hop costs in time is measured', async (t) => {
  const [owner, other] = await startEdges(t, await startRedis(t), 2);
  const times = { local: [], forwarded: [] };
  const kept = () => new http.Agent({ keepAlive: true, maxSockets: 2 });
  const session = new Session(owner, kept());
  await session.open();
  const ways = { local: [owner, session.agent], forwarded: [other, kept()] };
  t.after(() => Object.values(ways).forEach(([, agent]) => agent.destroy()));
  // Turn and turn about, so that both see the same machine.
  for (let id = 0; id < 1_000; id += 1) {
    for (const [name, [server, agent]] of Object.entries(ways)) {
      Object.assign(session, { server, agent });
      const begun = performance.now();
      await session.turn(id, 'r');
      times[name].push((performance.now() - begun) / 2);
    }
  }
  const median = (list) => list.sort((a, b) => a - b)[list.length / 2];
  const [local, forwarded] = [median(times.local), median(times.forwarded)];
  t.diagnostic(`median per request: ${local.toFixed(3)} ms local, ${forwarded.toFixed(3)} ms forwarded, ratio ${(forwarded / local).toFixed(2)}`);
  assert.equal(await other.metric('fanfare_forwarded_requests_total', { result: 'ok' }), 2_000);
  assert.equal(await other.metric('fanfare_forward_hop_seconds_count'), 2_000);
});
