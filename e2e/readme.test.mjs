// The README, run as written. Only ports differ: those of this machine that are free.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  ROOMS, ask, collect, connectSocket, fetchText, file, startEdge, startRedis, until,
} from './harness.mjs';
import { Started, free } from './harness/owner.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const readme = readFileSync(`${root}README.md`, 'utf8');
const blocks = [...readme.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language, text]) => ({ language, text }));

function block(language, part) {
  const found = blocks.filter((one) => one.language === language && one.text.includes(part));
  assert.equal(found.length, 1, `one ${language} block with ${part}`);
  return found[0].text;
}

const redis = await startRedis(file);
const ports = { 3000: await free(), 3001: await free(), 6379: redis.port };
const here = (text) => text.replace(/127\.0\.0\.1:(3000|3001|6379)/g, (_, port) => `127.0.0.1:${ports[port]}`);

const edge = await serve();
const socket = await connectSocket(file, { url: here('http://127.0.0.1:3000') });
await ask(socket, 'join', 'lobby');
const lines = collect(socket, 'chat');

// The first command of the page, with Redis since that is what the page goes on to.
async function serve() {
  const clean = Object.entries(process.env).filter(([name]) => !name.startsWith('FANFARE_'));
  const started = new Started(file, 'sh', ['-c', `exec ${block('sh', 'serve --dev')}`], {
    cwd: root,
    env: {
      ...Object.fromEntries(clean),
      FANFARE_LISTEN: here('127.0.0.1:3000'),
      FANFARE_PRIVATE: here('127.0.0.1:3001'),
      FANFARE_REDIS: redis.url,
      FANFARE_LOG_FORMAT: 'text',
    },
  });
  const ready = async () => (await fetchText(here('http://127.0.0.1:3001/readyz')).catch(() => ({}))).status === 200;
  assert.ok(await started.came(ready, 120_000, 'the node is ready'));
  return started;
}

function script(text) {
  const prelude = "import { WebSocket } from 'ws'; globalThis.WebSocket = WebSocket;\n";
  const args = ['--input-type=module', '--eval', prelude + here(text)];
  return new Started(file, 'node', args, { cwd: `${root}e2e` });
}

test('the first command starts a node that says where to click', async () => {
  await until(() => edge.log.includes(here('http://127.0.0.1:3000/')), 5_000, () => edge.log);
  const page = await fetchText(here('http://127.0.0.1:3000/'));
  assert.equal(page.status, 200);
  assert.match(page.text, /<title>fanfare/);
});

test('the lines for socket.io-client', async () => {
  const started = script(block('js', 'socket.io-client'));
  await until(() => /ok: true/.test(started.log) && /Ada hello/.test(started.log), 10_000, () => started.log);
  await started.stop();
});

test("the lines for the browser's own WebSocket", async () => {
  const started = script(block('js', 'new WebSocket'));
  await until(() => /connection_success/.test(started.log) && /Bob/.test(started.log), 10_000, () => started.log);
  await until(() => lines.some((line) => line.name === 'Bob'), 5_000, 'the room hears it');
  await started.stop();
});

test('the lines for the emitter', async () => {
  const started = script(block('js', 'redis-emitter'));
  await until(() => lines.some((line) => line.name === 'emitter'), 10_000, () => started.log);
  await started.stop();
});

test('the commands for publishing', async () => {
  for (const [part, name] of [['curl', 'curl'], ['redis-cli', 'redis-cli']]) {
    const command = here(block('sh', part)).replace(/^redis-cli/, `redis-cli -p ${redis.port}`);
    const ran = new Started(file, 'sh', ['-c', command], { cwd: root });
    assert.equal((await ran.exited).code, 0, ran.log);
    await until(() => lines.some((line) => line.name === name), 5_000, `the room hears ${name}`);
  }
});

test('the rules of the page are taken, and do what it says', async (t) => {
  const own = await startEdge(t, { config: block('toml', '[rooms.channel]') });
  const [one, two] = [await connectSocket(t, own), await connectSocket(t, own)];
  assert.deepEqual(await ask(one, 'join:channel', '42'), { ok: true });
  assert.deepEqual(await ask(two, 'join:channel', { channelId: 42 }), { ok: true });
  const got = collect(two, 'user:typing');
  assert.deepEqual(await ask(one, 'typing:start', { channelId: 42 }), { ok: true });
  await until(() => got.length === 1, 5_000, 'the other sees it');
  assert.ok(ROOMS.includes('[rooms.channel.relay."typing:start"]'), 'the other tests use the same rules');
});

test('metrics, files and sections that the page names exist', async () => {
  const { text } = await fetchText(here('http://127.0.0.1:3001/metrics'));
  for (const [name] of readme.matchAll(/fanfare_\w+/g)) assert.ok(text.includes(`\n${name}`), name);
  for (const [, target] of readme.matchAll(/\]\(([^)]+)\)/g)) {
    if (/^https?:/.test(target)) continue;
    const [path, section] = target.split('#');
    if (path) assert.ok(existsSync(root + path), path);
    else assert.ok(readme.toLowerCase().includes(`## ${section.replaceAll('-', ' ')}`), target);
  }
});

test('the command that runs every test is the one that CI runs', () => {
  const command = block('sh', 'xtask test').trim();
  assert.ok(readFileSync(`${root}.ci/run`, 'utf8').includes(command));
});

// All of it takes half an hour: here one scenario, one round, two servers, and nothing is judged by its speed.
test('the command that measures everything measures', async () => {
  const command = block('sh', 'xtask bench').trim();
  const short = `${command} f1 --rounds 1 --no-limits --peers floor,fanfare-sio`;
  const ran = new Started(file, 'sh', ['-c', short], { cwd: root });
  assert.equal((await ran.exited).code, 0, ran.log);
  assert.match(ran.log, /CPU µs\/delivery/);
  assert.match(ran.log, /bench: loadtest: ok: 1 scenarios, 2 rounds .* nothing lost, duplicated or out of order/);
});
