// Waiting for what can be seen, never for time to pass.

import { setTimeout as pause } from 'node:timers/promises';

const LOOK_AGAIN = 20;

// Waits until `condition` gives something true, and gives it back. `what` says what was missed, as text
// or as a function that looks at the state then.
export async function until(condition, deadline, what) {
  const end = performance.now() + deadline;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > end) {
      throw new Error(`not within ${deadline} ms: ${typeof what === 'function' ? what() : what}`);
    }
    await pause(LOOK_AGAIN);
  }
}

// How often each value occurs.
export function counted(values) {
  const counts = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}
