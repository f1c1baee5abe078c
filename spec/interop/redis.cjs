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
const START_MS = 10000
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

async function startRedis() {
  const port = await freePort()
  const child = spawn('redis-server', ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', os.tmpdir()], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  running.add(child)
  const ended = once(child, 'exit').then(() => running.delete(child))
  await new Promise((resolve, reject) => {
    let log = ''
    const late = setTimeout(() => reject(new Error(`redis-server did not start:\n${log}`)), START_MS)
    child.stdout.setEncoding('utf8').on('data', text => {
      log += text
      if (log.includes('Ready to accept connections')) resolve(clearTimeout(late))
    })
  })
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
