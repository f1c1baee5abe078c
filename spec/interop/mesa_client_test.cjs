// The client of @cryb/mesa 1.5.8, unmodified, against mesa-lua.
const assert = require('node:assert/strict')
const { afterEach, describe, it } = require('node:test')
const { Client, Message } = require('@cryb/mesa')
const { Inbox, enterFolderOfVersion, nextHeartbeat, startMesaLua } = require('./support.cjs')

enterFolderOfVersion('1.5.8')

describe('@cryb/mesa', { timeout: 60000 }, () => {
  let server
  const clients = []

  afterEach(async () => {
    for (const client of clients.splice(0)) {
      clearInterval(client.reconnectionInterval)
      client.reconnectionIntervalTime = undefined
      client.ws?.terminate()
    }
    await server.stop()
  })

  // Connected, hello taken in; client.inbox, client.closings and client.connections collect its events.
  async function connect(url = server.url) {
    const client = new Client(url, { autoConnect: false })
    clients.push(client)
    client.inbox = new Inbox()
    client.closings = new Inbox()
    client.connections = new Inbox()
    client.frames = new Inbox()
    client.on('message', message => client.inbox.push(message))
    client.on('disconnected', (code, reason, options) => client.closings.push({ code, reason, options }))
    client.on('connected', options => client.connections.push(options))
    client.on('error', () => {})
    const connected = client.connect()
    client.ws.on('message', data => client.frames.push(JSON.parse(data)))
    await connected
    client.hello = await client.frames.take(frame => frame.op === 10)
    return client
  }

  it('connects and reads hello', async () => {
    server = await startMesaLua({ heartbeat: { enabled: true, interval: 4321 }, reconnect: { enabled: true, interval: 8765 } })
    const client = await connect()
    assert.deepEqual(await client.connections.take(), {
      isInitialConnection: true, isInitialSessionConnection: true, isAutomaticReconnection: false
    })
    assert.equal(client.heartbeatIntervalTime, 4321)
    assert.equal(client.reconnectionIntervalTime, 8765)
    assert.equal(client.authenticationTimeout, 10000)
    assert.deepEqual(client.rules, ['sends_user_object'])
  })

  it('acknowledges heartbeats for 100 intervals', async () => {
    server = await startMesaLua({
      heartbeat: { enabled: true, interval: 30, maxAttempts: 5 }, authentication: { timeout: false }
    })
    const client = await connect()
    for (let n = 0; n < 100; n++) await nextHeartbeat(client)
    assert.equal(client.closings.items.length, 0)
  })

  it('authenticates and is given its user', async () => {
    server = await startMesaLua()
    const client = await connect()
    assert.deepEqual(await client.authenticate({ id: 'ann', user: { id: 'ann', name: 'Ann' } }), { id: 'ann', name: 'Ann' })
    assert.equal(client.authenticated, true)
  })

  it('is closed with 1008 when it is refused', async () => {
    server = await startMesaLua()
    const client = await connect()
    client.authenticate({ refuse: 'no' })
    assert.equal((await client.closings.take()).code, 1008)
  })

  it('sends and receives', async () => {
    server = await startMesaLua()
    const client = await connect()
    const data = { text: 'hé 😀 / "quoted"', list: [1, 2.5, null, true, []], empty: {}, big: 9007199254740991 }
    client.send(new Message(0, data, 'ECHO'))
    const answer = await client.inbox.ofType('ECHO')
    assert.equal(answer.opcode, 0)
    assert.deepEqual(answer.data, data)
    assert.equal(answer.sequence, undefined)
  })

  it('exchanges 1,000 messages in order', async () => {
    server = await startMesaLua()
    const client = await connect()
    for (let n = 1; n <= 1000; n++) client.send(new Message(0, { n }, 'ECHO'))
    for (let n = 1; n <= 1000; n++) assert.equal((await client.inbox.ofType('ECHO')).data.n, n)
  })

  it('is given what it missed, numbered, and not with shouldSync false', async () => {
    server = await startMesaLua({ sync: { enabled: true } })
    const sender = await connect()
    const keep = async n => {
      sender.send(new Message(0, { to: ['bob'], message: { t: 'KEPT', d: { n } } }, 'SEND'))
      await sender.inbox.ofType('SENT')
    }
    await keep(1)
    await keep(2)
    const bob = await connect()
    await bob.authenticate({ id: 'bob' })
    for (const n of [1, 2]) {
      const message = await bob.inbox.ofType('KEPT')
      assert.deepEqual([message.data.n, message.sequence], [n, n])
    }
    bob.disconnect()
    await bob.closings.take()
    await keep(3)
    const again = await connect()
    await again.authenticate({ id: 'bob' }, { shouldSync: false })
    again.send(new Message(0, {}, 'ECHO'))
    await again.inbox.ofType('ECHO')
    assert.equal(again.inbox.items.length, 0)
  })

  it('obeys the rule store_messages', async () => {
    server = await startMesaLua({ options: { storeMessages: true } })
    const client = await connect()
    client.send(new Message(0, { n: 1 }, 'ECHO'))
    await client.inbox.ofType('ECHO')
    assert.deepEqual(client.rules, ['store_messages', 'sends_user_object'])
    assert.deepEqual(client.messages.sent.map(message => message.type), ['ECHO'])
    assert.deepEqual(client.messages.received.map(message => message.type), ['ECHO'])
  })

  it('passes the rule enforce_equal_versions with its own version', async () => {
    server = await startMesaLua({ client: { enforceEqualVersions: true } })
    const client = await connect()
    client.send(new Message(0, { n: 1 }, 'ECHO'))
    await client.inbox.ofType('ECHO')
    assert.equal(client.closings.items.length, 0)
  })

  it('is closed with 1002 by a server of another version', async () => {
    server = await startMesaLua({ client: { enforceEqualVersions: true, version: '2.0.0' } })
    const client = await connect()
    assert.equal((await client.closings.take()).code, 1002)
  })

  it('comes back by itself after the server restarted on the same port', async () => {
    const config = { reconnect: { enabled: true, interval: 100 } }
    server = await startMesaLua(config)
    const client = await connect()
    await client.connections.take()
    const { port } = server
    await server.stop()
    const closing = await client.closings.take()
    assert.equal(closing.code, 1001)
    assert.equal(closing.options.willAttemptReconnect, true)
    server = await startMesaLua({ ...config, port })
    assert.deepEqual(await client.connections.take(), {
      isInitialConnection: false, isInitialSessionConnection: false, isAutomaticReconnection: true
    })
    client.send(new Message(0, { n: 1 }, 'ECHO'))
    await client.inbox.ofType('ECHO')
  })

  it('disconnects with a code, and is disconnected with one', async () => {
    server = await startMesaLua()
    const first = await connect()
    first.disconnect(4321, 'bye')
    assert.equal((await first.closings.take()).code, 4321)
    const second = await connect()
    second.send(new Message(0, { code: 4322, reason: 'out' }, 'DISCONNECT'))
    const closing = await second.closings.take()
    assert.equal(closing.code, 4322)
    assert.equal(String(closing.reason), 'out')
  })
})
