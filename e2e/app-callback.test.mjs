// The app that docs/app-callback.md shows, run as it stands there, with the real client.

import test from 'node:test';
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { io } from 'socket.io-client';
import { startEdge } from './harness.mjs';
import { Started, free } from './harness/owner.mjs';
import { until } from './harness/wait.mjs';

const PAGE = new URL('../docs/app-callback.md', import.meta.url);
const SECRET = 'shared by the app and fanfare';

test('the app of the page lets in, refuses, passes on, acknowledges and hears of the end', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'fanfare-app-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [, source] = /```js app\n([\s\S]*?)```/.exec(await readFile(PAGE, 'utf8'));
  const file = path.join(folder, 'app.mjs');
  await writeFile(file, source);
  const port = await free();
  new Started(t, process.execPath, [file], { env: { ...process.env, PORT: port, FANFARE_APP_SECRET: SECRET } });
  await until(() => fetch(`http://127.0.0.1:${port}/`).then(() => true, () => false), 10_000, 'the app listens');
  const args = ['--app-url', `http://127.0.0.1:${port}/realtime`];
  const edge = await startEdge(t, { args, env: { FANFARE_APP_SECRET: SECRET } });
  const connect = (auth) => {
    const socket = io(edge.url, { auth, forceNew: true });
    socket.got = [];
    socket.onAny((...event) => socket.got.push(event));
    socket.on('connect_error', (error) => (socket.refusal = error));
    t.after(() => socket.disconnect());
    return socket;
  };
  const nobody = connect({});
  await until(() => nobody.refusal, 10_000, 'a refusal');
  assert.equal(nobody.refusal.message, 'who are you?');
  assert.deepEqual(nobody.refusal.data, { field: 'name' });
  const ada = connect({ name: 'Ada' });
  const bob = connect({ name: 'Bob' });
  await until(() => ada.got.length && bob.got.length, 10_000, 'both are welcome');
  assert.deepEqual([ada.got[0], bob.got[0]], [['welcome', 'Ada'], ['welcome', 'Bob']]);
  assert.equal(await ada.emitWithAck('say', 'hello'), 'heard');
  await until(() => bob.got.length === 2, 10_000, 'Bob hears Ada');
  assert.deepEqual(bob.got[1], ['said', 'Ada', 'hello']);
  assert.deepEqual(await ada.emitWithAck('shout'), {
    ok: false,
    error: { code: 'forbidden', message: 'what is shout?', retry: false },
  });
  ada.disconnect();
  await until(() => bob.got.length === 3, 10_000, 'Bob hears of the end');
  assert.deepEqual(bob.got[2], ['gone', 'Ada']);
});
