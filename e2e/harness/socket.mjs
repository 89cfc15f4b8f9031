import { io } from 'socket.io-client';

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
  await new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('connect_error', reject);
  });
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
