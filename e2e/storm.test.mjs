// Many at once on one node: connections, members, rooms.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Emitter } from '@socket.io/redis-emitter';
import { RawSocket, ask, connectSocket, file, maskedFrame, startEdge, startRedis, until } from './harness.mjs';

const redis = await startRedis(file);
const connection = await redis.connect();
const CONNECT_AND_JOIN = Buffer.concat([maskedFrame(0x81, '40'), maskedFrame(0x81, '420["join","storm"]')]);

// A Socket.IO connection that joins `storm` as soon as it can, in one of three ways: with the handshake,
// right after CONNECT, or after CONNECT's answer. It counts what arrives and keeps nothing.
function member(edge, way) {
  const own = { joined: false, next: 0, wrong: undefined, closed: false };
  const raw = new RawSocket(edge, {
    early: way === 0 ? CONNECT_AND_JOIN : undefined,
    onFrame(opcode, payload) {
      if (opcode === 'end') {
        own.closed = true;
        return;
      }
      if (payload[0] === 0x30) {
        if (way === 1) raw.write(CONNECT_AND_JOIN);
        if (way === 2) raw.text('40');
      } else if (payload[0] === 0x32) {
        raw.text('3');
      } else if (payload[1] === 0x30) {
        if (way === 2) raw.text('420["join","storm"]');
      } else if (payload[1] === 0x33) {
        const answer = payload.toString();
        if (answer === '430[{"ok":true}]' && !own.joined) own.joined = true;
        else own.wrong ??= answer;
      } else {
        // 42["s",N]
        const number = Number(payload.latin1Slice(7, payload.length - 1));
        if (number === own.next) own.next += 1;
        else own.wrong ??= `${number} where ${own.next} was next`;
      }
    },
  });
  own.raw = raw;
  file.after(() => raw.end());
  return own;
}

const faults = (members) => members.filter((one) => one.wrong || one.closed).map((one) => one.wrong ?? 'closed').slice(0, 5);

test('8,000 clients connect at once and join: nothing is lost, and 10,000 members get 100 publications in order', async (t) => {
  const edge = await startEdge(t, { redis, dev: true });
  const started = performance.now();
  const members = Array.from({ length: 8_000 }, (_, at) => member(edge, at % 3));
  const joined = () => members.filter((one) => one.joined).length;
  await until(() => joined() === members.length || faults(members).length, 60_000, () => `${joined()} of ${members.length} have joined`);
  assert.deepEqual(faults(members), []);
  t.diagnostic(`8,000 connected and joined in ${Math.round(performance.now() - started)} ms`);

  for (let more = 0; more < 2_000; more += 1) members.push(member(edge, more % 3));
  await until(() => joined() === 10_000 || faults(members).length, 30_000, () => `${joined()} of 10,000 have joined`);
  assert.deepEqual(faults(members), []);
  assert.equal(await edge.metric('fanfare_memberships'), 10_000);

  const emitter = new Emitter(connection);
  const sent = performance.now();
  for (let number = 0; number < 100; number += 1) emitter.to('storm').emit('s', number);
  const least = () => Math.min(...members.map((one) => one.next));
  await until(() => least() === 100 || faults(members).length, 60_000, () => `the slowest has ${least()} of 100`);
  assert.deepEqual(faults(members), []);
  t.diagnostic(`1,000,000 deliveries in ${Math.round(performance.now() - sent)} ms, counted in one Node process`);
  assert.equal(await edge.metric('fanfare_deliveries_total'), 1_000_000);
  for (const one of members) one.raw.end();
  await until(async () => (await edge.metric('fanfare_connections')) === 0, 20_000, 'all are gone');
});

test('10,000 rooms joined and left give their memory back', async (t) => {
  const edge = await startEdge(t, { redis, dev: true, args: ['--linger', '100ms'] });
  const sockets = await Promise.all(Array.from({ length: 10 }, () => connectSocket(t, edge)));
  const each = async (event, cycle) => {
    for (let from = 0; from < 1_000; from += 200) {
      const answers = await Promise.all(
        sockets.flatMap((socket, at) => Array.from({ length: 200 }, (_, n) => ask(socket, event, `cycle ${cycle} of ${at}, room ${from + n}`))),
      );
      assert.ok(answers.every((answer) => answer.ok));
    }
  };
  const cycle = async (number) => {
    await each('join', number);
    const full = edge.memory();
    assert.equal(await edge.metric('fanfare_rooms'), 10_000);
    await each('leave', number);
    await until(async () => (await edge.metric('fanfare_rooms')) === 0, 5_000, 'no rooms');
    await until(async () => (await redis.rooms(connection, sockets.map((socket) => socket.id))).length === 0, 10_000, 'no subscriptions');
    // Freed pages go back within some seconds: most of what 10,000 rooms needed.
    await until(() => edge.memory() < full * 0.85, 20_000, 'the memory goes back');
    return edge.memory();
  };
  // The first cycle sizes tables and touches code. From there on, 10,000 rooms must leave nothing behind.
  const settled = await cycle(0);
  const shown = [settled];
  for (let number = 1; number <= 3; number += 1) {
    shown.push(await cycle(number));
    await until(() => (shown[number] = edge.memory()) <= settled * 1.05, 20_000, 'the memory is back, to 5 %').catch((error) => {
      throw new Error(`${error.message}: ${shown.map((bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`).join(', ')}`);
    });
  }
  t.diagnostic(`resident after each cycle: ${shown.map((bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`).join(', ')}`);
});
