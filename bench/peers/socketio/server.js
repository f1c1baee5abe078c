// Socket.IO 4 over WebSocket alone. Its events carry the data; parsing and printing JSON is Socket.IO's.
'use strict'
const http = require('http')
const { Server } = require('socket.io')

const server = http.createServer()
const io = new Server(server, { transports: ['websocket'], serveClient: false })

io.on('connection', socket => {
  socket.data.user = { id: socket.handshake.auth.id }
  socket.on('ECHO', data => socket.emit('ECHO', data))
  socket.on('PUBLISH', data => io.emit('PUBLISH', data))
  socket.on('COLLECT', data => {
    global.gc()
    socket.emit('COLLECT', data)
  })
})

server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 })
