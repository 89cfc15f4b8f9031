import { WebSocket } from 'ws';
import { until } from './wait.mjs';

// Connects a plain WebSocket and waits for the server's first frame.
export async function connectPlain(owner, server, { path = '/ws', protocols, headers } = {}) {
  const plain = new Plain(server.url.replace('http', 'ws') + path, protocols, headers);
  owner.after(() => plain.socket.terminate());
  await plain.next((frame) => frame.type === 'connection_success');
  return plain;
}

class Plain {
  constructor(url, protocols, headers) {
    this.frames = [];
    this.pings = 0;
    this.nextId = 1;
    this.socket = new WebSocket(url, protocols, { headers });
    this.socket.on('message', (bytes) => this.frames.push(JSON.parse(bytes)));
    this.socket.on('ping', () => (this.pings += 1));
    this.socket.on('error', (error) => (this.failure = error));
    this.socket.on('close', (code, reason) => (this.closed = { code, reason: reason.toString() }));
  }

  // Sends a frame: an object, or text as it is.
  send(frame) {
    this.socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
  }

  // Sends a frame with an id of its own and waits for the reply to it.
  ask(frame) {
    const id = this.nextId++;
    this.send({ ...frame, id });
    return this.next((answer) => answer.type === 'reply' && answer.id === id);
  }

  // The first frame, among those that came and those to come, that `fits`.
  next(fits, deadline = 10_000) {
    const seen = () => `a frame of ${this.frames.length}, last ${JSON.stringify(this.frames.at(-1))}, ${this.failure ?? ''}`;
    return until(() => this.frames.find(fits), deadline, seen);
  }

  events(room, event) {
    return this.frames
      .filter((frame) => frame.type === 'event' && frame.room === room && frame.event === event)
      .map((frame) => frame.data);
  }
}
