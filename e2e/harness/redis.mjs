import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createClient } from 'redis';
import { Emitter } from '@socket.io/redis-emitter';
import { Started, free } from './owner.mjs';
import { until } from './wait.mjs';

// Starts a Redis of the test's own. `config` is text in the form of redis.conf.
export async function startRedis(owner, { config = '' } = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), 'fanfare-redis-'));
  for (;;) {
    const redis = new Redis(owner, await free(), folder);
    await writeFile(path.join(folder, 'redis.conf'), config);
    if (await redis.start()) {
      owner.after(() => rm(folder, { recursive: true, force: true }));
      return redis;
    }
  }
}

class Redis {
  constructor(owner, port, folder) {
    this.owner = owner;
    this.port = port;
    this.folder = folder;
    this.url = `redis://127.0.0.1:${port}`;
  }

  async start() {
    const args = [path.join(this.folder, 'redis.conf'), '--port', this.port, '--bind', '127.0.0.1'];
    args.push('--dir', this.folder, '--save', '', '--appendonly', 'no', '--daemonize', 'no');
    this.server = new Started(this.owner, 'redis-server', args.map(String));
    return this.server.came(() => this.answers(), 10_000, 'redis-server answers PING');
  }

  get pid() {
    return this.server.pid;
  }

  // Whether it answers PING now.
  answers() {
    return new Promise((resolve) => {
      const socket = net.connect(this.port, '127.0.0.1');
      const end = (answer) => {
        socket.destroy();
        resolve(answer);
      };
      socket.setTimeout(500, () => end(false));
      socket.once('error', () => end(false));
      socket.once('connect', () => socket.write('PING\r\n'));
      socket.once('data', (answer) => end(answer.toString().startsWith('+PONG') || /^-NOAUTH/.test(answer)));
    });
  }

  // Gone, as after a crash.
  stop() {
    return this.server.kill9();
  }

  // Back on the same port. Answers when it answered PING, on the clock of performance.now().
  async restart() {
    await this.stop();
    await until(() => this.start(), 10_000, 'redis-server is back on its port');
    return performance.now();
  }

  pause() {
    this.server.signal('SIGSTOP');
  }

  cont() {
    this.server.signal('SIGCONT');
  }

  // A connection for publishing and for looking around. What is sent while Redis is away fails.
  async connect(options = {}) {
    const connection = createClient({
      url: this.url,
      disableOfflineQueue: true,
      socket: { reconnectStrategy: () => 20 },
      ...options,
    });
    // Losing Redis is part of the tests; commands report it to those who sent them.
    connection.on('error', () => {});
    await connection.connect();
    this.owner.after(() => connection.disconnect().catch(() => {}));
    return connection;
  }

  async emitter(options) {
    const connection = await this.connect();
    const sent = { last: undefined };
    const publisher = {
      publish(channel, payload) {
        sent.last = connection.publish(channel, payload);
        // Whoever wants to know asks `emitter.sent()`.
        sent.last.catch(() => {});
        return sent.last;
      },
    };
    const emitter = new Emitter(publisher, options);
    emitter.sent = () => sent.last;
    return emitter;
  }

  // The rooms of a namespace that somebody is subscribed to, without those named in `besides`.
  async rooms(connection, besides = [], namespace = '/') {
    const start = `socket.io#${namespace}#`;
    const channels = await connection.sendCommand(['PUBSUB', 'CHANNELS', '*']);
    return channels
      .filter((channel) => channel.startsWith(start) && channel.length > start.length)
      .map((channel) => channel.slice(start.length, -1))
      .filter((room) => !besides.includes(room))
      .sort();
  }
}
