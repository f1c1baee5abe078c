// PROTOCOL 9 (and the channels of 8 that belong to it) in a mixed cluster: portals.
const assert = require('node:assert/strict')
const { describe, it } = require('node:test')
const { Cluster, LUA, SERVERS, until, useRedis } = require('./cluster.cjs')
const { startPortal } = require('./programs.cjs')

const KINDS = ['Node', 'Lua']

const redis = useRedis()
let cluster

const start = (portal = { enabled: true }, each) => Cluster.start(redis, { namespace: 'walk', portal }, each)
const pool = () => redis.client.smembers('available_portals_pool_walk')

// Sends `count` messages to the server, which has handled them afterwards.
async function chatter(member, count, t = 'ECHO') {
  for (let n = 1; n <= count; n++) member.send({ op: 0, t, d: { n } })
  for (let n = 1; n <= count; n++) await member.type(t === 'ECHO' ? 'ECHO' : 'GOT')
}

const heard = (portal, t = 'ECHO') => portal.events.filter(event => event[0] === 'message' && event[3] === t).length

// A user comes, says all kinds of things and leaves.
async function visit(at) {
  const guest = await cluster.join(at)
  const ann = await cluster.login(at, 'ann')
  ann.send({ op: 0, t: 'ECHO', d: { list: [], nothing: null } })
  ann.send({ op: 33, d: 'other' })
  ann.send({ op: 11, d: {} })
  ann.send({ op: 2, d: { id: 'ann' } })
  guest.send({ op: 0, t: 'HELLO', d: {} })
  await guest.type('GOT')
  await ann.op(0)
  await ann.op(0)
  await ann.leave()
  await cluster.offline('ann')
  await guest.leave()
}

const VISIT = [
  { type: 'connection' },
  { type: 'connection' },
  { type: 'authentication', clientId: 'ann' },
  { type: 'message', message: { op: 0, d: { list: [], nothing: null }, t: 'ECHO' }, clientId: 'ann' },
  { type: 'message', message: { op: 33, d: 'other' }, clientId: 'ann' },
  { type: 'authentication', clientId: 'ann' },
  { type: 'message', message: { op: 0, d: {}, t: 'HELLO' } },
  { type: 'disconnection', clientId: 'ann' },
  { type: 'disconnection' }
]

// What happens to the user and to the guest comes in no certain order, and so do the keys of an object.
function canonical(value) {
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonical)}]`
  return `{${Object.keys(value).sort().map(key => `${JSON.stringify(key)}:${canonical(value[key])}`)}}`
}
const sorted = updates => updates.map(canonical).sort()

describe('9 `portal.enabled`', () => {
  for (const at of SERVERS)
    it(`connections, authentications, messages (op 0 and unknown ops) and disconnections at ${at} are published in the form of 8`, async () => {
      cluster = await start()
      const portal = await startPortal('Node', cluster)
      const channel = await cluster.watch('portal')
      await visit(at)
      const updates = []
      for (let n = 0; n < VISIT.length; n++) updates.push(await channel.take())
      assert.deepEqual(sorted(updates), sorted(VISIT.map(update => ({ ...update, portalId: portal.id }))))
      await cluster.settle()
      assert.deepEqual(channel.items.filter(update => update.message?.t !== 'SEND'), [])
    })

  for (const kind of KINDS)
    for (const at of SERVERS)
      it(`a portal of ${kind} is told what happens at ${at}`, async () => {
        cluster = await start()
        const portal = await startPortal(kind, cluster)
        await visit(at)
        await until(() => portal.events.filter(([type]) => type === 'disconnection').length === 2)
        const events = portal.events.filter(event => event[3] !== 'SEND')
        assert.deepEqual(sorted(events), sorted([
          ['connection', null], ['connection', null], ['authentication', 'ann'], ['message', 'ann', 0, 'ECHO', { list: [], nothing: null }],
          ['message', 'ann', 33, null, 'other'], ['authentication', 'ann'], ['message', null, 0, 'HELLO', {}],
          ['disconnection', 'ann'], ['disconnection', null]
        ]))
      })

  it('heartbeats are no messages for portals of mesa-lua', async () => {
    cluster = await start()
    const portal = await startPortal('Node', cluster)
    for (const at of LUA) {
      const guest = await cluster.join(at)
      guest.send({ op: 1, d: {} })
      await guest.op(11)
      guest.send({ op: 11, d: {} })
      await chatter(guest, 1)
    }
    await until(() => heard(portal) === 2)
    assert.ok(portal.events.every(event => event[0] !== 'message' || event[2] === 0))
  })

  it('without it nothing is published, although there is a portal', async () => {
    cluster = await start({ enabled: false })
    await startPortal('Lua', cluster)
    const channel = await cluster.watch('portal')
    for (const at of SERVERS) await visit(at)
    await cluster.settle()
    assert.deepEqual(channel.items, [])
  })

  it('no portal: nothing is published', async () => {
    cluster = await start()
    const channel = await cluster.watch('portal')
    for (const at of SERVERS) await visit(at)
    await cluster.settle()
    assert.deepEqual(channel.items, [])
  })
})

describe('9 which portal', () => {
  for (const at of SERVERS)
    it(`${at} takes portals of both libraries in turn with \`distributeLoad\`, the default`, async () => {
      cluster = await start()
      const portals = [await startPortal('Node', cluster), await startPortal('Lua', cluster), await startPortal('Node', cluster)]
      const guest = await cluster.join(at)
      await chatter(guest, 30)
      await until(() => portals.every(portal => heard(portal) === 10))
      const turns = portals.map(portal => portal.events.filter(event => event[3] === 'ECHO').map(event => event[4].n % 3))
      for (const turn of turns) assert.equal(new Set(turn).size, 1) // every third message
    })

  for (const at of SERVERS)
    it(`${at} takes them at random without it`, async () => {
      cluster = await start({ enabled: true, distributeLoad: false })
      const portals = [await startPortal('Node', cluster), await startPortal('Lua', cluster)]
      const guest = await cluster.join(at)
      await chatter(guest, 100)
      await until(() => heard(portals[0]) + heard(portals[1]) === 100)
      const first = portals[0].events.filter(event => event[3] === 'ECHO').map(event => event[4].n % 2)
      assert.ok(first.length > 0 && first.length < 100) // all to one: once in 2^99 runs
      assert.equal(new Set(first).size, 2) // strictly in turn: the same
    })

  for (const kind of KINDS)
    it(`a portal of ${kind} with \`reportAllEvents\` also has what is for others`, async () => {
      cluster = await start()
      const all = await startPortal(kind, cluster, { reportAllEvents: true })
      const other = await startPortal(kind === 'Lua' ? 'Node' : 'Lua', cluster)
      for (const at of SERVERS) await chatter(await cluster.join(at), 10)
      await until(() => heard(all) === 30 && heard(other) === 15)
    })
})

describe('9 `available_portals_pool`', () => {
  for (const kind of KINDS)
    it(`is a set and a channel of {"id", "ready"}: a portal of ${kind} enters it, before and after the servers`, async () => {
      cluster = await start()
      const news = await cluster.watch('available_portals_pool')
      const portal = await startPortal(kind, cluster)
      assert.deepEqual(await news.take(), { id: portal.id, ready: true })
      assert.equal(await redis.client.type('available_portals_pool_walk'), 'set')
      assert.deepEqual(await pool(), [portal.id])
      for (const at of SERVERS) await chatter(await cluster.join(at), 1)
      await until(() => heard(portal) === 3)

      // Servers that start later find it in the set.
      const later = await start({ enabled: true }, { beside: true })
      for (const at of SERVERS) {
        const guest = await later.join(at)
        await until(async () => { // they read it when they have come up
          await chatter(guest, 1, at)
          return heard(portal, at) > 0
        })
      }
    })

  it('a portal of Lua that is told to stop leaves it, and every server goes on with the others', async () => {
    cluster = await start()
    const leaving = await startPortal('Lua', cluster)
    const staying = await startPortal('Node', cluster)
    const news = await cluster.watch('available_portals_pool')
    await leaving.end('SIGTERM')
    assert.deepEqual(await news.take(), { id: leaving.id, ready: false })
    assert.deepEqual(await pool(), [staying.id])
    await cluster.settle()
    for (const at of SERVERS) await chatter(await cluster.join(at), 10)
    await until(() => heard(staying) === 30)
  })

  // Node's portal sends the news of its end and exits before they are on their way: this is how it ends in order, too.
  for (const kind of KINDS)
    for (const signal of ['SIGKILL', ...kind === 'Node' ? ['SIGTERM'] : []])
      it(`a portal of ${kind} that ended by ${signal} does not stay in turn: mesa-lua takes it out for all servers`, { timeout: 60000 }, async () => {
        cluster = await start()
        const staying = await startPortal(kind === 'Node' ? 'Lua' : 'Node', cluster)
        const crashing = await startPortal(kind, cluster)
        await crashing.end(signal)
        await until(async () => (await pool()).length === 1, 30000) // a portal of Lua has a lease of 15 s
        assert.deepEqual(await pool(), [staying.id])
        await cluster.settle()
        for (const at of SERVERS) await chatter(await cluster.join(at), 10)
        await until(() => heard(staying) === 30)
      })
})
