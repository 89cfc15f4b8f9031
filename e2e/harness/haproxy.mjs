import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Started, free } from './owner.mjs';

const CONFIG = `
global
  maxconn 8000
defaults
  mode http
  timeout connect 2s
  timeout client 90s
  timeout server 90s
  timeout tunnel 90s
  timeout client-fin 5s
  timeout http-request 5s
  option http-no-delay
  option redispatch
  retries 3
`;

// Starts HAProxy before `edges`, without stickiness, taking out those whose /readyz is not 200.
export async function startHaproxy(owner, edges, { balance = 'leastconn' } = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), 'fanfare-haproxy-'));
  owner.after(() => rm(folder, { recursive: true, force: true }));
  const servers = edges.map(
    (edge, at) =>
      `  server edge${at} 127.0.0.1:${edge.port} check port ${edge.privatePort} inter 200ms fall 2 rise 1` +
      ' on-marked-down shutdown-sessions',
  );
  for (;;) {
    const port = await free();
    const config = path.join(folder, 'haproxy.cfg');
    const front = `listen clients\n  bind 127.0.0.1:${port}\n  balance ${balance}\n`;
    const check = '  option httpchk GET /readyz\n  http-check expect status 200\n';
    await writeFile(config, `${CONFIG}\n${front}${check}${servers.join('\n')}\n`);
    const haproxy = new Started(owner, 'haproxy', ['-db', '-f', config]);
    haproxy.port = port;
    haproxy.url = `http://127.0.0.1:${port}`;
    if (await haproxy.came(() => accepts(port), 10_000, 'HAProxy takes connections')) return haproxy;
  }
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
