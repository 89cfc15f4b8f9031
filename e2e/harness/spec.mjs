// What the protocol's own test suites ask of a server: heartbeats of 300 and 200 ms, a second to enter a namespace,
// `/` and `/custom` that greet with `auth`, events that come back; and beyond that whatever an app does with
// clients. fanfare has it from a scripted app; with SUBJECT=reference the app is one of Socket.IO's own server.

import { startApp } from './app.mjs';
import { startNode } from './node.mjs';
import { REFERENCE, startSubject } from './subject.mjs';

export const SPEC = { pingInterval: 300, pingTimeout: 200, maxHttpBufferSize: 1_000_000, connectTimeout: 1_000 };
const REFUSAL = { message: 'nope', data: { code: 7, deep: [null, 'é'] } };

// `ended` of what is started lists [sid, reason] of the sessions that went.
export async function startSpec(owner, options = {}) {
  return REFERENCE ? startReference(owner, options) : startBehindFanfare(owner, options);
}

async function startBehindFanfare(owner, options) {
  const [ended, handshakes] = [[], new Map()];
  const app = await startApp(owner, {
    connect({ namespace, sid, handshake }) {
      if (namespace === '/refusing') return { ok: false, ...REFUSAL };
      handshakes.set(sid, handshake);
      return { emit: [{ to: 'sender', event: 'auth', args: [handshake.auth] }] };
    },
    event: (call) => (call.namespace === '/' ? answers[call.event]?.(call, handshakes) : undefined),
    ack: ({ args, error }) => ({ emit: [{ to: 'sender', event: error ? 'unanswered' : 'answered', args }] }),
    disconnect: ({ sid, reason }) => void ended.push([sid, reason]),
  });
  const namespaces = ['/custom', '/refusing'];
  const edge = await startSubject(owner, { ...SPEC, namespaces, origins: ['*'], app, ...options });
  return Object.assign(edge, { ended, app });
}

const answers = {
  message: ({ args }) => ({ emit: [{ to: 'sender', event: 'message-back', args }] }),
  'message-with-ack': ({ args }) => ({ ack: args }),
  ask: ({ args: [value, timeout] }) => ({
    emit: [{ to: 'sender', event: 'question', args: [value], ack: { token: 'question', timeout_ms: timeout } }],
  }),
  handshake: ({ sid }, handshakes) => ({ ack: [handshakes.get(sid)] }),
  enter: ({ args: [room] }) => ({ join: [room], ack: ['entered'] }),
  exit: ({ args: [room] }) => ({ leave: [room], ack: ['left'] }),
  tell: ({ sid, args: [{ room, others }, event, ...args] }) => ({
    emit: [{ to: room ?? 'everyone', except: others ? [sid] : [], event, args }],
  }),
  kick: ({ args: [close] }) => ({ disconnect: { close } }),
};

async function startReference(owner, options) {
  const node = await startNode(owner, { ...SPEC, cors: { origin: '*' }, ...options });
  node.ended = [];
  node.io.of('/refusing').use((socket, next) => next(Object.assign(new Error(REFUSAL.message), { data: REFUSAL.data })));
  for (const name of ['/', '/custom']) {
    node.io.of(name).on('connection', (socket) => {
      socket.on('disconnect', (reason) => node.ended.push([socket.id, reason]));
      socket.emit('auth', socket.handshake.auth);
      if (name === '/') perform(socket);
    });
  }
  return node;
}

function perform(socket) {
  socket.on('message', (...args) => socket.emit('message-back', ...args));
  socket.on('message-with-ack', (...args) => args.pop()(...args));
  socket.on('ask', (value, timeout) => socket.timeout(timeout).emit('question', value, (failure, ...args) => {
    if (failure) socket.emit('unanswered');
    else socket.emit('answered', ...args);
  }));
  socket.on('handshake', (ack) => ack(socket.handshake));
  socket.on('enter', (room, ack) => {
    socket.join(room);
    ack('entered');
  });
  socket.on('exit', (room, ack) => {
    socket.leave(room);
    ack('left');
  });
  socket.on('tell', ({ room, others }, event, ...args) => {
    const target = others ? socket.broadcast : socket.nsp;
    (room === undefined ? target : target.to(room)).emit(event, ...args);
  });
  socket.on('kick', (close) => socket.disconnect(close));
}
