// @cryb/mesa, written as its documentation does. It brings its own ws 7.
//   server.js PORT [heartbeat] [redis=URI]
'use strict'
const http = require('http')
const { default: Mesa, Message } = require('@cryb/mesa')

const words = process.argv.slice(3)
const redis = words.find(word => word.startsWith('redis='))

const server = http.createServer()
const mesa = new Mesa({
  server,
  authentication: { timeout: false },
  heartbeat: { enabled: words.includes('heartbeat'), interval: 10000, maxAttempts: 3 },
  ...(redis && { redis: redis.slice('redis='.length) }),
  gracefullyExit: false
})

mesa.on('connection', client => {
  client.authenticate((data, done) => done(null, { id: data.id, user: { id: data.id } }))
  client.on('message', message => {
    switch (message.type) {
      case 'ECHO':
        return client.send(new Message(0, message.data, 'ECHO'), true)
      case 'ECHO_USER':
        return client.send(new Message(0, message.data, 'ECHO_USER'))
      case 'PUBLISH':
        return mesa.send(new Message(0, message.data, 'PUBLISH'))
      case 'COLLECT':
        global.gc()
        return client.send(new Message(0, message.data, 'COLLECT'), true)
    }
  })
})

server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 })
