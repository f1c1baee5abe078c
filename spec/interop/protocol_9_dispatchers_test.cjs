// PROTOCOL 9 in a mixed cluster: dispatchers and DispatchEvent.
const assert = require('node:assert/strict')
const { describe, it } = require('node:test')
const { Cluster, LUA, SERVERS, useRedis } = require('./cluster.cjs')
const { dispatchers } = require('./programs.cjs')

const redis = useRedis()
let cluster

for (const [kind, dispatch] of Object.entries(dispatchers))
  describe(`9 a dispatcher of ${kind}`, () => {
    it('publishes to `ws`: to ids, to {"*"}, to everybody by default, to users and to guests of every server', async () => {
      cluster = await Cluster.start(redis, { namespace: 'walk' })
      const users = await cluster.loginAll()
      const ws = await cluster.watch('ws')
      await dispatch(cluster, [{ t: 'TWO', to: ['node', 'lua2'] }, { t: 'STAR', to: ['*'] }, { t: 'ALL' }, { op: 40, d: 'other', t: 'OP' }])
      for (const recipients of [['node', 'lua2'], ['*'], ['*'], ['*']]) assert.deepEqual((await ws.take()).recipients, recipients)
      for (const at of SERVERS) {
        assert.deepEqual(await users[at].op(40), { op: 40, d: 'other', t: 'OP' })
        await cluster.voices[at].op(40)
        assert.deepEqual(cluster.voices[at].types, ['STAR', 'ALL'])
      }
      await cluster.fence(...Object.values(users))
      assert.deepEqual(SERVERS.map(at => users[at].types), [['TWO', 'STAR', 'ALL'], ['STAR', 'ALL'], ['TWO', 'STAR', 'ALL']])
    })

    it('with `sync.enabled` stores for the offline like a server does, and publishes to the rest', async () => {
      cluster = await Cluster.start(redis, { namespace: 'walk', sync: { enabled: true } })
      const users = await cluster.loginAll()
      await dispatch(cluster, [1, 2].map(n => ({ t: 'KEPT', d: { n }, to: [...SERVERS, 'away'] })), { sync: true })
      await dispatch(cluster, [
        { t: 'LOST', o: { sync: false }, to: ['away', 'node'] }, { t: 'ALL', to: ['*'] }, { t: 'ALL' }, { event: 'DISCONNECT_CLIENT', to: ['away'] }
      ], { sync: true })
      for (const at of SERVERS)
        for (const n of [1, 2]) assert.deepEqual(await users[at].type('KEPT'), { op: 0, d: { n }, t: 'KEPT' })
      await cluster.fence(...Object.values(users))
      assert.deepEqual(await cluster.stored('away'), [1, 2].map(n => ({ op: 0, d: { n }, t: 'KEPT' })))
      assert.deepEqual(await redis.client.hkeys('undelivered_messages_walk'), ['away'])
    })

    it('without it stores nothing', async () => {
      cluster = await Cluster.start(redis, { namespace: 'walk', sync: { enabled: true } })
      const users = await cluster.loginAll()
      await dispatch(cluster, [{ t: 'ONLINE', to: [...SERVERS, 'away'] }])
      for (const at of SERVERS) await users[at].type('ONLINE')
      await cluster.fence(...Object.values(users))
      assert.equal(await redis.client.exists('undelivered_messages_walk'), 0)
    })

    it('`DispatchEvent("DISCONNECT_CLIENT")` is op 5, and closes the recipients with 1000', async () => {
      cluster = await Cluster.start(redis, { namespace: 'walk' })
      const users = await cluster.loginAll()
      const second = await cluster.login('lua2', 'lua1')
      const ws = await cluster.watch('ws')
      await dispatch(cluster, [{ event: 'DISCONNECT_CLIENT', to: ['lua1', 'node'] }])
      const { message, recipients } = await ws.take()
      assert.deepEqual({ message, recipients }, { message: { op: 5, d: {}, t: 'DISCONNECT_CLIENT' }, recipients: ['lua1', 'node'] })
      for (const member of [users.lua1, second, users.node]) assert.equal(await member.closed, 1000)
      await cluster.fence(users.lua2)
      for (const member of Object.values(users)) assert.deepEqual(member.types, []) // op 5 is not for clients to see
      await dispatch(cluster, [{ event: 'DISCONNECT_CLIENT' }])
      assert.equal(await users.lua2.closed, 1000)
      for (const at of SERVERS) assert.equal(await cluster.voices[at].closed, 1000)
    })

    it('`excluding` removes ids from the recipient list', async () => {
      cluster = await Cluster.start(redis, { namespace: 'walk' })
      const users = await cluster.loginAll()
      const ws = await cluster.watch('ws')
      for (const at of SERVERS) await dispatch(cluster, [{ t: `NOT_${at}`, to: SERVERS, excluding: [at] }])
      for (const at of SERVERS) assert.deepEqual((await ws.take()).recipients, SERVERS.filter(name => name !== at))
      await cluster.fence(...Object.values(users))
      for (const at of SERVERS) assert.deepEqual(users[at].types, SERVERS.filter(name => name !== at).map(name => `NOT_${name}`))
    })
  })

describe('9 op 5 from servers', () => {
  for (const from of SERVERS)
    it(`of the type DISCONNECT_CLIENT closes the recipients with 1000, wherever they are, sent by ${from}`, async () => {
      cluster = await Cluster.start(redis, { namespace: 'walk' })
      const users = await cluster.loginAll()
      for (const at of SERVERS) {
        await cluster.send(from, { op: 5, t: 'DISCONNECT_CLIENT' }, [at])
        assert.equal(await users[at].closed, 1000)
        assert.deepEqual(users[at].types, [])
      }
      await cluster.settle()
    })

  it('of another type is nothing that clients see', async () => {
    cluster = await Cluster.start(redis, { namespace: 'walk' })
    const users = await cluster.loginAll()
    await cluster.send('node', { op: 5, t: 'SOMETHING' })
    await cluster.send('node', { op: 5, t: 'SOMETHING' }, SERVERS)
    await cluster.fence(...Object.values(users))
    for (const at of SERVERS) assert.ok(users[at].frames.every(frame => frame.op !== 5))
  })
})

it('9 a dispatcher of Lua with {"*"} and `excluding` spares the excluded at mesa-lua', async () => {
  cluster = await Cluster.start(redis, { namespace: 'walk' })
  const users = await cluster.loginAll()
  await dispatchers.Lua(cluster, SERVERS.map(at => ({ t: `NOT_${at}`, to: ['*'], excluding: [at] })))
  await cluster.fence(...Object.values(users))
  for (const at of LUA) assert.deepEqual(users[at].types, SERVERS.filter(name => name !== at).map(name => `NOT_${name}`))
})
