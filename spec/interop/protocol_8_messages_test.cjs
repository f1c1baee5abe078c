// PROTOCOL 8 in a mixed cluster: names, the channel `ws`, and how messages reach their recipients.
const assert = require('node:assert/strict')
const { describe, it } = require('node:test')
const { Cluster, LUA, SERVERS, until, useRedis } = require('./cluster.cjs')
const { dispatchers, startPortal } = require('./programs.cjs')

const redis = useRedis()
let cluster

const COUNT = "server:use(function(self) local key = self:mapMiddlewareNamespace({ 'seen' }, 'metrics')[1] " +
  'return { onConnection = function() self.redis:incr(key) end } end)'

const NAMES = ['available_portals_pool', 'connected_clients', 'connected_clients_count', 'undelivered_messages']
const CHANNELS = ['available_portals_pool', 'portal', 'ws']

describe('8 names', () => {
  for (const namespace of [undefined, 'walk'])
    it(`\`X\` is ${namespace ? '`X_<namespace>` with a namespace' : '`X` without a namespace'}, and further keys are below \`mesa:\``, async () => {
      cluster = await Cluster.start(redis, { namespace, sync: { enabled: true }, portal: { enabled: true } })
      const portals = [await startPortal('Node', cluster), await startPortal('Lua', cluster)]
      const users = await cluster.loginAll()
      for (const [n, from] of SERVERS.entries()) {
        await cluster.send(from, { t: 'KEPT', d: { from } }, ['away'])
        await until(async () => (await cluster.stored('away'))?.length === n + 1) // Node may lose what others store meanwhile
      }
      await cluster.fence(...Object.values(users))
      const keys = (await redis.client.keys('*')).filter(key => !/^mesa:/.test(key)).sort()
      assert.deepEqual(keys, NAMES.map(name => cluster.key(name)).sort())
      const channels = (await redis.client.pubsub('CHANNELS', '*')).filter(name => !/^mesa:/.test(name)).sort()
      assert.deepEqual(channels, CHANNELS.map(name => cluster.key(name)))
      assert.equal(portals.length, await redis.client.scard(cluster.key('available_portals_pool')))
    })

  it('clusters of two namespaces on one Redis hear nothing of each other', async () => {
    cluster = await Cluster.start(redis, { namespace: 'one' })
    const other = await Cluster.start(redis, { namespace: 'two' })
    const users = await cluster.loginAll()
    for (const from of SERVERS) await other.send(from, { t: 'OTHER' })
    for (const from of SERVERS) await other.send(from, { t: 'OTHER' }, SERVERS)
    await other.settle()
    await cluster.fence(...Object.values(users))
    for (const at of SERVERS) assert.deepEqual(users[at].types, [])
    assert.deepEqual(await redis.client.smembers('connected_clients_two'), [])
    assert.equal(await redis.client.get('connected_clients_count_two'), '3')
    assert.equal(await redis.client.get('connected_clients_count_one'), '6')
  })

  for (const namespace of [undefined, 'walk'])
    it(`middleware: \`<prefix>_mw-<name>\`${namespace ? ' and then the namespace' : ''} is the same key for all servers`, async () => {
      cluster = await Cluster.start(redis, { namespace }, { node: { middleware: 'metrics' }, extra: COUNT })
      await cluster.loginAll()
      const key = namespace ? 'seen_mw-metrics_walk' : 'seen_mw-metrics'
      await until(async () => await redis.client.get(key) === '6') // the voices and the users
    })
})

describe('8 `ws`', () => {
  for (const from of SERVERS) {
    it(`{"message": {op,d,t}, "recipients": ["*"]} from ${from} reaches everybody once`, async () => {
      cluster = await Cluster.start(redis)
      const users = await cluster.loginAll()
      const guests = Object.fromEntries(await Promise.all(SERVERS.map(async at => [at, await cluster.join(at)])))
      const ws = await cluster.watch('ws')
      await cluster.send(from, { t: 'ALL', d: { n: 1 } })
      await cluster.send(from, { t: 'STAR', d: { n: 2 } }, ['*'])
      for (const [t, n] of [['ALL', 1], ['STAR', 2]]) {
        const { message, recipients } = await ws.take()
        assert.deepEqual({ message, recipients }, { message: { op: 0, d: { n }, t }, recipients: ['*'] })
      }
      const everybody = [...Object.values(users), ...Object.values(guests)]
      await cluster.fence(...everybody)
      for (const member of everybody) {
        assert.deepEqual(member.types, ['ALL', 'STAR'])
        assert.deepEqual(await member.type('ALL'), { op: 0, d: { n: 1 }, t: 'ALL' })
      }
      assert.equal(ws.items.length, 0)
    })

    it(`"recipients": [ids] from ${from} goes to these, once, and through \`ws\` once`, async () => {
      cluster = await Cluster.start(redis)
      const users = await cluster.loginAll()
      const ws = await cluster.watch('ws')
      const elsewhere = SERVERS.filter(at => at !== from)
      await cluster.send(from, { t: 'SOME', d: { n: 1 } }, [...SERVERS, elsewhere[0]])
      await cluster.send(from, { t: 'ONE' }, [elsewhere[1]])
      await cluster.send(from, { t: 'OWN' }, [from])
      await cluster.fence(...Object.values(users))
      assert.deepEqual(users[elsewhere[0]].types, ['SOME'])
      assert.deepEqual(users[elsewhere[1]].types, ['SOME', 'ONE'])
      assert.deepEqual(users[from].types, ['SOME', 'OWN'])
      const { message, recipients } = await ws.take()
      assert.deepEqual(message, { op: 0, d: { n: 1 }, t: 'SOME' })
      for (const id of elsewhere) assert.ok(recipients.includes(id))
      assert.deepEqual((await ws.take()).recipients, [elsewhere[1]])
      assert.ok(ws.items.every(item => item.message.t === 'OWN') && ws.items.length <= 1, JSON.stringify(ws.items))
    })

    it(`op, d and t from ${from} are what JSON can say`, async () => {
      cluster = await Cluster.start(redis)
      const users = await cluster.loginAll()
      const data = [
        { list: [], object: {}, nothing: null }, [], [[], {}], 'é😀/"\\\u0000', 9007199254740991, 0.1234567890123456, -1e-7, null, true,
        { deep: { er: [{ a: [1, { b: {} }] }] } }
      ]
      for (const d of data) await cluster.send(from, { t: 'DATA/"😀', d }, SERVERS)
      await cluster.send(from, { op: 33, t: 'OTHER_OP' })
      await cluster.send(from, { op: 7, d: { typeless: true } })
      for (const at of SERVERS) {
        for (const d of data) assert.deepEqual(await users[at].type('DATA/"😀'), { op: 0, d, t: 'DATA/"😀' })
        assert.deepEqual(await users[at].op(33), { op: 33, d: {}, t: 'OTHER_OP' })
        assert.deepEqual(await users[at].op(7), { op: 7, d: { typeless: true } })
      }
    })

    it(`"o" from ${from} stays inside`, async () => {
      cluster = await Cluster.start(redis)
      const users = await cluster.loginAll()
      await cluster.send(from, { t: 'WITH', o: { sync: false } }, SERVERS)
      await cluster.send(from, { t: 'WITH', o: { sync: true } })
      for (const at of SERVERS)
        for (let n = 0; n < 2; n++) assert.deepEqual(await users[at].type('WITH'), { op: 0, d: {}, t: 'WITH' })
    })

    it(`what ${from} sends keeps its order on the way to every server`, async () => {
      cluster = await Cluster.start(redis)
      const users = await cluster.loginAll()
      users[from].send({ op: 0, t: 'SEND_MANY', d: { count: 300, to: SERVERS, t: 'N' } })
      for (const at of SERVERS)
        for (let n = 1; n <= 300; n++) assert.equal((await users[at].type('N')).d.n, n)
    })
  }

  for (const kind of Object.keys(dispatchers))
    it(`from a dispatcher of ${kind}: {"message": {op,d,t,o?}, "recipients"}`, async () => {
      cluster = await Cluster.start(redis)
      const users = await cluster.loginAll()
      const ws = await cluster.watch('ws')
      await dispatchers[kind](cluster, [
        { t: 'TO', d: { a: [] }, to: SERVERS }, { t: 'STAR', o: { sync: false }, to: ['*'] }, { t: 'ALL', o: { sync: true } }
      ])
      assert.deepEqual(await ws.take(), { message: { op: 0, d: { a: [] }, t: 'TO' }, recipients: SERVERS })
      assert.deepEqual(await ws.take(), { message: { op: 0, d: {}, t: 'STAR', o: { sync: false } }, recipients: ['*'] })
      assert.deepEqual(await ws.take(), { message: { op: 0, d: {}, t: 'ALL', o: { sync: true } }, recipients: ['*'] })
      for (const at of SERVERS) {
        assert.deepEqual(await users[at].type('TO'), { op: 0, d: { a: [] }, t: 'TO' })
        assert.deepEqual(await users[at].type('STAR'), { op: 0, d: {}, t: 'STAR' })
        assert.deepEqual(await users[at].type('ALL'), { op: 0, d: {}, t: 'ALL' })
      }
    })

  it('mesa-lua adds fields, Node ignores them, and both ignore what a later version may add', async () => {
    cluster = await Cluster.start(redis, { sync: { enabled: true } })
    const users = await cluster.loginAll()
    const ws = await cluster.watch('ws')
    await cluster.send('lua1', { t: 'ORIGIN' }, SERVERS)
    assert.ok((await ws.take()).origin)
    await redis.client.publish('ws', JSON.stringify({
      origin: 'somebody', later: { version: [2] }, message: { op: 0, d: { n: 1 }, t: 'LATER', x: { y: 1 } }, recipients: SERVERS, more: 'fields'
    }))
    await redis.client.publish('ws', JSON.stringify({ message: { op: 0, t: 'BARE' }, recipients: ['*'] }))
    for (const at of SERVERS) {
      await users[at].type('ORIGIN')
      assert.deepEqual(await users[at].type('BARE'), { op: 0, t: 'BARE' })
      assert.deepEqual(await users[at].type('LATER'), { op: 0, d: { n: 1 }, t: 'LATER' })
    }
  })
})

describe('8 delivery', () => {
  it('a node of mesa-lua delivers its own messages to its own clients at once and skips the echo', async () => {
    cluster = await Cluster.start(redis)
    const users = await cluster.loginAll()
    const [own, guest] = [users.lua1, cluster.voices.lua1]
    redis.hang()
    try {
      for (const to of [undefined, SERVERS]) {
        await cluster.send('lua1', { t: 'AT_ONCE' }, to)
        await own.type('AT_ONCE')
      }
      await guest.type('AT_ONCE')
    } finally {
      redis.goOn()
    }
    await cluster.fence(...Object.values(users))
    for (const at of SERVERS) assert.deepEqual(users[at].types, ['AT_ONCE', 'AT_ONCE'])
    assert.deepEqual(guest.types, ['AT_ONCE'])
  })

  for (const from of LUA)
    it(`every connection of a user, on all servers, gets what ${from} sends, once`, async () => {
      cluster = await Cluster.start(redis)
      const many = []
      for (const at of ['lua1', 'lua1', 'lua2', 'node', 'lua2', 'node']) many.push(await cluster.login(at, 'ann'))
      await cluster.send(from, { t: 'HI' }, ['ann'])
      await cluster.fence(...many)
      for (const member of many) assert.deepEqual(member.types, ['HI'])
    })

  it('every connection of a user on mesa-lua gets what Node sends, once, where Node does not have the user itself', async () => {
    cluster = await Cluster.start(redis)
    const many = []
    for (const at of ['lua1', 'lua1', 'lua2']) many.push(await cluster.login(at, 'ann'))
    await cluster.send('node', { t: 'HI' }, ['ann'])
    await cluster.fence(...many)
    for (const member of many) assert.deepEqual(member.types, ['HI'])
    // Node tells nobody about those it has a connection of.
    const here = await cluster.login('node', 'ann')
    await cluster.send('node', { t: 'AGAIN' }, ['ann'])
    await cluster.fence(...many, here)
    assert.deepEqual(here.types, ['AGAIN'])
    for (const member of many) assert.deepEqual(member.types, ['HI'])
  })

  for (const from of LUA)
    it(`"excluding" makes {"*"} minus some ids work across mesa-lua nodes, from ${from}; Node's clients get all of it`, async () => {
      cluster = await Cluster.start(redis)
      const users = await cluster.loginAll()
      const ws = await cluster.watch('ws')
      for (const excluded of SERVERS) await cluster.send(from, { t: `NOT_${excluded}` }, undefined, [excluded])
      assert.deepEqual((await ws.take()).excluding, ['node'])
      await cluster.fence(...Object.values(users))
      assert.deepEqual(users.lua1.types, ['NOT_node', 'NOT_lua2'])
      assert.deepEqual(users.lua2.types, ['NOT_node', 'NOT_lua1'])
      assert.deepEqual(users.node.types, ['NOT_node', 'NOT_lua1', 'NOT_lua2'])
    })

  for (const from of SERVERS)
    it(`excluding takes ids out of a list of recipients, from ${from}`, async () => {
      cluster = await Cluster.start(redis)
      const users = await cluster.loginAll()
      for (const excluded of SERVERS) await cluster.send(from, { t: `NOT_${excluded}` }, SERVERS, [excluded])
      await cluster.fence(...Object.values(users))
      for (const at of SERVERS) assert.deepEqual(users[at].types, SERVERS.filter(name => name !== at).map(name => `NOT_${name}`))
    })

  it('`authentication.required` holds at mesa-lua for messages that arrive through Redis, whoever sends them', async () => {
    cluster = await Cluster.start(redis, { authentication: { required: true } })
    const users = await cluster.loginAll(), guests = {}
    for (const at of LUA) {
      cluster.voices[at] = await cluster.login(at, `voice of ${at}`) // mesa-lua answers no guest
      guests[at] = await cluster.join(at)
    }
    for (const from of SERVERS) await cluster.send(from, { t: `FROM_${from}` })
    await dispatchers.Node(cluster, [{ t: 'FROM_Node' }])
    await dispatchers.Lua(cluster, [{ t: 'FROM_Lua' }])
    await cluster.fence(...Object.values(users))
    const all = ['FROM_node', 'FROM_lua1', 'FROM_lua2', 'FROM_Node', 'FROM_Lua']
    for (const at of SERVERS) assert.deepEqual([...users[at].types].sort(), [...all].sort())
    for (const at of LUA) {
      // heartbeats are acknowledged; nothing else came, its own server's answer included
      guests[at].send({ op: 0, t: 'ECHO', d: {} })
      guests[at].send({ op: 1, d: {} })
      await guests[at].op(11)
      assert.deepEqual(guests[at].types, [])
    }
  })
})
