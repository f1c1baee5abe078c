// ws alone: the same JSON work as Mesa's, and a publication is encoded once for all, as one would write it by hand.
'use strict'
const { WebSocketServer } = require('ws')

const HELLO = JSON.stringify({ op: 10, d: { rules: [] } })
const wss = new WebSocketServer({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096, perMessageDeflate: false })

wss.on('connection', socket => {
  socket.on('message', data => {
    const { op, d, t } = JSON.parse(data)
    if (op === 2) {
      socket.user = { id: d.id }
      return socket.send(JSON.stringify({ op: 22, d: socket.user }))
    }
    switch (t) {
      case 'ECHO':
        return socket.send(JSON.stringify({ op: 0, d, t: 'ECHO' }))
      case 'PUBLISH': {
        const text = Buffer.from(JSON.stringify({ op: 0, d, t: 'PUBLISH' }))
        for (const client of wss.clients) client.send(text, { binary: false })
        return
      }
      case 'COLLECT':
        global.gc()
        return socket.send(JSON.stringify({ op: 0, d, t: 'COLLECT' }))
    }
  })
  socket.send(HELLO)
})
