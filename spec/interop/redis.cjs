// A private redis-server, and programs in Lua beside it, for the interop tests of clusters.
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const Redis = require('ioredis')
const { linesOf } = require('./support.cjs')

const BINARY = path.resolve(__dirname, '../..', process.env.MESA_BIN || 'build/mesa-lua')
const START_MS = 60000 // a guard against hanging only
const STOP_MS = 15000

const running = new Set()
process.on('exit', () => running.forEach(child => child.kill('SIGKILL')))

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

// redis-server on a port: { child, ended } once it listens, nothing when somebody else took the port first.
async function launchRedis(port) {
  const args = ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', os.tmpdir()]
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let log = ''
  running.add(child)
  const ended = once(child, 'exit').then(() => running.delete(child))
  const listens = new Promise(resolve => child.stdout.setEncoding('utf8').on('data', text => {
    log += text
    if (log.includes('Ready to accept connections')) resolve(true)
  }))
  const late = setTimeout(() => child.kill('SIGKILL'), START_MS)
  const started = await Promise.race([listens, ended.then(() => false)])
  clearTimeout(late)
  if (started) return { child, ended }
  if (log.includes('Address already in use')) return undefined
  throw new Error(`redis-server did not start:\n${log}`)
}

// Redis cannot choose a port by itself, and the one that was free a moment ago may be taken when it starts.
async function startRedis() {
  let port, redis
  do redis = await launchRedis(port = await freePort())
  while (!redis)
  const { child, ended } = redis
  const uri = `redis://127.0.0.1:${port}`
  const client = new Redis(uri)
  return {
    uri,
    client,
    // It hangs without closing, until it goes on.
    hang: () => child.kill('SIGSTOP'),
    goOn: () => child.kill('SIGCONT'),
    async stop() {
      client.disconnect()
      child.kill('SIGKILL')
      await ended
    }
  }
}

// Runs Lua text as a program of its own; `lines` are those it prints. `Mesa` and `uri` are there.
function startProgram(uri, source) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'mesa-interop-'))
  const script = path.join(dir, 'program.lua')
  fs.writeFileSync(script, `local Mesa, uri = require "mesa", ${JSON.stringify(uri)}\n${source}`)
  const child = spawn(BINARY, ['--no-watch', script], { stdio: ['ignore', 'pipe', 'pipe'] })
  running.add(child)
  const lines = linesOf(child.stdout)
  let log = ''
  child.stderr.setEncoding('utf8').on('data', text => { log += text })
  const ended = once(child, 'close').then(([code, signal]) => {
    running.delete(child)
    fs.rmSync(dir, { recursive: true, force: true })
    if (code !== 0 || /AddressSanitizer|LeakSanitizer|runtime error:/.test(log))
      throw new Error(`the program ended with ${signal ?? code}:\n${log}`)
  })
  ended.catch(() => {})
  return {
    lines,
    child,
    // Waits for its own end.
    ended: () => ended,
    async stop() {
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
      await ended.finally(() => clearTimeout(late))
    }
  }
}

module.exports = { startProgram, startRedis }
