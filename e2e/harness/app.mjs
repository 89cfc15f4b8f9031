// An app for the app callback: plain node:http, which checks the signature and answers by script.

import http from 'node:http';
import { createHmac, timingSafeEqual } from 'node:crypto';
import { until } from './wait.mjs';

const SECRET = 'the secret of the tests';
// Older calls than this may be somebody's who listened.
const FRESH = 300;

// What the official Socket.IO suite wants of a server: `auth` on connecting, `message` sent back, and
// `message-with-ack` acknowledged.
export const conformance = {
  connect: ({ handshake }) => ({ emit: [{ to: 'sender', event: 'auth', args: [handshake.auth] }] }),
  event({ namespace, event, args }) {
    if (namespace !== '/') return {};
    if (event === 'message') return { emit: [{ to: 'sender', event: 'message-back', args }] };
    if (event === 'message-with-ack') return { ack: args };
    return {};
  },
};

// Starts an app. `handlers` has a function for each `type` of a call, which gives the answer, an object, or throws
// a status (a number); calls without one are answered by {}. `edge` of the result is for `startEdge`.
export async function startApp(owner, handlers = conformance) {
  const app = new App(handlers);
  await app.listen();
  owner.after(() => app.stop());
  return app;
}

class App {
  constructor(handlers) {
    this.handlers = handlers;
    this.calls = [];
    this.refused = 0;
    this.secret = SECRET;
    this.server = http.createServer((request, response) => {
      this.serve(request, response).catch((error) => response.destroy(error));
    });
  }

  async listen(port = 0) {
    await new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(port, '127.0.0.1', resolve);
    });
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}/realtime`;
  }

  // Options of `startEdge` with which the edge calls this app.
  get edge() {
    return { args: ['--app-url', this.url], env: { FANFARE_APP_SECRET: this.secret } };
  }

  async serve(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    if (!signed(request.headers['fanfare-signature'], body, this.secret)) {
      this.refused += 1;
      response.writeHead(401).end();
      return;
    }
    const call = JSON.parse(body);
    this.calls.push(call);
    try {
      const answer = (await this.handlers[call.type]?.(call)) ?? {};
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
    } catch (status) {
      if (typeof status !== 'number') throw status;
      response.writeHead(status).end();
    }
  }

  of(type) {
    return this.calls.filter((call) => call.type === type);
  }

  // Waits until there are `count` calls of a type, and gives them.
  async came(type, count = 1, deadline = 10_000) {
    await until(() => this.of(type).length >= count, deadline, () => `${count} × ${type}: ${JSON.stringify(this.calls)}`);
    return this.of(type);
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}

// `t=<seconds>,v1=<hex>`: HMAC-SHA256 over `<seconds>.<body>`.
function signed(header = '', body, secret) {
  const [, seconds, given] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header) ?? [];
  if (!given || Math.abs(Date.now() / 1000 - Number(seconds)) > FRESH) return false;
  const right = createHmac('sha256', secret).update(`${seconds}.`).update(body).digest();
  return timingSafeEqual(right, Buffer.from(given, 'hex'));
}
