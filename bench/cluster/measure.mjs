// Throughput between two servers on one Redis, mesa-lua's and @cryb/mesa's in turn: whoever sends is on the one, whoever receives
// on the other. Each message that arrives lets the next one be sent. Prints a table; see bench/NOTES.md.
//   node bench/cluster/measure.mjs [runs [seconds]]
import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '../..')
const modules = join(root, 'spec/interop/node_modules')
const WebSocket = createRequire(join(modules, 'x.js'))('ws')
const [runs = 5, seconds = 3] = process.argv.slice(2).map(Number)
const text = 'x'.repeat(64)
const TICKS_PER_SECOND = 100

const cases = {
  'to one id': { pairs: 16, inFlight: 16 },
  'to 20 ids': { receivers: 20, inFlight: 16, ids: true },
  'to all, 100 clients': { receivers: 100, inFlight: 8 }
}
const kinds = {
  'mesa-lua': redis => [process.env.MESA_BIN || join(root, 'build/mesa-lua'), [join(here, 'server.lua')], redis],
  '@cryb/mesa': redis => ['node', [join(here, 'server.cjs')], redis]
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

const freePort = () => new Promise(resolve => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address()
    server.close(() => resolve(port))
  })
})

// A process, when it has said that it is ready.
const start = (command, args, ready, env = {}) => new Promise((resolve, reject) => {
  const child = spawn(command, args, { env: { ...process.env, NODE_PATH: modules, ...env } })
  let output = ''
  const read = chunk => {
    output += chunk
    const match = output.match(ready)
    if (match) resolve({ child, port: Number(match[1]), ended: new Promise(done => child.once('exit', done)) })
  }
  child.stdout.on('data', read)
  child.stderr.on('data', read)
  child.once('exit', code => reject(new Error(`${command} ended with ${code}\n${output}`)))
})

const stop = async ({ child, ended }) => {
  child.kill('SIGTERM')
  await ended
}

// Seconds of CPU a process has used.
const cpu = ({ child }) => {
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

const login = (server, id, received) => new Promise((resolve, reject) => {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}`)
  socket.on('error', reject)
  socket.on('message', bytes => {
    const message = JSON.parse(bytes)
    if (message.op === 10) socket.send(JSON.stringify({ op: 2, d: { id } }))
    if (message.op === 22) resolve(socket)
    if (message.t === 'N' && received) received(message.d)
  })
})

const send = (socket, n, to) => socket.send(JSON.stringify({ op: 0, t: 'SEND', d: { n, to, text } }))

// Connects everybody; `counter.messages` counts what has arrived everywhere it should.
const connect = async (from, to, { pairs, receivers, inFlight, ids }, counter) => {
  const sockets = []
  const begin = []
  for (let i = 0; i < (pairs || 0); i++) {
    const sender = await login(from, `sender${i}`)
    const id = `receiver${i}`
    sockets.push(sender, await login(to, id, ({ n }) => {
      counter.messages++
      send(sender, n + 1, [id])
    }))
    for (let n = 0; n < inFlight; n++) begin.push(() => send(sender, n, [id]))
  }
  if (receivers) {
    const sender = await login(from, 'sender')
    const all = Array.from({ length: receivers }, (_, i) => `receiver${i}`)
    const missing = new Map()
    let next = 0
    const publish = () => {
      missing.set(next, receivers)
      send(sender, next++, ids ? all : undefined)
    }
    const received = ({ n }) => {
      missing.set(n, missing.get(n) - 1)
      if (missing.get(n) > 0) return
      missing.delete(n)
      counter.messages++
      publish()
    }
    sockets.push(sender)
    for (const id of all) sockets.push(await login(to, id, received))
    for (let n = 0; n < inFlight; n++) begin.push(publish)
  }
  return { sockets, begin }
}

const measure = async (kind, settings) => {
  const dir = mkdtempSync(join(tmpdir(), 'mesa-cluster-'))
  const port = await freePort()
  const redis = await start('redis-server', ['--port', port, '--bind', '127.0.0.1', '--save', '', '--dir', dir], /Ready to accept/)
  const [command, args] = kinds[kind]()
  const env = { REDIS_URL: `redis://127.0.0.1:${port}` }
  const servers = [await start(command, args, /listening on \S*:(\d+)/, env), await start(command, args, /listening on \S*:(\d+)/, env)]
  const counter = { messages: 0 }
  await sleep(500) // until both have subscribed
  const { sockets, begin } = await connect(...servers, settings, counter)
  begin.forEach(fn => fn())
  await sleep(500)
  const processes = [...servers, redis]
  const before = { messages: counter.messages, cpu: processes.map(cpu), at: performance.now() }
  await sleep(seconds * 1000)
  const messages = counter.messages - before.messages
  const used = processes.map((p, i) => 1e6 * (cpu(p) - before.cpu[i]) / messages)
  const rate = 1000 * messages / (performance.now() - before.at)
  sockets.forEach(socket => socket.terminate())
  for (const p of [...servers, redis]) await stop(p)
  rmSync(dir, { recursive: true })
  return { rate, sender: used[0], receiver: used[1], redis: used[2] }
}

const median = list => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]

console.log('| work | server | messages/s | sender, µs | receiver, µs | Redis, µs |')
console.log('|---|---|---|---|---|---|')
for (const [name, settings] of Object.entries(cases)) {
  const results = Object.fromEntries(Object.keys(kinds).map(kind => [kind, []]))
  for (let run = 0; run < runs; run++) {
    for (const kind of Object.keys(kinds)) results[kind].push(await measure(kind, settings))
  }
  for (const [kind, list] of Object.entries(results)) {
    const of = key => median(list.map(result => result[key]))
    const rounded = ['sender', 'receiver', 'redis'].map(key => of(key).toFixed(1))
    console.log(`| ${name} | ${kind} | ${Math.round(of('rate'))} | ${rounded.join(' | ')} |`)
  }
}
