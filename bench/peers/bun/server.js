// Bun's own WebSocket server (uWebSockets inside), with its publish.
const HELLO = JSON.stringify({ op: 10, d: { rules: [] } })

const server = Bun.serve({
  port: Number(process.argv[2]),
  hostname: '127.0.0.1',
  fetch(request, self) {
    return self.upgrade(request, { data: {} }) ? undefined : new Response('', { status: 400 })
  },
  websocket: {
    open(socket) {
      socket.subscribe('all')
      socket.send(HELLO)
    },
    message(socket, text) {
      const { op, d, t } = JSON.parse(text)
      if (op === 2) {
        socket.data.user = { id: d.id }
        socket.send(JSON.stringify({ op: 22, d: socket.data.user }))
        return
      }
      switch (t) {
        case 'ECHO':
          socket.send(JSON.stringify({ op: 0, d, t: 'ECHO' }))
          break
        case 'PUBLISH':
          server.publish('all', JSON.stringify({ op: 0, d, t: 'PUBLISH' }))
          break
        case 'COLLECT':
          Bun.gc(true)
          socket.send(JSON.stringify({ op: 0, d, t: 'COLLECT' }))
          break
      }
    }
  }
})
