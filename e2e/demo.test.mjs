// The demo page in a real browser: two tabs join a room, type, send and see each other.

import assert from 'node:assert/strict';
import test from 'node:test';
import { io } from 'socket.io-client';
import { file, startBrowser, startEdge, until } from './harness.mjs';

const edge = await startEdge(file, { dev: true });
const browser = await startBrowser(file, { viewport: { width: 800, height: 900 } });

// A tab whose person has joined `room`.
async function tab(name, room) {
  const page = await browser.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  page.on('console', (entry) => entry.type() === 'error' && page.faults.push(entry.text()));
  await page.goto(edge.url);
  await page.getByText('connected', { exact: true }).waitFor();
  await page.getByLabel('Your name').fill(name);
  await page.getByLabel('Room').fill(room);
  await page.getByRole('button', { name: 'Join' }).click();
  await page.getByText(`you are in ${room}`).waitFor();
  return page;
}

test('two tabs join a room, type, send, and see the other typing, with a latency figure', async () => {
  const [ada, bob] = [await tab('Ada', 'den'), await tab('Bob', 'den')];
  await bob.locator('#line').pressSequentially('hel');
  await ada.getByText('Bob is typing').waitFor();
  assert.equal(await bob.locator('#typing').textContent(), '');
  await bob.locator('#line').pressSequentially('lo, Ada');
  await bob.getByRole('button', { name: 'Send' }).click();
  await ada.locator('#log li', { hasText: 'hello, Ada' }).waitFor();
  await bob.locator('#log li.mine', { hasText: 'hello, Ada' }).waitFor();
  await until(async () => (await ada.locator('#typing').textContent()) === '', 2_000, 'typing ends with the line');
  assert.match(await bob.locator('#latency').textContent(), /\d+\.\d ms/);
  assert.equal(await ada.locator('#log li.mine').count(), 0);
  assert.equal(await ada.locator('#log li', { hasText: 'hello, Ada' }).count(), 1);
  for (const page of [ada, bob]) {
    assert.deepEqual(page.faults, []);
    await page.close();
  }
});

test('what the page says about socket.io-client works as it is written there', async (t) => {
  const page = await tab('Reader', 'lobby');
  const code = await page.locator('#code').textContent();
  assert.match(code, /socket\.io-client/);
  const script = code.slice(0, code.indexOf('# from a server'));
  const replies = [];
  const connect = (...args) => {
    const socket = io(...args);
    t.after(() => socket.disconnect());
    return socket;
  };
  new Function('io', 'console', script)(connect, { log: (...args) => replies.push(args) });
  await page.locator('#log li', { hasText: 'Adahello' }).waitFor();
  await until(() => replies.length === 2, 5_000, 'the reply and the event');
  assert.deepEqual(replies, [[{ ok: true }], ['Ada', 'hello']]);
  await page.close();
});

test('the page comes back by itself when the node does', async () => {
  const page = await tab('Stayer', 'den');
  await edge.kill9();
  await page.getByText(/disconnected|connecting/).waitFor();
  await startEdge(file, { dev: true, port: edge.port });
  await page.getByText('connected', { exact: true }).waitFor({ timeout: 20_000 });
  await page.close();
});
