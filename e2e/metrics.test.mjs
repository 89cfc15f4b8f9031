// What the node tells Prometheus.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import test from 'node:test';
import {
  ROOMS, ask, collect, connectPlain, connectSocket, fetchText, file, publish, startEdge, startRedis, until,
} from './harness.mjs';

const redis = await startRedis(file);
const edge = await startEdge(file, { redis, dev: true, config: ROOMS });
const socket = await connectSocket(file, edge);
const plain = await connectPlain(file, edge);
await ask(socket, 'join', 'secret-room');
await ask(socket, 'join', 'another');
await plain.ask({ type: 'join', room: 'secret-room' });
const emitter = await redis.emitter();

test('the scrape is clean under promtool and served as Prometheus text', async () => {
  const answer = await fetchText(`${edge.private}/metrics`);
  assert.equal(answer.status, 200);
  assert.match(answer.headers['content-type'], /^text\/plain; version=0\.0\.4/);
  const checked = spawnSync('promtool', ['check', 'metrics'], { input: answer.text, encoding: 'utf8' });
  assert.equal(checked.stdout + checked.stderr, '');
  assert.equal(checked.status, 0);
});

test('open connections by protocol and transport, rooms and memberships', async () => {
  const open = (protocol) => edge.metric('fanfare_connections', { protocol, transport: 'websocket' });
  assert.deepEqual([await open('sio'), await open('ws_json')], [1, 1]);
  assert.equal(await edge.metric('fanfare_rooms'), 2);
  assert.equal(await edge.metric('fanfare_memberships'), 3);
});

test('connections opened and closed are counted, closed ones by reason', async (t) => {
  const before = await edge.metric('fanfare_connections_opened_total', { protocol: 'sio' });
  for (let at = 0; at < 5; at += 1) (await connectSocket(t, edge)).disconnect();
  await until(async () => (await edge.metric('fanfare_connections')) === 2, 5_000, 'they are gone');
  assert.equal((await edge.metric('fanfare_connections_opened_total', { protocol: 'sio' })) - before, 5);
  assert.ok((await edge.metric('fanfare_connections_closed_total', { protocol: 'sio', reason: 'client' })) >= 5);
});

test('publications, deliveries, their latency and lag are counted', async () => {
  const got = collect(socket, 'e');
  const names = [
    ['fanfare_publications_received_total', { kind: 'room' }], ['fanfare_publications_received_total', { kind: 'publish' }],
    ['fanfare_deliveries_total'], ['fanfare_fanout_duration_seconds_count'], ['fanfare_broker_lag_seconds_count'],
    ['fanfare_events_relayed_total', { result: 'ok' }], ['fanfare_publications_sent_total', { source: 'http', result: 'ok' }],
  ];
  const read = () => Promise.all(names.map(([name, labels]) => edge.metric(name, labels)));
  const before = await read();
  emitter.to('secret-room').emit('e', 1);
  await publish(edge, { room: 'secret-room', event: 'e', data: 2 });
  await ask(socket, 'publish', 'secret-room', 'e', 3);
  const connection = await redis.connect();
  await connection.publish('socket.io-publish', JSON.stringify({ room: 'secret-room', event: 'e', data: 4 }));
  await until(() => got.length === 4, 5_000, 'all four arrive');
  await plain.next((frame) => frame.data === 4);
  const moved = () => read().then((now) => now.map((value, at) => value - before[at]));
  // Three on the room's channel, two of them with a time; two members each.
  await until(async () => (await moved())[3] >= 4, 5_000, async () => JSON.stringify(await moved()));
  assert.deepEqual(await moved(), [3, 1, 8, 4, 2, 1, 1]);
});

test('Redis, readiness, bounds and the process are there, and everything is there from the start', async (t) => {
  const fresh = await startEdge(t, { redis });
  const samples = await fresh.metrics();
  for (const name of [
    'fanfare_build_info', 'fanfare_connections', 'fanfare_connections_limit', 'fanfare_connections_opened_total',
    'fanfare_connections_closed_total', 'fanfare_connections_rejected_total', 'fanfare_rooms', 'fanfare_memberships',
    'fanfare_publications_received_total', 'fanfare_deliveries_total', 'fanfare_deliveries_dropped_total',
    'fanfare_publications_malformed_total', 'fanfare_outbox_bytes', 'fanfare_outbox_budget_bytes', 'fanfare_redis_up',
    'fanfare_fanout_duration_seconds_count', 'fanfare_broker_lag_seconds_count', 'fanfare_ready',
    'process_open_fds', 'process_resident_memory_bytes',
  ]) {
    assert.ok(samples.some((sample) => sample.name === name), name);
  }
  for (const role of ['feed', 'publish']) assert.equal(await fresh.metric('fanfare_redis_up', { role }), 1);
  assert.equal(await fresh.metric('fanfare_ready'), 1);
});

test('no label is made of a room, user or event, however many there are', async () => {
  const count = async () => (await edge.metrics()).length;
  const before = await count();
  await Promise.all(Array.from({ length: 1000 }, (_, at) => ask(socket, 'join', `room-number-${at}`)));
  for (let at = 0; at < 100; at += 1) await ask(socket, 'publish', `room-number-${at}`, `event-number-${at}`, at);
  assert.equal(await edge.metric('fanfare_rooms'), 1002);
  assert.equal(await count(), before);
  const { text } = await fetchText(`${edge.private}/metrics`);
  for (const name of ['secret-room', 'room-number', 'event-number', socket.id]) assert.ok(!text.includes(name), name);
  assert.ok(before < 1500, `${before} series`);
});

test('health and metrics are on the private listener only', async () => {
  for (const path of ['/metrics', '/livez', '/readyz', '/v1/publish']) {
    assert.equal((await fetchText(edge.url + path)).status, 404, path);
  }
  assert.equal((await fetchText(`${edge.private}/livez`)).status, 200);
});
