// python-socketio, the other implementation that apps use: its clients over every transport, and its managers as
// publishers, on the channel that all of them share.

import assert from 'node:assert/strict';
import test from 'node:test';
import {
  REFERENCE, ask, collect, connectSocket, file, startPython, startRedis, startSubject, until,
} from './harness.mjs';

const redis = await startRedis(file);
const server = await startSubject(file, { redis, namespaces: ['/admin'] });
const emitter = await redis.emitter();

// python/speak.py's VALUES as its JSON shows them.
const bytes = (...list) => ({ $bytes: Buffer.from(list).toString('hex') });
const VALUES = [
  ['text é 🎉'], [0, -1, 1.5, null, true], [{ a: [{ b: null }] }, []], [bytes(0, 1, 255)],
  ['before', bytes(), { deep: [bytes(0x1e, 0x34), 'x'] }], ['x'.repeat(50_000)],
];

for (const kind of ['sync', 'async']) {
  for (const transports of ['polling', 'websocket', 'polling,websocket']) {
    test(`its ${kind} client over ${transports}: values, binary, acknowledgements, namespaces`, async (t) => {
      const room = `${kind} ${transports}`;
      const client = startPython(t, 'speak.py', [kind, server.url, transports, room]);
      const said = (what) => client.lines.map((line) => JSON.parse(line)).filter((entry) => entry.what === what);
      await client.until(() => said('ready').length, 'it is ready');
      const [{ sid, admin }] = said('connected');
      assert.notEqual(sid, admin);
      assert.deepEqual(said('joined'), [{ what: 'joined', answer: { ok: true }, admin: { ok: true } }]);
      await client.until(() => said('event').length === VALUES.length, 'its own values come back');
      assert.deepEqual(said('event').map(({ args }) => args), VALUES);
      emitter.to(room).emit('n', 'for main', Buffer.from([1, 2]));
      emitter.of('/admin').to(room).emit('n', 'for admins');
      emitter.to(sid).emit('n', 'by its id');
      await client.until(() => said('event').length === VALUES.length + 3, 'what others publish');
      const came = said('event').slice(VALUES.length).map(({ args }) => args);
      assert.deepEqual(new Set(came.map((args) => JSON.stringify(args))), new Set([
        ['for main', bytes(1, 2)], ['for admins'], ['by its id'],
      ].map((args) => JSON.stringify(args))));
      emitter.to(room).emit('finish');
      await client.until(() => client.ended === 0, 'it leaves');
      const last = transports === 'polling' ? 'polling' : 'websocket';
      assert.deepEqual(said('finished'), [{ what: 'finished', transport: last }]);
      assert.deepEqual(said('disconnect').map(({ reason }) => reason), ['client disconnect']);
    });
  }
}

// A manager that calls what it is told; answers what went wrong, or "ok".
async function manager(t, kind) {
  const python = startPython(t, 'publish.py', [kind, redis.url]);
  let calls = 0;
  return async (method, args, options = {}) => {
    python.write(JSON.stringify([method, args, options]));
    calls += 1;
    await python.until(() => python.lines.length === calls, `${method} is done`);
    return python.lines.at(-1);
  };
}

for (const kind of ['sync', 'async']) {
  test(`its ${kind} manager publishes: values, rooms, skipped sessions, binary, namespaces`, { skip: REFERENCE }, async (t) => {
    const call = await manager(t, kind);
    const [one, two, admin] = await Promise.all([{}, {}, { namespace: '/admin' }].map((options) => connectSocket(t, server, options)));
    const got = [one, two, admin].map((socket) => {
      const list = [];
      socket.on('e', (...args) => list.push(args));
      return list;
    });
    for (const socket of [one, two, admin]) await ask(socket, 'join', 'both');
    await ask(one, 'join', 'first');
    const emit = async (data, options) => assert.equal(await call('emit', ['e', data], options), 'ok');
    await emit({ a: [1, null, 'é'] });
    await emit('to a room', { room: 'first' });
    await emit('to two', { room: ['first', 'both'] });
    await emit('to a session', { room: two.id });
    await emit('but one', { skip_sid: one.id });
    await emit('but both', { skip_sid: [one.id, two.id] });
    await emit({ $tuple: ['several', 2] });
    await emit([1, 2]);
    await emit(null);
    await emit({ u: '$bytes:0506', l: ['$bytes:07'] });
    await emit('$bytes:0102');
    await emit({ $tuple: ['$bytes:01', 'and', '$bytes:02'] });
    await emit('admins', { namespace: '/admin' });
    await emit('end', { room: 'both' });
    await emit('end', { room: 'both', namespace: '/admin' });
    await until(() => got.every((list) => list.at(-1)?.[0] === 'end'), 10_000, () => `all: ${JSON.stringify(got)}`);
    const all = [
      ['several', 2], [[1, 2]], [], [{ u: Buffer.from([5, 6]), l: [Buffer.from([7])] }], [Buffer.from([1, 2])],
      [Buffer.from([1]), 'and', Buffer.from([2])], ['end'],
    ];
    assert.deepEqual(got[0], [[{ a: [1, null, 'é'] }], ['to a room'], ['to two'], ...all]);
    assert.deepEqual(got[1], [[{ a: [1, null, 'é'] }], ['to two'], ['to a session'], ['but one'], ...all]);
    assert.deepEqual(got[2], [['admins'], ['end']]);
  });

  test(`its ${kind} manager has sessions enter and leave rooms, closes rooms, and disconnects`, { skip: REFERENCE }, async (t) => {
    const call = await manager(t, kind);
    const [one, two] = await Promise.all([connectSocket(t, server), connectSocket(t, server)]);
    const got = [collect(one, 'e'), collect(two, 'e')];
    const probes = collect(one, 'probe');
    // A write-only manager publishes these in some versions only.
    const supported = async (method, args, options) => {
      const answer = await call(method, args, options);
      if (answer !== 'ok') t.diagnostic(`${method}: ${answer}`);
      return answer === 'ok';
    };
    if (await supported('enter_room', [one.id, '/', 'entered'])) {
      await until(() => {
        emitter.to('entered').emit('probe');
        return probes.length;
      }, 5_000, 'it is in the room');
      await supported('leave_room', [one.id, '/', 'entered']);
      emitter.to('entered').emit('e', 'nobody');
    }
    for (const socket of [one, two]) await ask(socket, 'join', 'closing');
    if (await supported('close_room', ['closing', '/'])) emitter.to('closing').emit('e', 'nobody');
    emitter.emit('e', 'end');
    await until(() => got.every((list) => list.includes('end')), 5_000, 'what was sent last');
    assert.deepEqual(got, [['end'], ['end']]);
    if (await supported('disconnect', [two.id, '/'])) {
      await until(() => !two.connected, 5_000, 'it is disconnected');
      assert.equal(two.active, false);
    }
    assert.ok(one.connected);
  });
}

// What the versions write that cannot be installed together with this one (§3.8 of the wire): by hand.
test('the channel’s messages of other versions, and its requests', { skip: REFERENCE }, async (t) => {
  const connection = await redis.connect();
  const [one, two] = await Promise.all([connectSocket(t, server), connectSocket(t, server)]);
  const got = [collect(one, 'e'), collect(two, 'e')];
  const host_id = '9416aa';
  const send = (entry) => connection.publish('socketio', JSON.stringify({ host_id, namespace: '/', ...entry }));
  await send({ method: 'emit', event: 'e', data: [{ a: 1 }], binary: false, room: null, skip_sid: null, callback: null });
  await send({ method: 'emit', event: 'e', data: ['to one'], room: one.id });
  await send({ method: 'enter_room', sid: two.id, room: 'py' });
  const probes = collect(two, 'probe');
  await until(() => {
    emitter.to('py').emit('probe');
    return probes.length;
  }, 5_000, 'it entered');
  await send({ method: 'emit', event: 'e', data: ['to py'], room: 'py' });
  await send({ method: 'leave_room', sid: two.id, room: 'py' });
  await send({ method: 'emit', event: 'e', data: ['nobody'], room: 'py' });
  for (const socket of [one, two]) await ask(socket, 'join', 'py2');
  await send({ method: 'close_room', room: 'py2' });
  await send({ method: 'emit', event: 'e', data: ['nobody'], room: 'py2' });
  // Nobody's business: garbage, pickle, unknown methods.
  for (const bad of ['', '{', '[]', '{"method":"emit"}', '{"method":"dance"}', Buffer.from('80049502', 'hex')]) {
    await connection.publish('socketio', bad);
  }
  await send({ method: 'disconnect', sid: two.id });
  await until(() => !two.connected, 5_000, 'it is disconnected');
  await send({ method: 'emit', event: 'e', data: ['end'] });
  await until(() => got[0].includes('end'), 5_000, 'the last one');
  assert.deepEqual(got, [[{ a: 1 }, 'to one', 'end'], [{ a: 1 }, 'to py']]);
});
