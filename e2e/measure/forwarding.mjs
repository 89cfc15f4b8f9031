// What forwarding costs beside serving one's own, in one run: time and processor time of a request, memory of a GET
// that waits, processor time of a delivery and memory of a connection behind a tunnel.
//
//   cargo build --release && node e2e/measure/forwarding.mjs

import http from 'node:http';
import test from 'node:test';
import { connectRaw, openPolling, startEdge, startRedis, until } from '../harness.mjs';

const TURNS = Number(process.env.TURNS ?? 4_000);
const BLOCK = 250;
const WAITING = Number(process.env.WAITING ?? 1_000);
const MEMBERS = Number(process.env.MEMBERS ?? 400);
const ROUNDS = 6;
const PUBLICATIONS = 40;
const EVERY = 50;

const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)];
const micros = (seconds) => `${(seconds * 1e6).toFixed(1)} µs`;
const kib = (bytes) => `${(bytes / 1024).toFixed(2)} KiB`;

// Processor time of both edges while `work` runs.
async function spent(edges, work) {
  const before = edges.map((edge) => edge.processorTime());
  await work();
  return edges.map((edge, at) => edge.processorTime() - before[at]);
}

const add = (sums, more) => sums.map((sum, at) => sum + more[at]);

test('requests', async (t) => {
  const edges = await pair(t);
  const [owner, other] = edges;
  const session = await openPolling(owner);
  await session.enter();
  const ways = { local: owner, forwarded: other };
  const agents = Object.fromEntries(Object.keys(ways).map((way) => [way, new http.Agent({ keepAlive: true })]));
  const results = { local: { times: [], spent: [0, 0] }, forwarded: { times: [], spent: [0, 0] } };
  for (let done = 0; done < TURNS; done += BLOCK) {
    for (const [way, server] of Object.entries(ways)) {
      const result = results[way];
      result.spent = add(result.spent, await spent(edges, async () => {
        for (let id = 0; id < BLOCK; id += 1) {
          for (const [method, body] of [['POST', `42${id}["join","r"]`], ['GET']]) {
            const begun = performance.now();
            await request(server, agents[way], method, session.sid, body);
            result.times.push(performance.now() - begun);
          }
        }
      }));
    }
  }
  for (const agent of Object.values(agents)) agent.destroy();
  for (const [way, { times, spent: [atOwner, atOther] }] of Object.entries(results)) {
    const each = times.length;
    t.diagnostic(`${way}: median ${micros(median(times) / 1e3)}, processor time ${micros(atOwner / each)} at the owner and ${micros(atOther / each)} at the other node`);
  }
  t.diagnostic(`ratio of medians: ${(median(results.forwarded.times) / median(results.local.times)).toFixed(2)}`);
});

test('GETs that wait', async (t) => {
  const edges = await pair(t);
  const [owner, other] = edges;
  const sessions = [];
  while (sessions.length < 2 * WAITING) {
    sessions.push(...await Promise.all(Array.from({ length: 50 }, () => openPolling(owner))));
  }
  const agent = new http.Agent({ keepAlive: true });
  const memory = () => edges.map((edge) => edge.memory());
  const wait = async (server, part) => {
    const before = memory();
    // A GET that waits is answered when its session ends, or by nobody.
    for (const { sid } of part) request(server, agent, 'GET', sid).catch(() => {});
    await until(async () => (await openFiles(server)) >= WAITING, 30_000, 'all wait');
    return memory().map((now, at) => (now - before[at]) / WAITING);
  };
  // The first of each kind pays for what stays.
  const [local] = await wait(owner, sessions.slice(0, WAITING));
  const [atOwner, atOther] = await wait(other, sessions.slice(WAITING));
  t.diagnostic(`local: ${kib(local)} at the owner; forwarded: ${kib(atOwner)} at the owner, ${kib(atOther)} at the other node`);
  agent.destroy();
});

test('deliveries', async (t) => {
  const redis = await startRedis(t);
  const edges = await pair(t, redis);
  const [owner, other] = edges;
  const before = edges.map((edge) => edge.memory());
  const direct = await members(t, owner, owner, 'direct');
  const middle = edges.map((edge) => edge.memory());
  const tunnelled = await members(t, owner, other, 'tunnelled');
  const after = edges.map((edge) => edge.memory());
  t.diagnostic(`direct: ${kib((middle[0] - before[0]) / MEMBERS)} at the owner`);
  t.diagnostic(`tunnelled: ${kib((after[0] - middle[0]) / MEMBERS)} at the owner, ${kib((after[1] - middle[1]) / MEMBERS)} at the other node`);
  const emitter = await redis.emitter();
  const sums = { direct: [0, 0], tunnelled: [0, 0] };
  let sent = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    sent += PUBLICATIONS;
    for (const [room, sockets] of Object.entries({ direct, tunnelled })) {
      sums[room] = add(sums[room], await spent(edges, async () => {
        for (let number = 0; number < PUBLICATIONS; number += 1) {
          emitter.to(room).emit('e', 'x'.repeat(128));
          await new Promise((resolve) => setTimeout(resolve, EVERY));
        }
        const got = () => sockets.every((socket) => socket.texts.filter((text) => text.startsWith('42["e"')).length === sent);
        await until(got, 20_000, 'all receive');
      }));
    }
  }
  const each = sent * MEMBERS;
  for (const [room, [atOwner, atOther]] of Object.entries(sums)) {
    t.diagnostic(`${room}: ${micros(atOwner / each)} per delivery at the owner, ${micros(atOther / each)} at the other node`);
  }
});

async function pair(t, redis) {
  const joined = redis ?? (await startRedis(t));
  const start = (label) => startEdge(t, { redis: joined, dev: true, args: ['--label', label] });
  return [await start('owner'), await start('other')];
}

function request(server, agent, method, sid, body) {
  return new Promise((resolve, reject) => {
    const path = `/socket.io/?EIO=4&transport=polling&sid=${sid}`;
    const sent = http.request({ host: '127.0.0.1', port: server.port, agent, method, path }, (answer) => {
      answer.resume();
      answer.on('end', () => (answer.statusCode === 200 ? resolve() : reject(new Error(`${answer.statusCode}`))));
      answer.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

// Sockets of clients, which wait each for an answer.
async function openFiles(server) {
  const waiting = (await server.metric('fanfare_forwarded_requests')) || undefined;
  return waiting ?? (await server.metric('process_open_fds'));
}

// Connections of the owner that came by polling and upgraded at `entry`, all in one room.
async function members(t, owner, entry, room) {
  const sockets = [];
  while (sockets.length < MEMBERS) {
    sockets.push(...await Promise.all(Array.from({ length: 20 }, async () => {
      const session = await openPolling(owner);
      const socket = await connectRaw(t, entry, { path: session.upgradePath });
      const says = (start) => until(() => socket.texts.some((text) => text.startsWith(start)), 10_000, start);
      socket.text('2probe');
      await says('3probe');
      for (const packet of ['5', '40', `421["join","${room}"]`]) socket.text(packet);
      await says('431[{"ok":true}]');
      return socket;
    })));
  }
  return sockets;
}
