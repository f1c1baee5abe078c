// permessage-deflate with ws, as Autobahn's groups 12 (messages of all sizes, whole and in fragments) and 13 (all combinations of
// parameters) test it. MESA_COMPRESSION_MESSAGES=1000 sends as many of each size as these do; by default large ones are fewer.
const assert = require('node:assert/strict')
const { once } = require('node:events')
const { after, before, describe, it } = require('node:test')
const WebSocket = require('ws')
const { Inbox, startScript } = require('./support.cjs')

const SIZES = [16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072]
const FRAGMENT = 256
const MOST = Number(process.env.MESA_COMPRESSION_MESSAGES) || 0
const countOf = size => MOST || Math.max(10, Math.min(1000, Math.floor(2 ** 20 / size)))

// What a client offers.
const OFFERS = {
  'nothing but the extension': { clientMaxWindowBits: false },
  'windows of any size': {},
  'no context takeover of the server': { serverNoContextTakeover: true },
  'no context takeover of the client': { clientNoContextTakeover: true },
  'no context takeover at all': { serverNoContextTakeover: true, clientNoContextTakeover: true },
  'a window of 512 bytes for the server': { serverMaxWindowBits: 9 },
  'a window of 256 bytes for the server': { serverMaxWindowBits: 8 },
  'a window of 512 bytes for the client': { clientMaxWindowBits: 9 },
  'small windows and no context takeover': {
    serverNoContextTakeover: true, clientNoContextTakeover: true, serverMaxWindowBits: 9, clientMaxWindowBits: 9
  }
}

const SERVERS = { 'windows that are not kept': false, 'windows that are kept': true }

// Text that compresses as JSON does, and bytes that do not compress at all; the same in each run.
function generator(seed) {
  let state = seed
  const next = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648
  return {
    text(size) {
      let text = ''
      while (text.length < size) text += JSON.stringify({ id: Math.floor(next() * 1e6), name: `user ${Math.floor(next() * 50)}`, on: next() > 0.5 })
      return Buffer.from(text.slice(0, size))
    },
    bytes: size => Buffer.from({ length: size }, () => Math.floor(next() * 256))
  }
}

function sendInFragments(client, message, binary) {
  for (let at = 0; at < message.length; at += FRAGMENT)
    client.send(message.subarray(at, at + FRAGMENT), { binary, compress: true, fin: at + FRAGMENT >= message.length })
}

for (const [kind, takeover] of Object.entries(SERVERS)) {
  for (const secure of [false, true]) {
    describe(`compression with ${kind}${secure ? ' over TLS' : ''}`, { timeout: 600000 }, () => {
      let server

      before(async () => {
        server = await startScript(`
          local Mesa = require "mesa"
          local server = Mesa.new {
            port = 0, host = "127.0.0.1", raw = true, tls = tls,
            compression = { threshold = 0, contextTakeover = ${takeover} },
            limits = { maxBackpressure = 64 * 1024 * 1024 },
          }
          server:on("connection", function(client)
            client:on("message", function(message) client:send(message.data, { binary = message.binary }) end)
          end)
        `, { secure })
      })

      after(() => server.stop())

      async function connect(offer) {
        const client = new WebSocket(server.url, { perMessageDeflate: { threshold: 0, ...offer }, ca: server.ca })
        const answers = new Inbox()
        client.on('message', (data, binary) => answers.push({ data, binary }))
        await once(client, 'open')
        assert.equal(client.extensions, 'permessage-deflate')
        return { client, answers }
      }

      // All at once, so that several share a write and a read.
      async function echo({ client, answers }, messages, send) {
        for (const { data, binary } of messages) send(data, binary)
        for (const { data, binary } of messages) {
          const answer = await answers.take(() => true)
          assert.equal(answer.binary, binary)
          assert.ok(answer.data.equals(data), `${data.length} bytes came back as ${answer.data.length} others`)
        }
      }

      async function leave({ client }) {
        client.close(1000)
        const [code] = await once(client, 'close')
        assert.equal(code, 1000)
      }

      for (const size of SIZES) {
        it(`echoes messages of ${size} bytes, whole and in fragments`, async () => {
          const connection = await connect({})
          const make = generator(size)
          const messages = Array.from({ length: countOf(size) }, (_, i) => i % 4 === 3
            ? { data: make.bytes(size), binary: true }
            : { data: make.text(size), binary: false })
          await echo(connection, messages, (data, binary) => connection.client.send(data, { binary }))
          await echo(connection, messages.slice(0, 10), (data, binary) => sendInFragments(connection.client, data, binary))
          await leave(connection)
        })
      }

      for (const [name, offer] of Object.entries(OFFERS)) {
        it(`agrees with who offers ${name}`, async () => {
          const connection = await connect(offer)
          const make = generator(name.length)
          const messages = SIZES.flatMap(size => Array.from({ length: Math.ceil(countOf(size) / 20) }, (_, i) => i % 4 === 3
            ? { data: make.bytes(size), binary: true }
            : { data: make.text(size), binary: false }))
          await echo(connection, messages, (data, binary) => connection.client.send(data, { binary }))
          await leave(connection)
        })
      }
    })
  }
}
