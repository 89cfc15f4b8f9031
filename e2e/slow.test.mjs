// One slow reader: bounded, closed, counted, and nobody else waits for it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { ask, collect, connectRaw, connectSocket, openPolling, publish, startEdge, until } from './harness.mjs';

// Joins `room` and then reads nothing more.
async function stuck(t, edge, room) {
  const raw = await connectRaw(t, edge);
  raw.text('40');
  raw.text(`420["join","${room}"]`);
  await until(() => raw.texts.some((text) => text.startsWith('430')), 5_000, 'it has joined');
  raw.socket.pause();
  return raw;
}

// Publishes `data` to each of `rooms` over and over until `done` says so, and says how often. How much a kernel
// takes for a stuck reader is its own affair, and a connection that is given up has seconds to take its close
// frame, so only time bounds this.
async function publishUntil(edge, rooms, data, done, what) {
  const deadline = performance.now() + 30_000;
  for (let times = 0; ; times += 1) {
    if (await done()) return times;
    assert.ok(performance.now() < deadline, `${what}, after ${times} publications`);
    for (const room of rooms) assert.equal((await publish(edge, { room, event: 'e', data })).status, 200);
  }
}

const closed = (edge, reason) => edge.metric('fanfare_connections_closed_total', { reason });

test('over the hard bound a reader that is stuck is closed at once, others receive everything', async (t) => {
  const edge = await startEdge(t, { dev: true, args: ['--outbox-soft', '64KiB', '--outbox-hard', '1MiB'] });
  await stuck(t, edge, 'r');
  const reader = await connectSocket(t, edge);
  await ask(reader, 'join', 'r');
  const got = collect(reader, 'e');
  const isClosed = async () => (await closed(edge, 'slow_consumer')) > 0;
  const sent = await publishUntil(edge, ['r'], 'x'.repeat(50_000), isClosed, 'the stuck one is closed');
  await until(() => got.length === sent, 10_000, () => `the reader has ${got.length} of ${sent}`);
  assert.equal(await closed(edge, 'slow_consumer'), 1);
  await until(async () => (await edge.metric('fanfare_outbox_bytes')) === 0, 5_000, 'its outbox is given back');
  assert.equal(await edge.metric('fanfare_memberships'), 1);
});

test('over the hard bound a polling client that fetches nothing is told the end by its next GET', async (t) => {
  const edge = await startEdge(t, { dev: true, args: ['--outbox-soft', '64KiB', '--outbox-hard', '1MiB'] });
  const session = await openPolling(edge);
  await session.enter();
  await session.post('420["join","r"]');
  await session.packets((came) => came.length);
  const isClosed = async () => (await edge.metric('fanfare_memberships')) === 0;
  await publishUntil(edge, ['r'], 'x'.repeat(50_000), isClosed, 'it is closed');
  assert.equal(await edge.metric('fanfare_limit_reached_total', { limit: 'outbox_hard' }), 1);
  assert.equal(await edge.metric('fanfare_outbox_bytes'), 0);
  assert.equal((await session.get()).text, '6\x1e1');
  assert.equal((await session.get()).status, 400);
  assert.equal(await closed(edge, 'slow_consumer'), 1);
});

test('over the soft bound a reader that does not move for five seconds is closed', async (t) => {
  const edge = await startEdge(t, { dev: true, args: ['--outbox-soft', '64KiB'] });
  await stuck(t, edge, 'r');
  // Over the soft bound, far below the hard one.
  const isOver = async () => (await edge.metric('fanfare_outbox_bytes')) > 256 << 10;
  await publishUntil(edge, ['r'], 'x'.repeat(100_000), isOver, 'the kernel takes no more');
  assert.equal(await closed(edge, 'slow_consumer'), 0);
  const started = performance.now();
  await until(async () => (await closed(edge, 'slow_consumer')) === 1, 15_000, 'it is closed');
  const waited = performance.now() - started;
  assert.ok(waited > 2_500, `closed after ${Math.round(waited)} ms`);
});

test('volatile publications are dropped for who cannot take them, and nobody is closed for them', async (t) => {
  const edge = await startEdge(t, { dev: true, config: '[rooms.v]\npattern = "v:{id}"\njoin = ["j"]\n[rooms.v.relay.move]\nemit = "moved"\nvolatile = true\necho = true\n' });
  await stuck(t, edge, 'v:1');
  const reader = await connectSocket(t, edge);
  await ask(reader, 'j', '1');
  const got = collect(reader, 'moved');
  const dropped = () => edge.metric('fanfare_deliveries_dropped_total', { reason: 'volatile' });
  const data = { id: '1', text: 'x'.repeat(100_000) };
  let sent = 0;
  const deadline = performance.now() + 30_000;
  while ((await dropped()) < 50) {
    assert.ok(performance.now() < deadline, 'they are dropped');
    assert.deepEqual(await ask(reader, 'move', data), { ok: true });
    sent += 1;
  }
  assert.equal(await closed(edge, 'slow_consumer'), 0);
  await until(() => got.length === sent, 5_000, 'who reads receives all');
});

test('the memory of all outboxes is bounded: who holds the most is closed', async (t) => {
  const args = ['--outbox-soft', '8MiB', '--outbox-hard', '8MiB', '--outbox-budget', '8MiB'];
  const edge = await startEdge(t, { dev: true, args });
  const rooms = ['own0', 'own1', 'own2'];
  for (const room of rooms) await stuck(t, edge, room);
  const data = 'x'.repeat(200_000);
  const before = edge.memory();
  // Each holds frames of its own, so that nothing is shared.
  const isClosed = async () => (await closed(edge, 'budget')) > 0;
  await publishUntil(edge, rooms, data, isClosed, 'one is closed for the budget');
  assert.equal(await closed(edge, 'slow_consumer'), 0);
  assert.ok((await edge.metric('fanfare_outbox_memory_bytes')) <= 8 << 20);
  assert.ok(edge.memory() - before < 40 << 20, `${(edge.memory() - before) >> 20} MiB more`);
});
