// What the protocol's own test suites ask of a server: heartbeats of 300 and 200 ms, a second to enter a namespace,
// `/` and `/custom` that greet with `auth`, events that come back. fanfare has it from a scripted app; with
// SUBJECT=reference it is Socket.IO's own server.

import { startNode } from './node.mjs';
import { REFERENCE } from './subject.mjs';

export const SPEC = { pingInterval: 300, pingTimeout: 200, maxHttpBufferSize: 1_000_000, connectTimeout: 1_000 };

export async function startSpec(owner) {
  if (REFERENCE) {
    const node = await startNode(owner, { ...SPEC, cors: { origin: '*' } });
    for (const name of ['/', '/custom']) {
      node.io.of(name).on('connection', (socket) => {
        socket.emit('auth', socket.handshake.auth);
        if (name !== '/') return;
        socket.on('message', (...args) => socket.emit('message-back', ...args));
        socket.on('message-with-ack', (...args) => args.pop()(...args));
      });
    }
    return node;
  }
  throw new Error('not yet');
}
