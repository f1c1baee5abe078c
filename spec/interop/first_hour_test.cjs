// The clients of the README's "A first server", as they stand there, against what `mesa-lua new` writes and against the server
// that stands beside them.
const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { after, afterEach, before, describe, it } = require('node:test')
const mesa = require('@cryb/mesa')
const { endForGood } = require('./clients.cjs')
const MesaClient = require('mesa-js-client')
const { BINARY, Inbox, runMesaLua } = require('./support.cjs')

const readme = fs.readFileSync(path.join(__dirname, '../../README.md'), 'utf8')
const section = readme.slice(readme.indexOf('\n## A first server'), readme.indexOf('\n### Handlers in files'))
const blocks = language => [...section.matchAll(/```(\w+)\n([^]*?)```/g)].filter(match => match[1] === language).map(match => match[2])
const clients = blocks('js')

// Runs a client of the README at this server: { said, client }, where `said` gets what it logs.
function run(code, url) {
  const said = new Inbox()
  const there = code.replace('ws://localhost:4000', url)
  assert.notEqual(there, code)
  const client = new Function('require', 'MesaClient', 'console', `${there}\nreturn client`)(
    name => { assert.equal(name, '@cryb/mesa'); return mesa }, MesaClient, { log: (...words) => said.push(words) })
  return { said, client }
}

describe('the first hour', { timeout: 120000 }, () => {
  let folder, server
  const open = []

  before(() => { folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mesa-first-')) })
  after(() => fs.rmSync(folder, { recursive: true, force: true }))
  afterEach(async () => {
    open.splice(0).forEach(endForGood)
    await server.stop()
  })

  async function speaks() {
    assert.equal(clients.length, 2)
    for (const code of clients) {
      const { said, client } = run(code, server.url)
      open.push(client)
      const [type, data] = await said.take(([type]) => type === 'SAID')
      assert.equal(type, 'SAID')
      assert.equal(data.from, 'alice')
      assert.equal(data.text, 'hello')
    }
  }

  it("a new application understands the README's clients", async () => {
    const app = path.join(folder, 'app')
    execFileSync(BINARY, ['new', app])
    server = await runMesaLua(['--port', '0', path.join(app, 'server.lua')])
    await speaks()
  })

  it("and so does the README's server", async () => {
    const [code] = blocks('lua')
    const script = path.join(folder, 'server.lua')
    fs.writeFileSync(script, code)
    server = await runMesaLua(['--port', '0', script])
    await speaks()
  })
})
