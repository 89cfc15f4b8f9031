// What the tests start and talk to: real processes on free ports of this machine, stopped by their
// process ids when the test (or file) that owns them ends, also when it fails.

export { file, free } from './harness/owner.mjs';
export { until, counted } from './harness/wait.mjs';
export { startRedis } from './harness/redis.mjs';
export { startEdge, ROOMS } from './harness/edge.mjs';
export { startHaproxy, startBlindHaproxy } from './harness/haproxy.mjs';
export { fetchText, publish } from './harness/http.mjs';
export { connectSocket, socketTo, ask, collect } from './harness/socket.mjs';
export { connectPlain } from './harness/plain.mjs';
export { RawSocket, connectRaw, maskedFrame } from './harness/raw.mjs';
export { startNode } from './harness/node.mjs';
export { startSubject, BUNDLES, REFERENCE } from './harness/subject.mjs';
export { SEPARATOR, engine, openPolling } from './harness/polling.mjs';
export { startPython } from './harness/python.mjs';
export { startBrowser } from './harness/browser.mjs';
export { startSpec, SPEC } from './harness/spec.mjs';
export { startApp } from './harness/app.mjs';
