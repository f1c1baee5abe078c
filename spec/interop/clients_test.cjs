// Every client there is lives through the same: the Node library's and the browser's, unmodified, and mesa-lua's own (clients.cjs).
const assert = require('node:assert/strict')
const { once } = require('node:events')
const { afterEach, after, before, describe, it } = require('node:test')
const WebSocket = require('ws')
const { clients } = require('./clients.cjs')
const { Inbox, enterFolderOfVersion, startExample, startMesaLua } = require('./support.cjs')

enterFolderOfVersion('1.5.8')

const FIRST = { isInitialConnection: true, isInitialSessionConnection: true, isAutomaticReconnection: false }
const BACK = { isInitialConnection: false, isInitialSessionConnection: false, isAutomaticReconnection: true }

// Stands between clients and a server, and shows the frames of both sides.
class Tap {
  up = new Inbox()
  down = new Inbox()

  static async open(server) {
    const tap = new Tap(server)
    await once(tap.listener, 'listening')
    return tap
  }

  constructor(server) {
    this.listener = new WebSocket.Server({ port: 0, host: '127.0.0.1' })
    this.listener.on('connection', client => {
      const upstream = new WebSocket(server.url)
      const open = once(upstream, 'open')
      const pass = (from, to, inbox) => {
        from.on('message', async data => {
          inbox.push(JSON.parse(data))
          await open
          to.send(String(data))
        })
        from.on('close', () => to.terminate())
      }
      pass(client, upstream, this.up)
      pass(upstream, client, this.down)
    })
  }

  get url() {
    return `ws://127.0.0.1:${this.listener.address().port}`
  }

  close() {
    this.listener.close()
    for (const client of this.listener.clients) client.terminate()
  }
}

// The next heartbeat that asks for the first time. A machine that stands still for a moment answers one too late for its interval: then it is
// repeated, as often as that takes, and the repetitions count for nothing.
async function nextHeartbeat(frames) {
  await frames.take(frame => frame.op === 1 && frame.d.tries === undefined)
}

for (const Client of clients) {
  describe(`${Client.title} in the chat example`, { timeout: 60000 }, () => {
    let server
    const people = []

    const person = name => {
      const client = new Client(server.url)
      client.name = name
      client.credentials = { name, token: `the secret of ${name}` }
      people.push(client)
      return client
    }
    const is = client => client.greet(client.credentials, 0, {}, 'JOIN')
    const enter = async client => {
      await client.connect()
      return (await client.inbox.ofType('ROOM')).data
    }
    const say = (client, text) => client.send(0, { text, nonce: client.name }, 'SAY')
    const hears = (client, from, text) =>
      client.inbox.take(message => message.type === 'SAID' && message.data.text === text && message.data.from.name === from.name)
    const exchange = async (from, to, text) => {
      say(from, text)
      assert.equal((await hears(from, from, text)).data.nonce, from.name)
      await hears(to, from, text)
    }

    before(async () => { server = await startExample('chat') })
    after(async () => {
      for (const client of people) await client.end()
      await server.stop()
    })

    let ann, bob

    it('comes in', async () => {
      ann = person('Ann')
      is(ann)
      assert.deepEqual(await enter(ann), { people: [], history: [], longest: 1000 })
      assert.deepEqual(await ann.connections.take(), FIRST)
      assert.deepEqual(await ann.greetings.take(), { id: 'ann', name: 'Ann' })
      assert.deepEqual((await ann.inbox.ofType('JOINED')).data, { id: 'ann', name: 'Ann' })
    })

    it('is refused, keeps its connection, and tries again until it is let in', async () => {
      bob = person('Bob')
      await bob.connect()
      for (const [name, type, text] of [
        ['ann', 'NAME_TAKEN', /already here\. Please take another name/],
        ['x', 'NAME_REFUSED', /2 to 20 characters/],
        ['<b>bob</b>', 'NAME_REFUSED', /no </],
        ['bo\u202eb', 'NAME_REFUSED', /invisible/]
      ]) {
        bob.authenticate({ ...bob.credentials, name }) // nobody says that it has failed
        assert.match((await bob.inbox.ofType(type)).data.message, text)
        assert.equal((await bob.state()).authenticated, false)
      }
      assert.deepEqual(await bob.authenticate(bob.credentials), { id: 'bob', name: 'Bob' })
      assert.equal((await bob.state()).authenticated, true)
      bob.send(0, {}, 'JOIN')
      assert.deepEqual((await bob.inbox.ofType('ROOM')).data.people, [{ id: 'ann', name: 'Ann' }])
      assert.deepEqual((await ann.inbox.ofType('JOINED')).data, { id: 'bob', name: 'Bob' })
    })

    it('talks both ways, and what it says stays as it is', async () => {
      await exchange(ann, bob, 'Hello Bob, ça va? 🌵')
      await exchange(bob, ann, 'Very well')
      await exchange(bob, ann, '<script>window.pwned = 1</script><img src=x onerror="window.pwned = 1">')
    })

    it('hears of what others do, and not of its own typing', async () => {
      ann.send(0, { active: true }, 'TYPING')
      assert.deepEqual((await bob.inbox.ofType('TYPING')).data, { id: 'ann', active: true })
      await exchange(ann, bob, 'written')
      assert.deepEqual(ann.inbox.items.filter(message => message.type === 'TYPING'), [])
    })

    it('is one person on several connections', async () => {
      const tab = person('Ann')
      is(tab)
      const room = await enter(tab)
      assert.equal(room.people.length, 2)
      assert.equal(room.history.length, 4)
      await exchange(tab, bob, 'from my other tab')
      await hears(ann, ann, 'from my other tab')
      tab.disconnect(1000)
      assert.deepEqual(await tab.closings.take(), { code: 1000, reason: '', willAttemptReconnect: false })
    })

    it('leaves and comes back, and says then what it had to say meanwhile', async () => {
      bob.disconnect(1000, 'one moment')
      assert.equal((await bob.closings.take()).code, 1000)
      await bob.connections.take()
      is(bob)
      const entered = enter(bob)
      say(bob, 'said before I was in')
      say(bob, 'and this behind it')
      assert.equal((await entered).people.length, 2)
      assert.equal((await bob.connections.take()).isAutomaticReconnection, false)
      for (const client of [ann, bob]) {
        const said = [await client.inbox.ofType('SAID'), await client.inbox.ofType('SAID')]
        assert.deepEqual(said.map(({ data }) => [data.from.name, data.text]),
          [['Bob', 'said before I was in'], ['Bob', 'and this behind it']])
      }
    })

    it('comes back by itself when the server has crashed', async () => {
      const { port } = server
      await server.kill()
      for (const client of [ann, bob])
        assert.deepEqual(await client.closings.take(), { code: 1006, reason: '', willAttemptReconnect: true })
      server = await startExample('chat', port)
      for (const client of [ann, bob]) {
        assert.deepEqual(await client.connections.take(undefined, 30000), BACK)
        await client.inbox.ofType('ROOM')
      }
      await exchange(ann, bob, 'here again')
    })

    it('says goodbye', async () => {
      bob.disconnect(4321, 'good night')
      assert.deepEqual(await bob.closings.take(), { code: 4321, reason: 'good night', willAttemptReconnect: false })
      assert.deepEqual((await ann.inbox.ofType('LEFT', 30000)).data, { id: 'bob', name: 'Bob' })
    })
  })

  describe(Client.title, { timeout: 60000 }, () => {
    let server, tap
    const open = []

    afterEach(async () => {
      for (const client of open.splice(0)) await client.end()
      tap?.close()
      tap = undefined
      await server.stop()
    })

    async function connect(url = server.url) {
      const client = new Client(url)
      open.push(client)
      await client.connect()
      return client
    }

    async function echoes(client) {
      client.send(0, { n: 1 }, 'ECHO')
      assert.deepEqual((await client.inbox.ofType('ECHO')).data, { n: 1 })
    }

    it('reads hello', async () => {
      server = await startMesaLua({ heartbeat: { enabled: true, interval: 4321 }, reconnect: { enabled: true, interval: 8765 } })
      tap = await Tap.open(server)
      const client = await connect(tap.url)
      assert.deepEqual(await tap.down.take(), {
        op: 10,
        d: { c_heartbeat_interval: 4321, c_reconnect_interval: 8765, c_authentication_timeout: 10000, rules: ['sends_user_object'] }
      })
      await echoes(client)
      assert.deepEqual((await client.state()).rules, ['sends_user_object'])
    })

    it('acknowledges heartbeats for 100 intervals', async () => {
      server = await startMesaLua({
        heartbeat: { enabled: true, interval: 30, maxAttempts: 100 }, authentication: { timeout: false }
      })
      tap = await Tap.open(server)
      const client = await connect(tap.url)
      for (let n = 0; n < 100; n++) {
        await nextHeartbeat(tap.down)
        assert.deepEqual(await tap.up.take(), { op: 11, d: {} })
      }
      assert.equal(client.closings.items.length, 0)
      assert.equal(client.inbox.items.length, 0)
    })

    it('authenticates and is given its user', async () => {
      server = await startMesaLua()
      const client = await connect()
      assert.equal((await client.state()).authenticated, false)
      assert.deepEqual(await client.authenticate({ id: 'ann', user: { id: 'ann', name: 'Ann' } }), { id: 'ann', name: 'Ann' })
      assert.equal((await client.state()).authenticated, true)
    })

    it('authenticates without a user object when the server sends none', async () => {
      server = await startMesaLua({ authentication: { sendUserObject: false } })
      const client = await connect()
      assert.deepEqual(await client.authenticate({ id: 'ann' }), Client.userWhenNoneIsSent)
      assert.deepEqual((await client.state()).rules, [])
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
      client.send(0, data, 'ECHO')
      assert.deepEqual(await client.inbox.take(), { opcode: 0, data, type: 'ECHO', sequence: undefined })
    })

    it('exchanges 1,000 messages in order', async () => {
      server = await startMesaLua()
      const client = await connect()
      for (let n = 1; n <= 1000; n++) client.send(0, { n }, 'ECHO')
      for (let n = 1; n <= 1000; n++) assert.equal((await client.inbox.ofType('ECHO')).data.n, n)
    })

    it('is given what it missed, numbered, and not with shouldSync false', async () => {
      server = await startMesaLua({ sync: { enabled: true } })
      const sender = await connect()
      const keep = async n => {
        sender.send(0, { to: ['bob'], message: { t: 'KEPT', d: { n } } }, 'SEND')
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
      await echoes(again)
      assert.equal(again.inbox.items.length, 0)
    })

    it('obeys the rule store_messages', async () => {
      server = await startMesaLua({ options: { storeMessages: true } })
      const client = await connect()
      await echoes(client) // perhaps sent before hello has come
      const before = (await client.state()).messages.sent
      await echoes(client)
      const { rules, messages } = await client.state()
      assert.deepEqual(rules, ['store_messages', 'sends_user_object'])
      const echo = { opcode: 0, data: { n: 1 }, type: 'ECHO', sequence: undefined }
      assert.deepEqual(messages, { sent: [...before, echo], received: [echo, echo] })
    })

    it('passes the rule enforce_equal_versions with its own version', async () => {
      server = await startMesaLua({ client: { enforceEqualVersions: true, version: Client.version } })
      tap = await Tap.open(server)
      const client = await connect(tap.url)
      assert.deepEqual(await tap.up.take(), { op: 0, t: 'CLIENT_VERSION', d: { v: Client.version } })
      await echoes(client)
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
      assert.deepEqual(await client.connections.take(), FIRST)
      const { port } = server
      await server.stop()
      const closing = await client.closings.take()
      assert.deepEqual([closing.code, closing.willAttemptReconnect], [1001, true])
      server = await startMesaLua({ ...config, port })
      assert.deepEqual(await client.connections.take(), BACK)
      await echoes(client)
    })

    it('disconnects with a code, and is disconnected with one', async () => {
      server = await startMesaLua()
      const first = await connect()
      first.disconnect(4321, 'bye')
      assert.equal((await first.closings.take()).code, 4321)
      const second = await connect()
      second.send(0, { code: 4322, reason: 'out' }, 'DISCONNECT')
      assert.deepEqual(await second.closings.take(), { code: 4322, reason: 'out', willAttemptReconnect: false })
    })
  })
}
