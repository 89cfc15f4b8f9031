import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Started, free } from './owner.mjs';
import { fetchText } from './http.mjs';

const target = fileURLToPath(new URL('../../target/', import.meta.url));
const built = [`${target}release/fanfare`, `${target}debug/fanfare`];
export const BINARY = process.env.FANFARE_BIN ?? built.find((binary) => existsSync(binary)) ?? built[0];

// Rules as the documentation shows them: typing indicators in channels.
export const ROOMS = `
namespaces = ["/admin"]
[rooms.channel]
pattern = "channel:{channelId}"
join = ["join:channel"]
leave = ["leave:channel"]
[rooms.channel.relay."typing:start"]
emit = "user:typing"
volatile = true
[rooms.channel.relay."note:add"]
emit = "note:added"
echo = true
`;

// Starts `fanfare serve` and waits until it is ready. `redis` is a started one or a URL, `config` the text
// of the config file, `files` a limit of open files, `port` where clients connect. With `ready: false` the process is given as it is.
export async function startEdge(owner, options = {}) {
  const { redis, config, dev = false, args = [], env = {}, files, port, ready = true } = options;
  const folder = await mkdtemp(path.join(tmpdir(), 'fanfare-edge-'));
  owner.after(() => rm(folder, { recursive: true, force: true }));
  for (;;) {
    const [listen, inner] = [port ?? (await free()), await free()];
    const given = ['serve', '--listen', `127.0.0.1:${listen}`, '--private', `127.0.0.1:${inner}`];
    if (redis) given.push('--redis', redis.url ?? redis);
    if (dev) given.push('--dev');
    if (config !== undefined) {
      await writeFile(path.join(folder, 'fanfare.toml'), config);
      given.push('--config', path.join(folder, 'fanfare.toml'));
    }
    const edge = new Edge(owner, [...given, ...args], { env, files, listen, inner });
    if (!ready) return edge;
    if (await edge.waitReady()) return edge;
  }
}

class Edge extends Started {
  constructor(owner, args, { env, files, listen, inner }) {
    const clean = Object.entries(process.env).filter(([name]) => !name.startsWith('FANFARE_'));
    const options = { env: { ...Object.fromEntries(clean), ...env } };
    if (files) {
      super(owner, 'sh', ['-c', `ulimit -n ${files}; exec "$0" "$@"`, BINARY, ...args], options);
    } else {
      super(owner, BINARY, args, options);
    }
    this.port = listen;
    this.privatePort = inner;
    this.url = `http://127.0.0.1:${listen}`;
    this.private = `http://127.0.0.1:${inner}`;
  }

  // Status of /readyz, `undefined` where nothing answers.
  async readiness() {
    const answer = await fetchText(`${this.private}/readyz`).catch(() => undefined);
    return answer?.status;
  }

  waitReady(deadline = 10_000) {
    return this.came(async () => (await this.readiness()) === 200, deadline, 'the edge is ready');
  }

  // Every sample of a scrape: name, labels, value.
  async metrics() {
    const { text } = await fetchText(`${this.private}/metrics`);
    return parse(text);
  }

  // Sum of the samples of `name` that have all of `labels`; 0 where there is none.
  async metric(name, labels = {}) {
    const wanted = Object.entries(labels);
    return (await this.metrics())
      .filter((sample) => sample.name === name && wanted.every(([key, value]) => sample.labels[key] === value))
      .reduce((sum, sample) => sum + sample.value, 0);
  }

  // Resident memory, in bytes.
  memory() {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) * 1024;
  }

  // Processor time used so far, in seconds.
  processorTime() {
    const fields = readFileSync(`/proc/${this.pid}/stat`, 'utf8').split(') ')[1].split(' ');
    // utime and stime, in ticks of 10 ms (proc(5); USER_HZ is 100 on Linux).
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }
}

function parse(text) {
  const samples = [];
  for (const line of text.split('\n')) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, key, value] of (found[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = value;
    samples.push({ name: found[1], labels, value: Number(found[3]) });
  }
  return samples;
}
