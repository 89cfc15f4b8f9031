import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { Started, free } from './owner.mjs';

export const CONFIG = fileURLToPath(new URL('../../deploy/haproxy.cfg', import.meta.url));

// Starts HAProxy with the config that the project ships, before two edges.
export async function startHaproxy(owner, [one, two]) {
  for (;;) {
    const port = await free();
    const env = {
      PATH: process.env.PATH,
      BIND: `127.0.0.1:${port}`,
      EDGE1: `127.0.0.1:${one.port}`,
      EDGE1_PRIVATE: String(one.privatePort),
      EDGE2: `127.0.0.1:${two.port}`,
      EDGE2_PRIVATE: String(two.privatePort),
    };
    const haproxy = new Started(owner, 'haproxy', ['-db', '-f', CONFIG], { env });
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
