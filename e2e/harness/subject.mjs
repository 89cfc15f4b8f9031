// What a test of the protocol is about: a fanfare, or with SUBJECT=reference Socket.IO's own server, so that
// what a test expects can be seen to be what the reference does.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { startApp } from './app.mjs';
import { startEdge } from './edge.mjs';
import { startNode } from './node.mjs';

const parser = createRequire(import.meta.url)('socket.io-msgpack-parser');

// The browser's bundles, as the npm package brings them.
export const BUNDLES = fileURLToPath(new URL('../node_modules/socket.io-client/dist', import.meta.url));
export const REFERENCE = process.env.SUBJECT === 'reference';

const SETTINGS = {
  pingInterval: ['--ping-interval', 'ms'],
  pingTimeout: ['--ping-timeout', 'ms'],
  connectTimeout: ['--connect-timeout', 'ms'],
  upgradeTimeout: ['--upgrade-timeout', 'ms'],
  maxHttpBufferSize: ['--max-payload', ''],
};

// What the development events do, for a fanfare that is not in development: there every origin is allowed.
const DEVELOPMENT = {
  event({ event, args: [room, name, ...args] }) {
    if (event === 'join') return { join: [room], ack: [{ ok: true }] };
    if (event === 'publish') return { emit: [{ to: [room], event: name, args }], ack: [{ ok: true }] };
    return {};
  },
};

// Starts one that knows the development events. `msgpack`: the reference has one parser for all clients.
// `origins`: pages that may connect, with credentials. `bundles`: the browser's client is served. `app`: a started
// one answers instead. The rest are options of Socket.IO's server, as numbers.
export async function startSubject(owner, options = {}) {
  const { namespaces = [], msgpack = false, origins = [], bundles = false, port, redis, app: _, ...timers } = options;
  if (REFERENCE) {
    const cors = origins.length ? { origin: origins[0] === '*' ? '*' : origins, credentials: origins[0] !== '*' } : undefined;
    return startNode(owner, { redis, port, namespaces, cors, serveClient: bundles, ...(msgpack && { parser }), ...timers });
  }
  const app = options.app ?? (origins.length ? await startApp(owner, DEVELOPMENT) : undefined);
  const args = [];
  for (const [name, value] of Object.entries(timers)) {
    const [flag, unit] = SETTINGS[name];
    args.push(flag, value + unit);
  }
  if (namespaces.length) args.push('--namespaces', namespaces.join(','));
  if (origins.length) args.push('--origins', origins.join(','));
  if (origins.length && origins[0] !== '*') args.push('--cors-credentials');
  if (bundles) args.push('--client-dist', BUNDLES);
  if (app) args.push(...app.edge.args);
  return startEdge(owner, { dev: !app, redis, port, args, env: app?.edge.env });
}
