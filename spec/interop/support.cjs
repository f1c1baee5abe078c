// Servers for the interop tests: mesa-lua and the Node library, both with the script "lab" (spec/server/fixtures/lab.lua, node_lab.cjs).
const { execFileSync, spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const ROOT = path.resolve(__dirname, '../..')
const BINARY = path.resolve(ROOT, process.env.MESA_BIN || 'build/mesa-lua')
const START_MS = 60000 // a guard against hanging only
const STOP_MS = 15000

const running = new Set()
process.on('exit', () => running.forEach(child => child.kill('SIGKILL')))

// getVersion() of the Node client reads ../../package.json of the working folder; this puts one of Mesa's own version there.
function enterFolderOfVersion(version) {
  const top = fs.mkdtempSync(path.join(os.tmpdir(), 'mesa-interop-'))
  fs.mkdirSync(path.join(top, 'a/b'), { recursive: true })
  fs.writeFileSync(path.join(top, 'package.json'), JSON.stringify({ version }))
  process.chdir(path.join(top, 'a/b'))
  process.on('exit', () => fs.rmSync(top, { recursive: true, force: true }))
}

function toLua(value) {
  if (Array.isArray(value)) return `{ ${value.map(toLua).join(', ')} }`
  if (value && typeof value === 'object')
    return `{ ${Object.entries(value).map(([key, item]) => `[${JSON.stringify(key)}] = ${toLua(item)}`).join(', ')} }`
  return JSON.stringify(value)
}

// A program with its log (standard error), ended at the latest with the test.
class Process {
  constructor(child) {
    this.child = child
    this.log = ''
    this.ended = once(child, 'exit').then(([code, signal]) => {
      running.delete(child)
      return { code, signal }
    })
    running.add(child)
    child.stderr.setEncoding('utf8').on('data', text => { this.log += text })
  }

  // It has been told to end, and does so with 0.
  async endedWell() {
    const late = setTimeout(() => this.child.kill('SIGKILL'), STOP_MS)
    const { code, signal } = await this.ended
    clearTimeout(late)
    if (code !== 0 || /AddressSanitizer|LeakSanitizer|runtime error:/.test(this.log))
      throw new Error(`${this.child.spawnargs.join(' ')} ended with ${signal ?? code}:\n${this.log}`)
  }
}

const pause = ms => new Promise(done => setTimeout(done, ms))

class Server extends Process {
  constructor(child, cleanUp) {
    super(child)
    this.cleanUp = cleanUp
    child.stdout.resume()
  }

  get url() {
    return `${this.secure ? 'wss' : 'ws'}://127.0.0.1:${this.port}`
  }

  async listening() {
    const deadline = Date.now() + START_MS
    while (!(this.port = Number(/listening on \S*:(\d+)/.exec(this.log)?.[1]))) {
      const early = await Promise.race([this.ended, pause(10)])
      if (early || Date.now() > deadline) {
        this.child.kill('SIGKILL')
        throw new Error(`the server did not start:\n${this.log}`)
      }
    }
    return this
  }

  async stop() {
    this.child.kill('SIGTERM')
    try {
      await this.endedWell()
    } finally {
      this.cleanUp?.()
    }
  }

  // As a crash would.
  async kill() {
    this.child.kill('SIGKILL')
    await this.ended
  }
}

// Runs mesa-lua until it listens. The port of a server that comes back may be taken for a moment: then it tries again.
async function runMesaLua(args, cleanUp) {
  for (const deadline = Date.now() + START_MS; ;) {
    try {
      return await new Server(spawn(BINARY, args, { stdio: ['ignore', 'pipe', 'pipe'] }), cleanUp).listening()
    } catch (error) {
      if (!/port \d+ is in use/.test(error.message) || Date.now() > deadline) throw error
    }
    await pause(50)
  }
}

// An example of the repository, as it is.
function startExample(name, port = 0) {
  return runMesaLua(['--no-watch', '--port', String(port), path.join(ROOT, 'examples', name, 'server.lua')])
}

// mesa-lua with the lab; `extra` is Lua text behind it.
function startMesaLua(config = {}, { extra = '', lab = { authenticate: true } } = {}) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'mesa-interop-'))
  const script = path.join(dir, 'server.lua')
  fs.writeFileSync(script, [
    `local config = ${toLua({ port: 0, host: '127.0.0.1', ...config })}`,
    `local lab = ${toLua(lab)}`,
    fs.readFileSync(path.join(ROOT, 'spec/server/fixtures/lab.lua'), 'utf8'),
    extra
  ].join('\n'))
  return runMesaLua(['--no-watch', script], () => fs.rmSync(dir, { recursive: true, force: true }))
}

// A certificate for localhost in the folder, and its key.
function makeCertificate(dir) {
  const [cert, key] = ['cert.pem', 'key.pem'].map(name => path.join(dir, name))
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', cert], { stdio: 'ignore' })
  return { cert, key }
}

// mesa-lua with a script of the test's own. With `secure` the script has the certificate in the local `tls`, and the server `ca`.
async function startScript(text, { secure = false } = {}) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'mesa-interop-'))
  const script = path.join(dir, 'server.lua')
  const tls = secure ? makeCertificate(dir) : null
  fs.writeFileSync(script, `local tls = ${tls ? toLua(tls) : 'nil'}\n${text}`)
  const ca = tls && fs.readFileSync(tls.cert)
  const server = await runMesaLua(['--no-watch', script], () => fs.rmSync(dir, { recursive: true, force: true }))
  return Object.assign(server, { ca, secure })
}

// The Node library with the same commands.
function startNodeMesa(config = {}) {
  const child = spawn(process.execPath, [path.join(__dirname, 'node_lab.cjs'), JSON.stringify(config)], {
    stdio: ['ignore', 'pipe', 'pipe']
  })
  return new Server(child).listening()
}

// Collects what an emitter or a callback delivers and lets tests wait for it.
class Inbox {
  constructor() {
    this.items = []
    this.waiting = new Set()
  }

  push(item) {
    this.items.push(item)
    this.waiting.forEach(look => look())
  }

  // The first item that matches, now or within the timeout; it is taken out.
  take(matches = () => true, timeout = 20000) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const at = this.items.findIndex(matches)
        if (at === -1) return
        clearTimeout(late)
        this.waiting.delete(look)
        resolve(this.items.splice(at, 1)[0])
      }
      const late = setTimeout(() => {
        this.waiting.delete(look)
        reject(new Error(`nothing matched within ${timeout} ms among ${JSON.stringify(this.items)}`))
      }, timeout)
      this.waiting.add(look)
      look()
    })
  }

  ofType(type, timeout) {
    return this.take(message => message.type === type || message.t === type, timeout)
  }
}

// The lines that a program writes, as they come.
function linesOf(stream) {
  const lines = new Inbox()
  let rest = ''
  stream.setEncoding('utf8').on('data', text => {
    const parts = (rest + text).split('\n')
    rest = parts.pop()
    parts.forEach(line => lines.push(line))
  })
  return lines
}

module.exports = { BINARY, Inbox, Process, enterFolderOfVersion, linesOf, runMesaLua, startExample, startMesaLua, startNodeMesa, startScript }
