// WebSocket by hand: for thousands of connections in one process, and for frames that no library sends.

import { createHash, randomBytes } from 'node:crypto';
import net from 'node:net';
import { until } from './wait.mjs';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
export const SOCKET_IO = '/socket.io/?EIO=4&transport=websocket';

// One frame as a client sends it. `first` is the first byte: FIN, RSV bits and opcode.
export function maskedFrame(first, payload, { masked = true } = {}) {
  const body = Buffer.from(payload);
  const flag = masked ? 0x80 : 0;
  let head;
  if (body.length < 126) {
    head = Buffer.from([first, flag | body.length]);
  } else if (body.length < 65_536) {
    head = Buffer.from([first, flag | 126, body.length >> 8, body.length & 255]);
  } else {
    head = Buffer.alloc(10);
    head[0] = first;
    head[1] = flag | 127;
    head.writeBigUInt64BE(BigInt(body.length), 2);
  }
  if (!masked) return Buffer.concat([head, body]);
  const mask = randomBytes(4);
  for (let at = 0; at < body.length; at += 1) body[at] ^= mask[at & 3];
  return Buffer.concat([head, mask, body]);
}

// A connection whose frames go to `onFrame(opcode, payload)`; `payload` is a view that lives until the
// call returns.
export class RawSocket {
  constructor(server, { path = SOCKET_IO, onFrame = () => {}, headers = '', early } = {}) {
    this.onFrame = onFrame;
    this.kept = undefined;
    this.status = undefined;
    this.closed = false;
    this.key = randomBytes(16).toString('base64');
    this.socket = net.connect({ port: server.port, host: '127.0.0.1', noDelay: true });
    const request =
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${this.key}\r\n${headers}\r\n`;
    // In one piece, so that what is early comes with the request.
    this.socket.write(early ? Buffer.concat([Buffer.from(request), early]) : request);
    this.socket.on('data', (chunk) => this.#take(chunk));
    this.socket.on('error', (error) => (this.failure = error));
    this.socket.on('close', () => {
      this.closed = true;
      this.onFrame('end');
    });
  }

  text(text) {
    this.socket.write(maskedFrame(0x81, text));
  }

  write(bytes) {
    this.socket.write(bytes);
  }

  end() {
    this.socket.destroy();
  }

  #take(chunk) {
    let bytes = this.kept ? Buffer.concat([this.kept, chunk]) : chunk;
    this.kept = undefined;
    if (this.status === undefined) {
      const end = bytes.indexOf('\r\n\r\n');
      if (end < 0) {
        this.kept = bytes;
        return;
      }
      const head = bytes.toString('latin1', 0, end);
      this.status = Number(head.split(' ')[1]);
      this.head = head;
      if (this.status !== 101) return;
      const accept = createHash('sha1').update(this.key + GUID).digest('base64');
      if (!head.includes(accept)) throw new Error(`wrong handshake: ${head}`);
      bytes = bytes.subarray(end + 4);
    }
    if (this.status === 101) this.#frames(bytes);
  }

  #frames(bytes) {
    let at = 0;
    while (bytes.length - at >= 2) {
      let length = bytes[at + 1] & 127;
      let start = at + 2;
      if (length === 126) {
        if (bytes.length - at < 4) break;
        length = bytes.readUInt16BE(start);
        start += 2;
      } else if (length === 127) {
        if (bytes.length - at < 10) break;
        length = Number(bytes.readBigUInt64BE(start));
        start += 8;
      }
      if (bytes.length < start + length) break;
      this.onFrame(bytes[at] & 15, bytes.subarray(start, start + length));
      at = start + length;
    }
    if (at < bytes.length) this.kept = Buffer.from(bytes.subarray(at));
  }
}

// Opens a raw connection, waits for the answer to its handshake, and keeps what it says: `texts`,
// `binaries`, and the close code.
export async function connectRaw(owner, server, options = {}) {
  const texts = [];
  const binaries = [];
  let close;
  const raw = new RawSocket(server, {
    ...options,
    onFrame(opcode, payload) {
      if (opcode === 1) texts.push(payload.toString());
      if (opcode === 2) binaries.push(Buffer.from(payload));
      if (opcode === 8) close = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
    },
  });
  Object.assign(raw, { texts, binaries, closeCode: () => close });
  owner.after(() => raw.end());
  await until(() => raw.status !== undefined || raw.closed, 10_000, 'an answer to the handshake');
  return raw;
}
