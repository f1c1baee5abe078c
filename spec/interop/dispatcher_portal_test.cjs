// Dispatchers and portals of the Node library with servers of mesa-lua, and the other way round (PROTOCOL 8, 9).
const assert = require('node:assert/strict')
const { after, afterEach, before, describe, it } = require('node:test')
const WebSocket = require('ws')
const { Dispatcher, DispatchEvent, Message, Portal } = require('@cryb/mesa')
const { Inbox, startMesaLua, startNodeMesa } = require('./support.cjs')
const { startProgram, startRedis } = require('./redis.cjs')

const NAMESPACE = 'interop'
const servers = { 'mesa-lua': startMesaLua, Node: startNodeMesa }

let redis
const cleanUps = []

before(async () => { redis = await startRedis() })
after(() => redis.stop())

afterEach(async () => {
  while (cleanUps.length > 0) await cleanUps.pop()()
  await redis.client.flushall()
})

async function start(kind, config = {}) {
  const server = await servers[kind]({
    redis: redis.uri, namespace: NAMESPACE, sync: { enabled: true }, authentication: { storeConnectedUsers: true }, ...config
  })
  cleanUps.push(() => server.stop())
  return server
}

// A connection that remembers what it gets.
async function join(server) {
  const inbox = new Inbox()
  const ws = new WebSocket(server.url)
  ws.on('message', data => inbox.push(JSON.parse(data)))
  ws.on('error', () => {})
  const closed = new Promise(resolve => ws.on('close', resolve))
  cleanUps.push(() => ws.terminate())
  await inbox.take(frame => frame.op === 10)
  return { inbox, ws, closed, send: frame => ws.send(JSON.stringify(frame)) }
}

async function login(server, id) {
  const member = await join(server)
  member.send({ op: 2, d: { id } })
  await member.inbox.take(frame => frame.op === 22)
  await until(() => redis.client.sismember(`connected_clients_${NAMESPACE}`, id))
  return member
}

async function until(condition, ms = 5000) {
  const deadline = Date.now() + ms
  while (!await condition()) {
    if (Date.now() > deadline) throw new Error(`never came true: ${condition}`)
    await new Promise(done => setTimeout(done, 10))
  }
}

const dispatchers = {
  // Each dispatches a list of { event?, t?, d?, to?, excluding? } in order.
  Node: async list => {
    const dispatcher = new Dispatcher(redis.uri, { namespace: NAMESPACE, sync: { enabled: true } })
    for (const { event, t, d = {}, o, to, excluding } of list) {
      dispatcher.dispatch(event ? new DispatchEvent(event) : new Message(0, d, t, o), to, excluding)
      await dispatcher.redis.ping() // it does not keep messages in order by itself
      await dispatcher.redis.ping()
      await dispatcher.redis.ping()
      await dispatcher.publisher.ping()
    }
    dispatcher.redis.disconnect()
    dispatcher.publisher.disconnect()
  },
  Lua: list => startProgram(redis.uri, `
    local list = Mesa.json.decode ${JSON.stringify(JSON.stringify(list))}
    local dispatcher = Mesa.Dispatcher(uri, { namespace = "${NAMESPACE}", sync = { enabled = true } })
    for _, item in ipairs(list) do
      local event = item.event and Mesa.DispatchEvent(item.event) or Mesa.Message(0, item.d or {}, item.t, item.o)
      dispatcher:dispatch(event, item.to, item.excluding)
    end
  `).ended()
}

for (const [dispatcher, kind] of [['Node', 'mesa-lua'], ['Lua', 'Node'], ['Lua', 'mesa-lua']]) {
  describe(`a dispatcher of ${dispatcher} and a server of ${kind}`, () => {
    const dispatch = list => dispatchers[dispatcher](list)

    it('sends to ids, to everybody, and not to the excluded', async () => {
      const server = await start(kind)
      const [ann, bob] = [await login(server, 'ann'), await login(server, 'bob')]
      const guest = await join(server)
      await dispatch([
        { t: 'BOTH', d: { list: [], nested: { a: null } }, to: ['ann', 'bob'] },
        { t: 'BOB', to: ['ann', 'bob'], excluding: ['ann'] },
        { t: 'ALL', d: { end: true }, to: ['*'] },
        { t: 'ALL_TOO' }
      ])
      assert.deepEqual((await ann.inbox.take()).d, { list: [], nested: { a: null } })
      assert.equal((await ann.inbox.take()).t, 'ALL')
      assert.equal((await ann.inbox.take()).t, 'ALL_TOO')
      for (const type of ['BOTH', 'BOB', 'ALL', 'ALL_TOO']) assert.equal((await bob.inbox.take()).t, type)
      assert.deepEqual(await guest.inbox.take(), { op: 0, d: { end: true }, t: 'ALL' })
    })

    if (dispatcher === 'Lua' && kind === 'mesa-lua') {
      it('sends to everybody but some', async () => {
        const server = await start(kind)
        const [ann, bob, guest] = [await login(server, 'ann'), await login(server, 'bob'), await join(server)]
        await dispatch([{ t: 'NOT_ANN', to: ['*'], excluding: ['ann'] }, { t: 'ALL' }])
        assert.equal((await ann.inbox.take()).t, 'ALL')
        assert.equal((await bob.inbox.take()).t, 'NOT_ANN')
        assert.equal((await guest.inbox.take()).t, 'NOT_ANN')
      })
    }

    it('disconnects', async () => {
      const server = await start(kind)
      const [ann, bob] = [await login(server, 'ann'), await login(server, 'bob')]
      await dispatch([{ event: 'DISCONNECT_CLIENT', to: ['ann'] }])
      assert.ok([1000, 1005].includes(await ann.closed)) // Node closes without a code
      await dispatch([{ t: 'STILL', to: ['bob'] }])
      await bob.inbox.ofType('STILL')
    })

    it('stores for those who are offline, who get it when they log in', async () => {
      const server = await start(kind)
      await login(server, 'ann')
      await dispatch([1, 2, 3].map(n => ({ t: 'MISSED', d: { n }, to: ['ann', 'bob'] })))
      await dispatch([{ t: 'TYPING', to: ['bob'], o: { sync: false } }])
      await until(async () => (await redis.client.hget(`undelivered_messages_${NAMESPACE}`, 'bob'))?.includes('"n":3'))
      const bob = await login(server, 'bob')
      for (const n of [1, 2, 3]) {
        const frame = await bob.inbox.ofType('MISSED')
        assert.deepEqual([frame.d, frame.s], [{ n }, n])
      }
      await until(async () => !await redis.client.hexists(`undelivered_messages_${NAMESPACE}`, 'bob'))
      assert.ok(!bob.inbox.items.some(frame => frame.t === 'TYPING'))
    })
  })
}

it('dispatchers of both libraries append to the same store', async () => {
  await dispatchers.Node([{ t: 'M', d: { n: 1 }, to: ['bob'] }])
  await dispatchers.Lua([{ t: 'M', d: { n: 2 }, to: ['bob'] }])
  await dispatchers.Node([{ t: 'M', d: { n: 3 }, to: ['bob'] }])
  await dispatchers.Lua([{ t: 'M', d: { n: 4 }, to: ['bob'] }])
  const stored = JSON.parse(await redis.client.hget(`undelivered_messages_${NAMESPACE}`, 'bob'))
  assert.deepEqual(stored.map(({ op, d, t }) => ({ op, d, t })), [1, 2, 3, 4].map(n => ({ op: 0, d: { n }, t: 'M' })))
})

const pool = `available_portals_pool_${NAMESPACE}`

// Portals whose events end up in an inbox as [type, id, opcode, message type, data].
const portals = {
  Node: async () => {
    const events = new Inbox()
    const portal = new Portal(redis.uri, { namespace: NAMESPACE })
    for (const type of ['connection', 'authentication', 'disconnection'])
      portal.on(type, id => events.push([type, id ?? null]))
    portal.on('message', (message, id) => events.push(['message', id ?? null, message.opcode, message.type ?? null, message.data]))
    cleanUps.push(async () => {
      for (const connection of [portal.redis, portal.publisher, portal.subscriber]) connection.disconnect()
    })
    await until(() => redis.client.sismember(pool, portal.id))
    return { events, id: portal.id }
  },
  Lua: async () => {
    const program = startProgram(redis.uri, `
      local portal = Mesa.Portal(uri, { namespace = "${NAMESPACE}" })
      local function show(...)
        local list = Mesa.array { ... }
        for i = 1, select("#", ...) do if list[i] == nil then list[i] = Mesa.null end end
        print(Mesa.json.encode(list))
      end
      print(Mesa.json.encode { portal.id })
      for _, kind in ipairs { "connection", "authentication", "disconnection" } do
        portal:on(kind, function(id) show(kind, id) end)
      end
      portal:on("message", function(message, id) show("message", id, message.opcode, message.type, message.data) end)
    `)
    cleanUps.push(() => program.stop())
    const [id] = JSON.parse(await program.lines.take())
    await until(() => redis.client.sismember(pool, id))
    const take = matches => program.lines.take(line => matches(JSON.parse(line))).then(JSON.parse)
    return { events: { take, get items() { return program.lines.items.map(JSON.parse) } }, id, program }
  }
}

for (const [portalKind, kind] of [['Node', 'mesa-lua'], ['Lua', 'Node'], ['Lua', 'mesa-lua']]) {
  describe(`a portal of ${portalKind} and a server of ${kind}`, () => {
    const config = { portal: { enabled: true } }

    async function visit(server) {
      const ann = await login(server, 'ann')
      ann.send({ op: 0, t: 'ECHO', d: { list: [], n: 1 } })
      ann.ws.close()
    }

    async function seeVisit({ events }) {
      const take = type => events.take(event => event[0] === type)
      assert.deepEqual(await take('connection'), ['connection', null])
      assert.deepEqual(await take('authentication'), ['authentication', 'ann'])
      assert.deepEqual(await take('message'), ['message', 'ann', 0, 'ECHO', { list: [], n: 1 }])
      assert.deepEqual(await take('disconnection'), ['disconnection', 'ann'])
    }

    it('reports what happens when it was there first', async () => {
      const portal = await portals[portalKind]()
      const server = await start(kind, config)
      await new Promise(done => setTimeout(done, 200)) // the server reads the pool
      await visit(server)
      await seeVisit(portal)
    })

    it('reports what happens when the server was there first', async () => {
      const server = await start(kind, config)
      await login(server, 'first') // the server listens to Redis
      const portal = await portals[portalKind]()
      await new Promise(done => setTimeout(done, 100)) // the news of the portal
      await visit(server)
      await seeVisit(portal)
    })
  })
}

it('a server of mesa-lua takes portals of both libraries in turn', async () => {
  const both = [await portals.Node(), await portals.Lua()]
  const server = await start('mesa-lua', { portal: { enabled: true } })
  await new Promise(done => setTimeout(done, 200))
  const ann = await login(server, 'ann')
  for (let n = 1; n <= 20; n++) ann.send({ op: 0, t: 'ECHO', d: { n } })
  const count = portal => portal.events.items.filter(event => event[0] === 'message').length
  await until(() => count(both[0]) + count(both[1]) === 20)
  assert.deepEqual(both.map(count), [10, 10])
})

it('a portal of Lua leaves the pool when its program is told to stop', async () => {
  const portal = await portals.Lua()
  assert.equal(await redis.client.sismember(pool, portal.id), 1)
  portal.program.child.kill('SIGTERM')
  await portal.program.ended()
  assert.equal(await redis.client.sismember(pool, portal.id), 0)
})
