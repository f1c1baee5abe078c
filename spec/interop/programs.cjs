// Dispatchers and portals of both libraries, to be used alike: programs on the cluster's Redis that are no server.
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { Dispatcher, DispatchEvent, Message, Portal } = require('@cryb/mesa')
const { linesOf } = require('./support.cjs')
const { startProgram } = require('./redis.cjs')
const { until } = require('./cluster.cjs')

// Each dispatches a list of { event?, op?, t?, d?, o?, to?, excluding? } in order. options: sync
const dispatchers = {
  async Node(cluster, list, options = {}) {
    const dispatcher = new Dispatcher(cluster.redis.uri, { namespace: cluster.namespace, sync: { enabled: options.sync } })
    for (const { event, op = 0, t, d = {}, o, to, excluding } of list) {
      dispatcher.dispatch(event ? new DispatchEvent(event) : new Message(op, d, t, o), to, excluding)
      // It keeps no order by itself: its own commands follow each other by their replies.
      for (let n = 0; n < 2 + (to?.length ?? 1); n++) await dispatcher.redis.ping()
      await dispatcher.publisher.ping()
    }
    dispatcher.redis.disconnect()
    dispatcher.publisher.disconnect()
  },
  Lua: (cluster, list, options = {}) => startProgram(cluster.redis.uri, `
    local list = Mesa.json.decode ${JSON.stringify(JSON.stringify(list))}
    local dispatcher = Mesa.Dispatcher(uri, {
      namespace = ${cluster.namespace ? JSON.stringify(cluster.namespace) : 'nil'}, sync = { enabled = ${!!options.sync} }
    })
    for _, item in ipairs(list) do
      local event = item.event and Mesa.DispatchEvent(item.event)
        or Mesa.Message(item.op or 0, item.d == nil and {} or item.d, item.t, item.o)
      dispatcher:dispatch(event, item.to, item.excluding)
    end
  `).ended()
}

// What a Node portal is told, as [type, id, opcode, message type, data], one a line; the id comes first.
const NODE_PORTAL = `
  const { Portal } = require(${JSON.stringify(require.resolve('@cryb/mesa'))})
  const portal = new Portal(process.argv[1], JSON.parse(process.argv[2]))
  const show = list => console.log(JSON.stringify(list))
  show([portal.id])
  for (const type of ['connection', 'authentication', 'disconnection']) portal.on(type, id => show([type, id ?? null]))
  portal.on('message', (message, id) => show(['message', id ?? null, message.opcode, message.type ?? null, message.data]))
`

const LUA_PORTAL = options => `
  local portal = Mesa.Portal(uri, Mesa.json.decode ${JSON.stringify(JSON.stringify(options))})
  local function show(...)
    local list = Mesa.array { ... }
    for i = 1, select("#", ...) do if list[i] == nil then list[i] = Mesa.null end end
    print(Mesa.json.encode(list))
  end
  show(portal.id)
  for _, kind in ipairs { "connection", "authentication", "disconnection" } do
    portal:on(kind, function(id) show(kind, id) end)
  end
  portal:on("message", function(message, id) show("message", id, message.opcode, message.type, message.data) end)
`

const starters = {
  Node(cluster, options) {
    const child = spawn(process.execPath, ['-e', NODE_PORTAL, cluster.redis.uri, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'inherit'], cwd: __dirname
    })
    const ended = once(child, 'exit')
    return {
      child,
      lines: linesOf(child.stdout),
      async stop() {
        child.kill('SIGTERM')
        await ended
      }
    }
  },
  Lua: (cluster, options) => startProgram(cluster.redis.uri, LUA_PORTAL(options))
}

// A portal in a process of its own, known to all servers. Its `events` are as above.
async function startPortal(kind, cluster, options = {}) {
  const subscribers = async () => (await cluster.redis.client.pubsub('NUMSUB', cluster.key('portal')))[1]
  const before = await subscribers()
  const news = await cluster.watch('available_portals_pool')
  const program = starters[kind](cluster, { ...options, ...cluster.namespace && { namespace: cluster.namespace } })
  let gone = false
  cluster.cleanUps.push(() => gone || program.stop())
  const [id] = JSON.parse(await program.lines.take(undefined, 30000))
  await news.take(update => update.id === id && update.ready, 30000)
  await until(() => cluster.redis.client.sismember(cluster.key('available_portals_pool'), id))
  await until(async () => await subscribers() > before) // Node's comes before it hears
  await cluster.settle()
  return {
    id,
    get events() { return program.lines.items.map(line => JSON.parse(line)) },
    // SIGTERM, or kill -9
    async end(signal) {
      gone = true
      program.child.kill(signal)
      if (program.child.exitCode === null && program.child.signalCode === null) await once(program.child, 'exit')
    }
  }
}

module.exports = { dispatchers, startPortal }
