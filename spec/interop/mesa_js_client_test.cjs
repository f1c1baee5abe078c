// mesa-js-client 1.4.8, unmodified, against mesa-lua: the browser's client, with the WebSocket of `ws` in the browser's place.
const assert = require('node:assert/strict')
const { afterEach, describe, it } = require('node:test')
globalThis.WebSocket = require('ws') // the client looks for it when it is loaded
const MesaClient = require('mesa-js-client')
const { Inbox, nextHeartbeat, startMesaLua } = require('./support.cjs')

describe('mesa-js-client', { timeout: 60000 }, () => {
  let server
  const clients = []

  afterEach(async () => {
    for (const client of clients.splice(0)) {
      client.disconnect()
      client.ws?.terminate()
    }
    await server.stop()
  })

  async function connect() {
    const client = new MesaClient(server.url, { autoConnect: false })
    clients.push(client)
    client.inbox = new Inbox()
    client.closings = new Inbox()
    client.connections = new Inbox()
    client.frames = new Inbox()
    client.onMessage = message => client.inbox.push(message)
    client.onDisconnected = (code, reason, options) => client.closings.push({ code, reason, options })
    client.onConnected = options => client.connections.push(options)
    client.onError = () => {}
    const connected = client.connect()
    client.ws.addEventListener('message', ({ data }) => client.frames.push(JSON.parse(data)))
    await connected
    await client.frames.take(frame => frame.op === 10)
    return client
  }

  it('connects and reads hello', async () => {
    server = await startMesaLua({ reconnect: { enabled: true, interval: 8765 } })
    const client = await connect()
    assert.equal((await client.connections.take()).isInitialConnection, true)
    assert.equal(client.reconnectionIntervalTime, 8765)
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
    assert.deepEqual(await client.authenticate({ id: 'ann', user: { name: 'Ann' } }), { name: 'Ann' })
    assert.equal(client.authenticated, true)
  })

  it('authenticates without a user object when the server sends none', async () => {
    server = await startMesaLua({ authentication: { sendUserObject: false } })
    const client = await connect()
    assert.equal(await client.authenticate({ id: 'ann' }), undefined)
    assert.deepEqual(client.rules, [])
  })

  it('sends and receives', async () => {
    server = await startMesaLua()
    const client = await connect()
    client.send(0, { text: 'hé 😀', list: [] }, 'ECHO')
    const answer = await client.inbox.ofType('ECHO')
    assert.deepEqual(answer, { opcode: 0, data: { text: 'hé 😀', list: [] }, type: 'ECHO' })
  })

  it('is given what it missed, numbered', async () => {
    server = await startMesaLua({ sync: { enabled: true } })
    const sender = await connect()
    sender.send(0, { to: ['bob'], message: { t: 'KEPT', d: { n: 1 } } }, 'SEND')
    await sender.inbox.ofType('SENT')
    const bob = await connect()
    await bob.authenticate({ id: 'bob' })
    assert.equal((await bob.inbox.ofType('KEPT')).sequence, 1)
  })

  it('obeys the rule store_messages', async () => {
    server = await startMesaLua({ options: { storeMessages: true } })
    const client = await connect()
    client.send(0, { n: 1 }, 'ECHO')
    await client.inbox.ofType('ECHO')
    assert.deepEqual(client.messages.sent.map(message => message.t), ['ECHO'])
    assert.deepEqual(client.messages.received.map(message => message.t), ['ECHO'])
  })

  it('passes the rule enforce_equal_versions with the version it says it has', async () => {
    server = await startMesaLua({ client: { enforceEqualVersions: true, version: '1.5.3' } })
    const client = await connect()
    client.send(0, { n: 1 }, 'ECHO')
    await client.inbox.ofType('ECHO')
    assert.equal(client.closings.items.length, 0)
  })

  it('is closed with 1002 by a server of another version', async () => {
    server = await startMesaLua({ client: { enforceEqualVersions: true } })
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
    assert.equal((await client.connections.take()).isAutomaticReconnection, true)
    client.send(0, { n: 1 }, 'ECHO')
    await client.inbox.ofType('ECHO')
  })

  it('reports a refused authentication as a disconnection with 1008', async () => {
    server = await startMesaLua()
    const client = await connect()
    client.authenticate({ refuse: 'no' })
    assert.equal((await client.closings.take()).code, 1008)
  })
})
