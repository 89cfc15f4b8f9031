// Programs of python-socketio's, in the environment that `cargo xtask test` makes in e2e/.venv.

import readline from 'node:readline';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { until } from './wait.mjs';

const PYTHON = process.env.PYTHON_VENV ?? fileURLToPath(new URL('../.venv', import.meta.url));

// Starts a script of e2e/python. What it says comes as `lines`; `write` gives it a line.
export function startPython(owner, script, args) {
  const path = fileURLToPath(new URL(`../python/${script}`, import.meta.url));
  const child = spawn(`${PYTHON}/bin/python`, [path, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  const started = { lines: [], errors: '', ended: undefined, write: (line) => child.stdin.write(`${line}\n`) };
  readline.createInterface(child.stdout).on('line', (line) => started.lines.push(line));
  child.stderr.on('data', (chunk) => (started.errors += chunk));
  child.stdin.on('error', () => {});
  child.on('error', (error) => (started.ended = String(error)));
  child.on('close', (code) => (started.ended = code));
  owner.after(() => child.kill('SIGKILL'));
  // Waits for something of what it said; its errors are part of the failure.
  started.until = (condition, what, deadline = 20_000) => until(() => {
    if (condition()) return true;
    if (started.ended !== undefined) throw new Error(`${script} ended with ${started.ended}: ${what}\n${started.errors}`);
    return false;
  }, deadline, () => `${what}: ${started.lines.slice(-5).join('\n')}\n${started.errors}`);
  return started;
}
