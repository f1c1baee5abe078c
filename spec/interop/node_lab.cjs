// spec/server/fixtures/lab.lua on the Node library, as far as the side-by-side test needs it.
// Usage: node node_lab.cjs '<configuration as JSON>'; prints "listening on 127.0.0.1:<port>" on standard error.
// `middleware` in the configuration: middleware of this name counts connections in Redis under the key "seen".
const { readFileSync } = require('fs')
const http = require('http')
const https = require('https')
const { default: Mesa, Message } = require('@cryb/mesa')

const config = JSON.parse(process.argv[2] || '{}')
const { tls, middleware, ...mesaConfig } = config
const httpServer = tls
  ? https.createServer({ cert: readFileSync(tls.cert), key: readFileSync(tls.key) })
  : http.createServer()
const server = new Mesa({ ...mesaConfig, server: httpServer })

if (middleware)
  server.use(({ redis }) => {
    const [key] = server.mapMiddlewareNamespace(['seen'], middleware)
    return { onConnection: () => redis.incr(key) }
  })

const reply = (client, type, data) => client.send(new Message(0, data, type), true)
const toMessage = ({ op = 0, d = {}, t, o }) => new Message(op, d, t, o)

const commands = {
  ECHO: (client, { data }) => reply(client, 'ECHO', data),
  SEND(client, { data }) {
    server.send(toMessage(data.message), data.to, data.excluding)
    reply(client, 'SENT', { ok: true, value: 'true' })
  },
  SEND_OWN(client, { data }) {
    client.send(toMessage(data.message), data.directly)
    reply(client, 'SENT', { ok: true, value: 'true' })
  },
  SEND_MANY(client, { data }) {
    const padding = 'x'.repeat(data.bytes || 0)
    for (let n = 1; n <= data.count; n++) {
      const message = new Message(0, { n, padding }, data.t || 'NUMBERED')
      if (data.to) server.send(message, data.to)
      else if (data.all) server.send(message)
      else client.send(message, true)
    }
    reply(client, 'SENT_MANY', {})
  },
  DISCONNECT: (client, { data }) => client.disconnect(data.code)
}

server.on('connection', client => {
  client.authenticate((data, done) => {
    if (data.refuse) return done(new Error(data.refuse))
    done(null, { id: data.id, user: data.user || { id: data.id } })
  })
  client.on('message', message => {
    const command = message.opcode === 0 && commands[message.type]
    if (command) return command(client, message)
    reply(client, 'GOT', { op: message.opcode, t: message.type, d: message.data })
  })
})

httpServer.listen(0, '127.0.0.1', () => console.error(`listening on 127.0.0.1:${httpServer.address().port}`))
process.on('SIGTERM', () => process.exit(0))
