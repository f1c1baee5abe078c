// As server.lua, on the Node library. NODE_PATH says where that is.
const http = require('http')
const { default: Mesa, Message } = require('@cryb/mesa')

const listener = http.createServer()
const server = new Mesa({ server: listener, redis: process.env.REDIS_URL })

server.on('connection', client => {
  client.authenticate((data, done) => done(null, { id: data.id, user: { id: data.id } }))
  client.on('message', ({ data }) => {
    server.send(new Message(0, { n: data.n, text: data.text }, 'N'), data.to)
  })
})

listener.listen(0, '127.0.0.1', () => console.error(`listening on 127.0.0.1:${listener.address().port}`))
process.on('SIGTERM', () => process.exit(0))
