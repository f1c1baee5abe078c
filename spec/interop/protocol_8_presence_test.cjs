// PROTOCOL 8 in a mixed cluster: `connected_clients` and `connected_clients_count`.
const assert = require('node:assert/strict')
const { describe, it } = require('node:test')
const { Cluster, LUA, SERVERS, until, useRedis } = require('./cluster.cjs')

const VOICES = SERVERS.length // one guest at each server

const redis = useRedis()
let cluster

const ids = async () => (await redis.client.smembers(cluster.key('connected_clients'))).sort()
const count = () => redis.client.get(cluster.key('connected_clients_count'))

// Waits until these users are online, with so many connections besides the voices.
async function expectPresence(users, connections) {
  const wanted = JSON.stringify([[...users].sort(), String(connections + VOICES)])
  let found
  await until(async () => (found = JSON.stringify([await ids(), await count()])) === wanted)
    .catch(() => assert.fail(`expected ${wanted}, found ${found}`))
}

describe('8 `connected_clients`', () => {
  it('is the set of the ids of users online anywhere', async () => {
    cluster = await Cluster.start(redis, { namespace: 'walk' })
    const users = {}
    for (const at of SERVERS) {
      users[at] = await cluster.login(at, at)
      assert.equal(await redis.client.type('connected_clients_walk'), 'set')
    }
    await expectPresence(SERVERS, 3)
    const left = [...SERVERS]
    for (const at of SERVERS) {
      await users[at].leave()
      left.shift()
      await expectPresence(left, left.length)
    }
  })

  it('is not kept without `authentication.storeConnectedUsers`', async () => {
    cluster = await Cluster.start(redis, { authentication: { storeConnectedUsers: false } })
    for (const at of SERVERS) await cluster.login(at, at)
    await expectPresence([], 3)
    await cluster.settle()
    assert.deepEqual(await ids(), [])
  })

  it('survives many connections of a user, on one node and on several', async () => {
    cluster = await Cluster.start(redis)
    const many = []
    for (const at of ['lua1', 'lua2', 'lua1', 'lua2']) many.push(await cluster.login(at, 'ann'))
    const witness = await cluster.login('node', 'witness')
    while (many.length > 1) {
      await many.shift().leave()
      await expectPresence(['ann', 'witness'], many.length + 1)
      await cluster.send('node', { t: `LEFT_${many.length}` }, ['ann'])
      await many[0].type(`LEFT_${many.length}`)
    }
    await many[0].leave()
    await expectPresence(['witness'], 1)
    await witness.leave()
    await expectPresence([], 0)
  })

  it('has a user again whom Node took out although mesa-lua has a connection, at the next refresh of the lease', async () => {
    cluster = await Cluster.start(redis)
    const here = await cluster.login('lua1', 'ann')
    const there = await cluster.login('node', 'ann')
    await there.leave()
    await until(async () => await count() === String(VOICES + 1))
    await expectPresence(['ann'], 1)
    await here.leave()
    await expectPresence([], 0)
  })
})

describe('8 `connected_clients_count`', () => {
  it('is the number of connections, authenticated or not, as a string', async () => {
    cluster = await Cluster.start(redis, { namespace: 'walk' })
    await expectPresence([], 0)
    assert.equal(await redis.client.type('connected_clients_count_walk'), 'string')
    const members = []
    for (const at of SERVERS) members.push(await cluster.join(at), await cluster.login(at, at), await cluster.login(at, at))
    await expectPresence(SERVERS, 9)
    for (const member of members) await member.leave()
    await expectPresence([], 0)
  })
})

describe('8 crashed nodes', () => {
  it('the surviving mesa-lua node removes what a dead one held, count included, and leaves what Node holds', async () => {
    cluster = await Cluster.start(redis, { sync: { enabled: true } })
    await cluster.login('node', 'nora')
    await cluster.login('lua2', 'bert')
    await cluster.login('lua2', 'both')
    for (const id of ['a1', 'a2', 'a3', 'both']) await cluster.login('lua1', id)
    await cluster.join('lua1')
    await expectPresence(['a1', 'a2', 'a3', 'bert', 'both', 'nora'], 8)
    await cluster.kill('lua1')
    await expectPresence(['bert', 'both', 'nora'], 3 - 1) // its voice is gone, too
    assert.deepEqual((await redis.client.keys('mesa:users:*')).length, 1)
  })

  for (const from of ['node', 'lua2'])
    it(`what ${from} sends to users of a node that died is stored once its lease has ended, and delivered by whoever has them next`, async () => {
      cluster = await Cluster.start(redis, { sync: { enabled: true } })
      await cluster.login('lua1', 'ann')
      await cluster.kill('lua1')
      await cluster.offline('ann')
      for (const n of [1, 2]) {
        await cluster.send(from, { t: 'LATER', d: { n } }, ['ann'])
        await until(async () => (await cluster.stored('ann'))?.length === n)
      }
      const back = await cluster.login(from === 'node' ? 'lua2' : 'node', 'ann')
      for (const n of [1, 2]) assert.deepEqual(await back.type('LATER'), { op: 0, d: { n }, t: 'LATER', s: n })
    })

  for (const name of LUA)
    it(`${name} takes what it held with it when it is told to stop`, async () => {
      cluster = await Cluster.start(redis)
      for (const at of SERVERS) await cluster.login(at, at)
      await cluster.servers[name].stop()
      cluster.servers[name].killed = true
      const left = SERVERS.filter(at => at !== name)
      // not one lease later, but before its process has ended
      assert.deepEqual(await ids(), [...left].sort())
      assert.equal(await count(), String(VOICES - 1 + 2))
    })

  it('a Node server that died has no lease: the others keep to what it has left', async () => {
    cluster = await Cluster.start(redis)
    for (const at of SERVERS) await cluster.login(at, at)
    await cluster.kill('node')
    const second = await cluster.login('lua1', 'second')
    await second.leave()
    await cluster.offline('second')
    await expectPresence(['lua1', 'lua2', 'node'], 3)
    // when such a user comes and goes, the id is right again
    const back = await cluster.login('lua2', 'node')
    await back.leave()
    await expectPresence(['lua1', 'lua2'], 3)
  })
})
