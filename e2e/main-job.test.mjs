// The main job: two edges behind HAProxy, real publishers through a real Redis, and what happens to
// everyone when a part goes away.

import assert from 'node:assert/strict';
import test from 'node:test';
import {
  ask, collect, connectPlain, connectSocket, file, startEdge, startHaproxy, startRedis, until,
} from './harness.mjs';

const redis = await startRedis(file);
const emitter = await redis.emitter();

// Two edges and a load balancer of a test's own.
async function cluster(t) {
  const edges = await Promise.all([startEdge(t, { redis, dev: true }), startEdge(t, { redis, dev: true })]);
  const balancer = await startHaproxy(t, edges);
  return { edges, balancer };
}

// `count` connected clients that join `rooms` at each connect, as an application would.
async function audience(t, server, count, rooms) {
  const clients = [];
  for (let at = 0; at < count; at += 20) {
    const batch = Array.from({ length: Math.min(20, count - at) }, () => connectSocket(t, server));
    clients.push(...(await Promise.all(batch)));
  }
  await Promise.all(
    clients.map(async (client) => {
      const join = () => Promise.all(rooms.map((room) => ask(client, 'join', room)));
      for (const answer of await join()) assert.deepEqual(answer, { ok: true });
      client.joined = true;
      client.on('disconnect', () => (client.joined = false));
      client.on('connect', () => join().then(() => (client.joined = true), () => {}));
    }),
  );
  return clients;
}

const sequence = (length) => Array.from({ length }, (_, at) => at);

test('200 clients over two edges receive 1,000 publications, each exactly once and in order per room', async (t) => {
  const { edges, balancer } = await cluster(t);
  const rooms = ['even', 'odd'];
  const clients = await audience(t, balancer, 200, rooms);
  const plain = await Promise.all(sequence(10).map(() => connectPlain(t, balancer)));
  for (const one of plain) {
    for (const room of rooms) assert.equal((await one.ask({ type: 'join', room })).ok, true);
  }
  const shares = await Promise.all(edges.map((edge) => edge.metric('fanfare_connections')));
  assert.equal(shares[0] + shares[1], 210);
  assert.ok(Math.min(...shares) > 50, `both edges have their share: ${shares}`);

  const got = clients.map((client) => collect(client, 'n'));
  for (let at = 0; at < 1000; at += 1) {
    emitter.to(rooms[at % 2]).emit('n', { room: rooms[at % 2], number: at >> 1 });
  }
  await emitter.sent();
  const complete = () => got.filter((list) => list.length >= 1000).length;
  await until(() => complete() === 200, 30_000, () => `all 200 have 1,000: ${complete()} do`);
  for (const one of plain) await until(() => one.events('odd', 'n').length === 500, 10_000, 'plain clients have all');

  const byRoom = (list, room) => list.filter((item) => item.room === room).map((item) => item.number);
  for (const list of [...got, ...plain.map((one) => [...one.events('even', 'n'), ...one.events('odd', 'n')])]) {
    assert.equal(list.length, 1000);
    for (const room of rooms) assert.deepEqual(byRoom(list, room), sequence(500));
  }
});

test('when an edge is killed, its clients come back through the load balancer and receive again', async (t) => {
  const { edges, balancer } = await cluster(t);
  const clients = await audience(t, balancer, 60, ['survivors']);
  const reasons = [];
  for (const client of clients) client.on('disconnect', (reason) => reasons.push(reason));
  const share = await edges[0].metric('fanfare_connections');
  assert.ok(share > 10, `the edge has clients: ${share}`);

  await edges[0].kill9();
  await until(() => reasons.length === share, 5_000, () => `${share} lose their connection: ${reasons.length}`);
  assert.deepEqual([...new Set(reasons)], ['transport close']);
  await until(() => clients.every((client) => client.joined), 30_000, 'all are back and have joined');
  assert.equal(await edges[1].metric('fanfare_connections'), 60);

  const got = clients.map((client) => collect(client, 'after'));
  for (const number of sequence(20)) emitter.to('survivors').emit('after', number);
  await until(() => got.every((list) => list.length >= 20), 10_000, 'all receive again');
  for (const list of got) assert.deepEqual(list, sequence(20));
});

test('when Redis restarts under load, delivery resumes within 2 s of its answering PING', async (t) => {
  const { edges, balancer } = await cluster(t);
  const clients = await audience(t, balancer, 50, ['load']);
  const plain = await connectPlain(t, balancer);
  await plain.ask({ type: 'join', room: 'load' });
  const lost = [];
  for (const client of clients) client.on('disconnect', (reason) => lost.push(reason));
  // When each client received a publication last.
  const last = clients.map(() => 0);
  clients.forEach((client, at) => client.on('tick', () => (last[at] = performance.now())));
  let number = 0;
  const load = setInterval(() => emitter.to('load').emit('tick', number++), 5);
  t.after(() => clearInterval(load));
  await until(() => last.every((at) => at > 0), 10_000, 'the load arrives');

  await redis.stop();
  await until(async () => (await edges[0].readiness()) === 503, 6_000, 'the edge says that it is not ready');
  const back = await redis.restart();
  await until(() => last.every((at) => at > back), 10_000, 'all receive again');
  const first = performance.now();
  assert.ok(first - back < 2_000, `delivery resumed ${Math.round(first - back)} ms after PING`);
  t.diagnostic(`all ${clients.length} clients received again ${Math.round(first - back)} ms after PING`);
  assert.deepEqual(lost, [], 'connections stay');
  await until(async () => (await edges[0].readiness()) === 200, 5_000, 'ready again');
});
