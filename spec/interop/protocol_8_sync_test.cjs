// PROTOCOL 8 in a mixed cluster: `undelivered_messages`.
const assert = require('node:assert/strict')
const { describe, it } = require('node:test')
const { Client } = require('@cryb/mesa')
const { Cluster, LUA, SERVERS, until, useRedis } = require('./cluster.cjs')
const { dispatchers } = require('./programs.cjs')
const { startProgram } = require('./redis.cjs')
const { Inbox, startMesaLua } = require('./support.cjs')

const redis = useRedis()
let cluster

const start = (config, each) => Cluster.start(redis, { namespace: 'walk', sync: { enabled: true }, ...config }, each)
const storedCount = (id, n) => until(async () => ((await cluster.stored(id))?.length ?? 0) === n)

// The sender's message is stored before the next one: Node keeps no order by itself.
async function store(from, id, ...messages) {
  for (const message of messages) {
    const before = (await cluster.stored(id))?.length ?? 0
    if (dispatchers[from]) await dispatchers[from](cluster, [{ ...message, to: [id] }], { sync: true })
    else await cluster.send(from, message, [id])
    await storedCount(id, before + 1)
  }
}

const envelope = n => ({ op: 0, d: { n, list: [], object: {} }, t: 'KEPT' })
const redelivered = (n, s) => ({ ...envelope(n), s })
const SENDERS = [...SERVERS, ...Object.keys(dispatchers)]

// Sees what a middleware is told about what was given up.
const DROPPED = `server:use(function() return { onUndeliverableMessageDropped = function(message, id)
  record("dropped", { n = message.data.n, id = id }) end } end)`

async function dropped(at) {
  cluster.voices[at].send({ op: 0, t: 'EVENTS' })
  return (await cluster.voices[at].type('EVENTS')).d.events.filter(event => event.name === 'dropped').map(event => [event.n, event.id])
}

describe('8 `undelivered_messages`', () => {
  for (const from of SENDERS)
    it(`what ${from} sends to an id that is offline is appended: user id -> JSON array of {op,d,t}, oldest first`, async () => {
      cluster = await start()
      await cluster.login('node', 'online')
      await store(from, 'away', ...[1, 2, 3].map(envelope))
      assert.equal(await redis.client.type('undelivered_messages_walk'), 'hash')
      assert.deepEqual(await cluster.stored('away'), [1, 2, 3].map(envelope))
      assert.equal(await cluster.stored('online'), undefined)
    })

  it('all senders append to the same array', async () => {
    cluster = await start()
    for (const [n, from] of [...SENDERS, ...SENDERS].entries()) await store(from, 'away', envelope(n))
    assert.deepEqual(await cluster.stored('away'), [...SENDERS, ...SENDERS].map((_, n) => envelope(n)))
  })

  for (const from of SENDERS)
    it(`{sync=false} and "*" from ${from} never are`, async () => {
      cluster = await start()
      const witness = await cluster.login('lua1', 'witness')
      const list = [
        { t: 'TYPING', o: { sync: false }, to: ['away', 'witness'] }, { t: 'ALL', o: { sync: true } },
        // A Node server takes a "*" in a list for a user who is offline, when it has sync.
        { t: 'STAR', to: from === 'node' ? undefined : ['*'] }
      ]
      if (dispatchers[from]) await dispatchers[from](cluster, list, { sync: true })
      else for (const { to, ...message } of list) await cluster.send(from, message, to)
      await cluster.fence(witness)
      for (const t of ['TYPING', 'ALL', 'STAR']) await witness.type(t)
      await store(from, 'away', envelope(1)) // what came before would be there by now
      assert.deepEqual(await cluster.stored('away'), [envelope(1)])
      assert.deepEqual(await redis.client.hkeys('undelivered_messages_walk'), ['away'])
    })

  it('a "*" in a list, which Node with sync stores for a user of that name, is no id at mesa-lua', async () => {
    cluster = await start()
    await store('node', '*', envelope(1))
    for (const at of LUA) {
      const nobody = await cluster.join(at)
      nobody.send({ op: 2, d: { id: '*' } })
      assert.equal(await nobody.closed, 1008)
      assert.deepEqual(nobody.types, [])
    }
  })

  it('what is sent to users who are online is not', async () => {
    cluster = await start()
    const users = {}
    for (const at of SERVERS) users[at] = await cluster.login(at, at)
    for (const from of SERVERS) await cluster.send(from, envelope(1), SERVERS)
    for (const at of SERVERS)
      for (const from of SERVERS) assert.deepEqual(await users[at].type('KEPT'), envelope(1), from)
    assert.equal(await redis.client.exists('undelivered_messages_walk'), 0)
  })

  for (const at of SERVERS)
    it(`${at} sends on authentication what anybody stored, with \`s\` = 1..n, and it is gone from the store`, async () => {
      cluster = await start()
      for (const from of SENDERS) {
        await store(from, 'away', ...[1, 2, 3].map(envelope))
        const user = await cluster.login(at, 'away')
        for (const n of [1, 2, 3]) assert.deepEqual(await user.type('KEPT'), redelivered(n, n), from)
        await until(async () => await cluster.stored('away') === undefined)
        await user.leave()
        await cluster.offline('away')
      }
    })

  for (const at of SERVERS)
    it(`${at} drops it with \`shouldSync\` false`, async () => {
      cluster = await start()
      await store('lua2', 'away', envelope(1), envelope(2))
      const user = await cluster.login(at, 'away', { shouldSync: false })
      await until(async () => await cluster.stored('away') === undefined)
      await cluster.fence(user)
      assert.deepEqual(user.types, [])
      await user.leave()
      await cluster.offline('away')
      const again = await cluster.login('lua2', 'away')
      await cluster.fence(again)
      assert.deepEqual(again.types, [])
    })

  for (const at of SERVERS)
    it(`the Client of the Node library gets its backlog at ${at}, or none if it says so`, async () => {
      cluster = await start()
      for (const shouldSync of [true, false]) {
        await store('node', 'away', envelope(1))
        await store('lua1', 'away', envelope(2))
        const client = new Client(cluster.servers[at].url, { autoConnect: false })
        const inbox = new Inbox()
        client.on('message', message => inbox.push(message))
        client.rules = []
        await client.connect()
        await client.authenticate({ id: 'away' }, { shouldSync })
        if (shouldSync)
          for (const n of [1, 2]) {
            const { opcode, data, type, sequence } = await inbox.take()
            assert.deepEqual({ op: opcode, d: data, t: type, s: sequence }, redelivered(n, n))
          }
        await until(async () => await cluster.stored('away') === undefined)
        client.disconnect()
        await cluster.offline('away')
        assert.equal(inbox.items.length, 0)
      }
    })

  it('\`redeliveryInterval\` ms apart, and what was taken but not written when the client drops goes back', async () => {
    cluster = await start({}, { lua1: { sync: { enabled: true, redeliveryInterval: 600000 } } })
    await store('node', 'away', ...[1, 2, 3].map(envelope))
    const first = await cluster.login('lua1', 'away')
    assert.deepEqual(await first.type('KEPT'), redelivered(1, 1))
    await cluster.fence(first)
    assert.deepEqual(first.types, ['KEPT']) // the second is ten minutes away
    await first.leave() // it has answered for the first by leaving in order
    await cluster.offline('away')
    await until(async () => (await cluster.stored('away'))?.at(-1)?.d.n === 3)
    const kept = await cluster.stored('away')
    assert.deepEqual(kept.slice(-2), [envelope(2), envelope(3)])
    const second = await cluster.login('node', 'away') // at once
    for (const [at, message] of kept.entries()) assert.deepEqual(await second.type('KEPT'), { ...message, s: at + 1 })
  })

  for (const at of LUA)
    it(`what ${at} took and a client that vanished has not confirmed goes back, for Node or the other one to deliver`, async () => {
      cluster = await start()
      for (const next of SERVERS.filter(name => name !== at)) {
        await store('lua1', 'away', ...[1, 2, 3].map(envelope))
        const vanishing = await cluster.login(at, 'away', {}, { autoPong: false })
        for (const n of [1, 2, 3]) assert.deepEqual(await vanishing.type('KEPT'), redelivered(n, n))
        await cluster.send(LUA.find(name => name !== at), envelope(4), ['away'])
        assert.deepEqual(await vanishing.type('KEPT'), envelope(4))
        vanishing.ws.terminate()
        await storedCount('away', 4)
        assert.deepEqual(await cluster.stored('away'), [1, 2, 3, 4].map(envelope))
        const back = await cluster.login(next, 'away')
        for (const n of [1, 2, 3, 4]) assert.deepEqual(await back.type('KEPT'), redelivered(n, n))
        await until(async () => await cluster.stored('away') === undefined)
        await back.leave()
        await cluster.offline('away')
      }
    })

  it('append is atomic: nothing is lost of what two servers and a dispatcher of mesa-lua store at once; Node delivers it', async () => {
    const EACH = 300
    cluster = await start()
    for (const at of LUA) cluster.voices[at].send({ op: 0, t: 'SEND_MANY', d: { count: EACH, to: ['away'], t: at } })
    await startProgram(redis.uri, `
      local dispatcher = Mesa.Dispatcher(uri, { namespace = "walk", sync = { enabled = true } })
      for n = 1, ${EACH} do dispatcher:dispatch(Mesa.Message(0, { n = n }, "dispatcher"), { "away" }) end
    `).ended()
    await storedCount('away', 3 * EACH)
    const user = await cluster.login('node', 'away')
    for (const t of [...LUA, 'dispatcher'])
      for (let n = 1; n <= EACH; n++) assert.equal((await user.type(t)).d.n, n)
  })

  it('take is atomic: of a user who logs in at both mesa-lua servers at once, together the connections get each message', async () => {
    cluster = await start()
    await store('lua1', 'away', ...[1, 2, 3, 4, 5].map(envelope))
    const both = await Promise.all(LUA.map(at => cluster.login(at, 'away')))
    const numbers = () => both.flatMap(user => user.frames.filter(frame => frame.t === 'KEPT').map(frame => frame.d.n))
    await until(() => new Set(numbers()).size === 5)
    await until(async () => await cluster.stored('away') === undefined && !await redis.client.exists('mesa:taken_walk:away'))
    for (const user of both) { // each part is in order, and numbered
      const frames = user.frames.filter(frame => frame.t === 'KEPT')
      assert.deepEqual(frames.map(frame => frame.s), frames.map((_, at) => at + 1))
      assert.deepEqual(frames.map(frame => frame.d.n), frames.map(frame => frame.d.n).sort())
    }
  })
})

describe('8 the bounds of `undelivered_messages`', () => {
  it('count: `sync.maxMessages`, the oldest go first, what Node stored included, and `onUndeliverableMessageDropped` says so', async () => {
    cluster = await start({}, { lua: { sync: { enabled: true, maxMessages: 3 } }, extra: DROPPED })
    await store('node', 'away', ...[1, 2, 3, 4, 5].map(envelope))
    await cluster.send('lua1', envelope(6), ['away'])
    await storedCount('away', 3)
    await cluster.send('lua2', envelope(7), ['away'])
    await until(async () => (await cluster.stored('away'))[2].d.n === 7)
    assert.deepEqual(await cluster.stored('away'), [5, 6, 7].map(envelope))
    await until(async () => (await dropped('lua1')).length === 3 && (await dropped('lua2')).length === 1)
    assert.deepEqual(await dropped('lua1'), [[1, 'away'], [2, 'away'], [3, 'away']])
    assert.deepEqual(await dropped('lua2'), [[4, 'away']])
    const user = await cluster.login('node', 'away')
    for (const [at, n] of [5, 6, 7].entries()) assert.deepEqual(await user.type('KEPT'), redelivered(n, at + 1))
  })

  it('bytes: `sync.maxBytes`', async () => {
    const message = n => ({ op: 0, d: { n, padding: 'x'.repeat(400) }, t: 'KEPT' })
    cluster = await start({}, { lua: { sync: { enabled: true, maxBytes: 1000 } }, extra: DROPPED })
    await store('node', 'away', ...[1, 2, 3].map(message))
    await cluster.send('lua1', message(4), ['away'])
    await storedCount('away', 2)
    assert.deepEqual(await cluster.stored('away'), [3, 4].map(message))
    await until(async () => (await dropped('lua1')).length === 2)
    const user = await cluster.login('node', 'away')
    for (const [at, n] of [3, 4].entries()) assert.deepEqual(await user.type('KEPT'), { ...message(n), s: at + 1 })
  })

  it('age: `sync.maxAge`', async () => {
    cluster = await start({}, { lua: { sync: { enabled: true, maxAge: 300 } }, extra: DROPPED })
    await store('lua1', 'away', envelope(1))
    let n = 1
    await until(async () => { // until the first has become too old
      await cluster.send('lua2', envelope(++n), ['away'])
      return (await dropped('lua2')).length > 0
    })
    assert.deepEqual((await dropped('lua2'))[0], [1, 'away'])
    assert.notEqual((await cluster.stored('away'))?.[0].d.n, 1)
  })
})

describe('8 without Redis', () => {
  it('sync works inside one process', async () => {
    const alone = await startMesaLua({ sync: { enabled: true }, authentication: { timeout: false } })
    cluster = Object.assign(new Cluster(), {
      servers: { alone }, members: [], cleanUps: [], config: { authentication: { storeConnectedUsers: false } }
    })
    redis.clusters.push(cluster)
    const sender = await cluster.join('alone')
    for (const n of [1, 2]) sender.send({ op: 0, t: 'SEND', d: { message: envelope(n), to: ['away'] } })
    for (let n = 0; n < 2; n++) await sender.type('SENT')
    const user = await cluster.login('alone', 'away')
    for (const n of [1, 2]) assert.deepEqual(await user.type('KEPT'), redelivered(n, n))
  })

  it('only portals and dispatchers need it', async () => {
    await assert.rejects(startMesaLua({ portal: { enabled: true } }), /portal.enabled needs redis/)
    const program = startProgram('', 'print(pcall(Mesa.Dispatcher)) print(pcall(Mesa.Portal))')
    assert.match(await program.lines.take(), /^false\t.*Mesa.Dispatcher/)
    assert.match(await program.lines.take(), /^false\t.*Mesa.Portal/)
    await program.ended()
  })
})
