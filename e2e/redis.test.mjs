// What the edges do with Redis: exact subscriptions, and every way in which Redis can be away.

import assert from 'node:assert/strict';
import net from 'node:net';
import test from 'node:test';
import { Emitter } from '@socket.io/redis-emitter';
import {
  RawSocket, ask, collect, connectPlain, connectSocket, file, publish, startEdge, startRedis, until,
} from './harness.mjs';

const redis = await startRedis(file);
const connection = await redis.connect();
const emitter = await redis.emitter();
const edges = await Promise.all([
  startEdge(file, { redis, dev: true, args: ['--linger', '500ms'] }),
  startEdge(file, { redis, dev: true, args: ['--linger', '500ms'] }),
]);

test('a node is subscribed to exactly the rooms with members on it, and to its namespaces', async (t) => {
  const [one, two] = [await connectSocket(t, edges[0]), await connectSocket(t, edges[1])];
  const plain = await connectPlain(t, edges[1]);
  const sids = [one.id, two.id];
  assert.deepEqual(await redis.rooms(connection, sids), []);
  await ask(one, 'join', 'first');
  await ask(two, 'join', 'second');
  await ask(one, 'join', 'both');
  await plain.ask({ type: 'join', room: 'both' });
  // Acknowledged means subscribed: no waiting here.
  assert.deepEqual(await redis.rooms(connection, sids), ['both', 'first', 'second']);
  const numbers = await connection.sendCommand(['PUBSUB', 'NUMSUB', ...['both', 'first', 'second', one.id].map((room) => `socket.io#/#${room}#`), 'socket.io#/#', 'socket.io-publish']);
  assert.deepEqual(numbers.filter((_, at) => at % 2), [2, 1, 1, 1, 2, 2]);
  assert.equal(await connection.sendCommand(['PUBSUB', 'NUMPAT']), 0);

  await ask(one, 'leave', 'first');
  two.disconnect();
  await until(
    async () => (await redis.rooms(connection, sids)).join() === 'both', 5_000, 'empty rooms are unsubscribed',
  );
  one.disconnect();
  plain.socket.close();
  await until(async () => (await redis.rooms(connection)).length === 0, 5_000, 'all rooms and sessions are');
});

test('a room that is joined again while it lingers stays subscribed', async (t) => {
  const socket = await connectSocket(t, edges[0]);
  const got = collect(socket, 'e');
  for (let round = 0; round < 100; round += 1) {
    await ask(socket, 'join', 'again');
    assert.equal(await connection.publish('socket.io-publish', JSON.stringify({ room: 'again', event: 'e', data: round })), 2);
    await ask(socket, 'leave', 'again');
  }
  await ask(socket, 'join', 'again');
  emitter.to('again').emit('e', 'last');
  await until(() => got.includes('last'), 5_000, 'the room is alive');
});

test('a publication reaches only the node that has members', async (t) => {
  const member = await connectSocket(t, edges[0]);
  await connectSocket(t, edges[1]);
  await ask(member, 'join', 'here');
  const got = collect(member, 'e');
  const received = () => Promise.all(edges.map((edge) => edge.metric('fanfare_publications_received_total')));
  const before = await received();
  for (let number = 0; number < 100; number += 1) emitter.to('here').emit('e', number);
  await until(() => got.length === 100, 5_000, 'the member receives');
  const after = await received();
  assert.deepEqual([after[0] - before[0], after[1] - before[1]], [100, 0]);
});

test('a SUBSCRIBE that Redis refuses fails that join and nothing else', async (t) => {
  const own = await startRedis(t);
  const admin = await own.connect();
  const rights = ['on', '>secret', '~*', '+@all', 'resetchannels', '&socket.io#/#', '&socket.io#/#[^!]*', '&socket.io-*', '&[^s]*'];
  await admin.sendCommand(['ACL', 'SETUSER', 'edge', ...rights]);
  const url = own.url.replace('//', '//edge:secret@');
  const edge = await startEdge(t, { redis: url, dev: true });
  const sockets = await Promise.all(Array.from({ length: 10 }, () => connectSocket(t, edge)));
  const before = await ask(sockets[0], 'join', 'before');
  assert.deepEqual(before, { ok: true });
  // All at once, so that refused and allowed ones share a batch.
  const answers = await Promise.all(
    sockets.flatMap((socket, at) => [ask(socket, 'join', `fine${at}`), ask(socket, 'join', `!refused${at}`)]),
  );
  answers.forEach((answer, at) => {
    if (at % 2 === 0) return assert.deepEqual(answer, { ok: true });
    assert.equal(answer.ok, false);
    assert.ok(['forbidden', 'unavailable'].includes(answer.error.code), answer.error.code);
  });
  const got = collect(sockets[0], 'e');
  const publisher = await own.emitter();
  for (const room of ['before', 'fine0']) publisher.to(room).emit('e', room);
  await until(() => got.length === 2, 5_000, 'the other rooms are alive');
  assert.ok(sockets.every((socket) => socket.connected));
  assert.ok((await edge.metric('fanfare_subscriptions_refused_total')) >= 10);
  assert.equal(await edge.metric('fanfare_redis_up', { role: 'feed' }), 1);
});

test('a frozen Redis is noticed on both links within seconds, and survived', async (t) => {
  const own = await startRedis(t);
  const edge = await startEdge(t, { redis: own, dev: true });
  const socket = await connectSocket(t, edge);
  const lost = [];
  socket.on('disconnect', (reason) => lost.push(reason));
  await ask(socket, 'join', 'r');
  const got = collect(socket, 'e');
  t.after(() => own.cont());
  own.pause();
  const up = (role) => edge.metric('fanfare_redis_up', { role });
  await until(async () => (await up('feed')) === 0, 15_000, 'the feed notices');
  await until(async () => (await up('publish')) === 0, 15_000, 'the publishing link notices');
  await until(async () => (await edge.readiness()) === 503, 5_000, 'the node is not ready');
  assert.equal((await publish(edge, { room: 'r', event: 'e', data: 'lost' })).status, 503);
  own.cont();
  await until(async () => (await edge.readiness()) === 200, 10_000, 'ready again');
  await until(async () => (await publish(edge, { room: 'r', event: 'e', data: 'back' })).status < 300, 5_000, 'publishing works');
  await until(() => got.includes('back'), 5_000, 'the room is subscribed again without anyone acting');
  assert.deepEqual(lost, [], 'connections stay');
});

test('while Redis is gone joins wait two seconds and fail, connections stay, all rooms come back', async (t) => {
  const own = await startRedis(t);
  const edge = await startEdge(t, { redis: own, dev: true });
  const socket = await connectSocket(t, edge);
  const plain = await connectPlain(t, edge);
  const lost = [];
  socket.on('disconnect', (reason) => lost.push(reason));
  const rooms = Array.from({ length: 200 }, (_, at) => `room${at}`);
  await Promise.all(rooms.map((room) => ask(socket, 'join', room)));
  await plain.ask({ type: 'join', room: 'room0' });

  await own.stop();
  await until(async () => (await edge.metric('fanfare_redis_up', { role: 'feed' })) === 0, 5_000, 'the loss is noticed');
  const started = performance.now();
  const [answer, reply] = await Promise.all([ask(socket, 'join', 'new'), plain.ask({ type: 'join', room: 'new' })]);
  const waited = performance.now() - started;
  for (const refused of [answer, reply]) {
    assert.equal(refused.ok, false);
    assert.equal(refused.error.code, 'unavailable');
    assert.equal(refused.error.retry, true);
  }
  assert.ok(waited > 1_500 && waited < 4_000, `waited ${Math.round(waited)} ms`);
  await until(async () => (await edge.readiness()) === 503, 5_000, 'the node is not ready');

  await own.restart();
  const looker = await own.connect();
  await until(async () => (await own.rooms(looker, [socket.id])).length === 200, 5_000, 'all rooms are subscribed');
  await until(async () => (await edge.readiness()) === 200, 5_000, 'ready again');
  const got = collect(socket, 'e');
  const publisher = await own.emitter();
  for (const room of rooms) publisher.to(room).emit('e', room);
  await until(() => got.length === 200, 5_000, 'every room delivers');
  assert.deepEqual(got, rooms);
  assert.deepEqual(await ask(socket, 'join', 'new'), { ok: true });
  assert.deepEqual(lost, []);
  const lines = edge.log.split('\n').filter((line) => /redis/i.test(line));
  assert.ok(lines.length > 0 && lines.length < 20, `the log says it in few lines:\n${lines.join('\n')}`);
});

test('an edge that starts before Redis is not ready, and becomes so by itself', async (t) => {
  const own = await startRedis(t);
  await own.stop();
  const edge = await startEdge(t, { redis: own, dev: true, ready: false });
  await until(async () => (await edge.readiness()) === 503, 10_000, () => `it answers 503\n${edge.log}`);
  await own.restart();
  await edge.waitReady();
  const socket = await connectSocket(t, edge);
  assert.deepEqual(await ask(socket, 'join', 'r'), { ok: true });
});

test('a burst of 50,000 publications is delivered whole to every reading member of a room of 100', async (t) => {
  const members = await Promise.all(Array.from({ length: 100 }, () => burstMember(t, edges[0])));
  // The official emitter's bytes, sent at once.
  const commands = [];
  const burst = new Emitter({ publish: (channel, payload) => commands.push(command(channel, payload)) });
  for (let number = 0; number < 50_000; number += 1) burst.to('burst').emit('b', number);
  const socket = net.connect(redis.port, '127.0.0.1');
  t.after(() => socket.destroy());
  socket.resume();
  const started = performance.now();
  socket.write(Buffer.concat(commands));
  const least = () => Math.min(...members.map((member) => member.next));
  await until(
    () => least() === 50_000 || members.some((member) => member.wrong || member.closed), 60_000,
    () => `every member has all: the slowest has ${least()}`,
  );
  const bad = members.filter((member) => member.wrong || member.closed);
  assert.deepEqual(bad.map((member) => member.wrong ?? 'closed'), []);
  t.diagnostic(`5,000,000 deliveries in ${Math.round(performance.now() - started)} ms, counted in one Node process`);
});

function command(channel, payload) {
  const head = `*3\r\n$7\r\nPUBLISH\r\n$${Buffer.byteLength(channel)}\r\n${channel}\r\n$${payload.length}\r\n`;
  return Buffer.concat([Buffer.from(head), payload, Buffer.from('\r\n')]);
}

// A member of the room `burst` that checks the order and keeps nothing.
function burstMember(t, edge) {
  return new Promise((resolve, reject) => {
    const member = { next: 0, wrong: undefined, closed: false };
    const raw = new RawSocket(edge, {
      onFrame(opcode, payload) {
        if (opcode === 'end') {
          member.closed = true;
          return reject(new Error('closed'));
        }
        if (payload[0] !== 0x34) {
          if (payload[0] === 0x30) raw.text('40');
          if (payload[0] === 0x32) raw.text('3');
          return;
        }
        if (payload[1] === 0x32) {
          // 42["b",N]
          const number = Number(payload.latin1Slice(7, payload.length - 1));
          if (number === member.next) member.next += 1;
          else member.wrong ??= `${number} where ${member.next} was next`;
        } else if (payload[1] === 0x30) {
          raw.text('420["join","burst"]');
        } else if (payload[1] === 0x33) {
          resolve(member);
        }
      },
    });
    t.after(() => raw.end());
  });
}
