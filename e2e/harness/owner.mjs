// Who stops what was started, and where it may listen.

import { after } from 'node:test';
import net from 'node:net';
import { spawn } from 'node:child_process';
import { until } from './wait.mjs';

const LOG_KEPT = 256 * 1024;
const alive = new Set();

process.on('exit', () => {
  for (const child of alive) child.kill(child.leave);
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

const closing = [];

// An owner like a test's context, for what a whole file shares.
export const file = { after: (close) => closing.push(close) };

after(async () => {
  for (const close of closing.reverse()) await close();
});

// Ports below the range that the kernel gives to outgoing connections, so that a port stays free
// between a server's stop and its restart.
const tried = new Set();
export async function free() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    if (tried.has(port)) continue;
    tried.add(port);
    const bound = await new Promise((resolve) => {
      const server = net.createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (bound) return port;
  }
}

// A process that the tests started. `leave` is the signal that ends it with its owner: the quick one, but
// for programs that have processes of their own to end.
export class Started {
  constructor(owner, command, args, { leave = 'SIGKILL', ...options } = {}) {
    this.log = '';
    this.child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    this.child.leave = leave;
    alive.add(this.child);
    const keep = (chunk) => {
      this.log = (this.log + chunk).slice(-LOG_KEPT);
    };
    this.child.stdout.on('data', keep);
    this.child.stderr.on('data', keep);
    // 'close' comes after the last output.
    this.exited = new Promise((resolve) => {
      this.child.once('error', (error) => {
        keep(`${error}\n`);
        resolve({ code: null, signal: null });
      });
      this.child.once('close', (code, signal) => resolve({ code, signal }));
    }).then((how) => {
      alive.delete(this.child);
      this.how = how;
      return how;
    });
    owner.after(() => {
      this.signal(leave);
      return this.exited;
    });
  }

  get pid() {
    return this.child.pid;
  }

  signal(name) {
    if (!this.how) this.child.kill(name);
  }

  // Ends it, the hard way after `patience` milliseconds. Answers how it ended.
  async stop(patience = 12_000) {
    this.signal('SIGCONT');
    this.signal('SIGTERM');
    const late = setTimeout(() => this.signal('SIGKILL'), patience);
    const how = await this.exited;
    clearTimeout(late);
    return how;
  }

  async kill9() {
    this.signal('SIGKILL');
    return this.exited;
  }

  // Waits until `ready` holds. False where the process ended because its port was taken meanwhile.
  async came(ready, deadline, what) {
    await until(async () => this.how || (await ready()), deadline, () => `${what}\n${this.log}`);
    if (!this.how) return true;
    if (/in use/i.test(this.log)) return false;
    throw new Error(`${what}: it ended with ${JSON.stringify(this.how)}\n${this.log}`);
  }
}
