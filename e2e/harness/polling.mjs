// Engine.IO's polling by hand: every request on a connection of its own, so that each can be looked at and cut off.

import http from 'node:http';

export const SEPARATOR = '\x1e';

// One request under Engine.IO's path. `query` is text or an object. The promise answers status, headers, the
// body as it came and as text; its `abort` cuts the connection.
export function engine(server, { method = 'GET', path = '/socket.io/', query = {}, headers = {}, body } = {}) {
  const search = typeof query === 'string' ? query : new URLSearchParams(query).toString();
  let request;
  const answer = new Promise((resolve, reject) => {
    request = http.request(`${server.url}${path}${search && `?${search}`}`, { method, headers, agent: false }, (came) => {
      const chunks = [];
      came.on('data', (chunk) => chunks.push(chunk));
      came.on('error', reject);
      came.on('end', () => {
        const bytes = Buffer.concat(chunks);
        resolve({ status: came.statusCode, headers: came.headers, bytes, text: bytes.toString() });
      });
    });
    request.setTimeout(15_000, () => request.destroy(new Error(`no answer to ${method} ${search}`)));
    request.on('error', reject);
    request.end(body);
  });
  // Whoever cuts it off does not wait for it.
  answer.catch(() => {});
  return Object.assign(answer, { abort: () => request.destroy(), request });
}

// A session over polling, after its handshake.
export async function openPolling(server, options = {}) {
  const started = performance.now();
  const answer = await engine(server, { ...options, query: { EIO: 4, transport: 'polling', ...options.query } });
  if (answer.status !== 200) throw new Error(`handshake: ${answer.status} ${answer.text}`);
  return new Polling(server, answer, started, options);
}

class Polling {
  constructor(server, answer, started, { path, query, headers } = {}) {
    this.server = server;
    this.handshake = answer;
    this.started = started;
    this.open = JSON.parse(answer.text.slice(1).split(SEPARATOR)[0]);
    this.sid = this.open.sid;
    this.options = { path, headers };
    this.query = { EIO: 4, transport: 'polling', ...query, sid: this.sid };
  }

  get(options) {
    return engine(this.server, { ...this.options, query: this.query, ...options });
  }

  post(body, options) {
    return this.get({ method: 'POST', body, ...options });
  }

  // Packets of GETs, noops left out, until `fits` holds for those that came.
  async packets(fits) {
    const came = [];
    while (!fits(came)) {
      const answer = await this.get();
      if (answer.status !== 200) throw new Error(`GET: ${answer.status} ${answer.text}, after ${JSON.stringify(came)}`);
      came.push(...answer.text.split(SEPARATOR).filter((packet) => packet !== '6'));
    }
    return came;
  }

  // Enters a namespace and answers the CONNECT packet's text.
  async enter(packet = '40') {
    await this.post(packet);
    return (await this.packets((came) => came.length))[0];
  }

  // Where a WebSocket of this session is opened.
  get upgradePath() {
    return `${this.options.path ?? '/socket.io/'}?EIO=4&transport=websocket&sid=${this.sid}`;
  }
}
