import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Started, free } from './owner.mjs';

export const CONFIG = fileURLToPath(new URL('../../deploy/haproxy.cfg', import.meta.url));

// Starts HAProxy with the config that the project ships, before two edges labelled edge1 and edge2.
export function startHaproxy(owner, [one, two]) {
  const env = {
    EDGE1: `127.0.0.1:${one.port}`,
    EDGE1_PRIVATE: String(one.privatePort),
    EDGE2: `127.0.0.1:${two.port}`,
    EDGE2_PRIVATE: String(two.privatePort),
  };
  return start(owner, CONFIG, env);
}

// The same config for any number of edges, but knowing nothing of sessions: every request goes to the next edge.
export async function startBlindHaproxy(owner, edges) {
  const folder = await mkdtemp(path.join(tmpdir(), 'fanfare-haproxy-'));
  owner.after(() => rm(folder, { recursive: true, force: true }));
  const servers = edges.map((edge, at) => `    server edge${at + 1} 127.0.0.1:${edge.port} port ${edge.privatePort}`);
  const lines = (await readFile(CONFIG, 'utf8')).split('\n').filter((line) => !/^\s+(use-server|server) /.test(line));
  const config = [...lines, ...servers, ''].join('\n')
    .replace('balance leastconn', 'balance roundrobin')
    .replace(' slowstart 30s', '');
  await writeFile(path.join(folder, 'haproxy.cfg'), config);
  return start(owner, path.join(folder, 'haproxy.cfg'), {});
}

async function start(owner, config, env) {
  for (;;) {
    const port = await free();
    const given = { PATH: process.env.PATH, BIND: `127.0.0.1:${port}`, ...env };
    const haproxy = new Started(owner, 'haproxy', ['-db', '-f', config], { env: given });
    haproxy.port = port;
    haproxy.url = `http://127.0.0.1:${port}`;
    if (await haproxy.came(() => accepts(port), 10_000, 'HAProxy takes connections')) return haproxy;
  }
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    const end = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
  });
}
