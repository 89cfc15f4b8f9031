import { io } from 'socket.io-client';
import { until } from './wait.mjs';

// A socket.io-client over WebSocket, connecting on its own connection.
export function socketTo(owner, server, { namespace = '/', ...options } = {}) {
  const socket = io(server.url + (namespace === '/' ? '' : namespace), {
    transports: ['websocket'],
    forceNew: true,
    ...options,
  });
  owner.after(() => socket.disconnect());
  return socket;
}

// The same, connected.
export async function connectSocket(owner, server, options) {
  const socket = socketTo(owner, server, options);
  let failed;
  socket.once('connect_error', (error) => (failed = error));
  await until(() => socket.connected || failed, 15_000, `connected to ${server.url}`);
  if (failed) throw failed;
  return socket;
}

// Emits and waits for the acknowledgement.
export function ask(socket, event, ...args) {
  return socket.timeout(15_000).emitWithAck(event, ...args);
}

// A growing list of what arrives for `event`: the first argument, or all of them where there are more.
export function collect(socket, event) {
  const got = [];
  socket.on(event, (...args) => got.push(args.length > 1 ? args : args[0]));
  return got;
}
