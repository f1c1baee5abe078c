// The clients there are, with one interface for one story: the Node library's, the browser's, and Mesa.Client of mesa-lua in a process of its own.
//
//   const client = new Client(url)
//   connect() send(opcode, data, type) authenticate(data, options) disconnect(code, reason) state()
//   greet(credentials, opcode, data, type)     authenticates and sends at every connection
//   end()                                      for good
//   inbox connections closings greetings       what it heard; messages are { opcode, data, type, sequence }
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const path = require('node:path')
const { Client: LibraryClient, Message } = require('@cryb/mesa')
globalThis.WebSocket = require('ws') // mesa-js-client looks for it when it is loaded
const BrowserClient = require('mesa-js-client')
const { BINARY, Inbox, Process } = require('./support.cjs')

const plain = ({ opcode, op, data, d, type, t, sequence, s }) =>
  ({ opcode: opcode ?? op, data: data ?? d, type: type ?? t, sequence: sequence ?? s })
const plainStored = messages => messages && { sent: messages.sent.map(plain), received: messages.received.map(plain) }

class Driver {
  inbox = new Inbox()
  connections = new Inbox()
  closings = new Inbox()
  greetings = new Inbox()

  closed(code, reason, willAttemptReconnect) {
    this.closings.push({ code, reason: String(reason), willAttemptReconnect })
  }
}

// Ends a client of either library without another attempt to connect.
function endForGood(client) {
  clearInterval(client.reconnectionInterval ?? client.reconnectionIntervalId)
  client.reconnectionIntervalTime = undefined
  client.ws?.terminate()
}

// What the two JavaScript clients have in common.
class JavaScriptDriver extends Driver {
  connect() {
    return this.client.connect()
  }

  authenticate(data, options) {
    return this.client.authenticate(data, options)
  }

  disconnect(code, reason) {
    this.client.disconnect(code, reason)
  }

  async greeted(credentials, ...message) {
    this.greetings.push(await this.authenticate(credentials))
    this.send(...message)
  }

  state() {
    const { authenticated, rules, messages } = this.client
    return { authenticated, rules, messages: plainStored(messages) }
  }

  end() {
    endForGood(this.client)
  }
}

class LibraryDriver extends JavaScriptDriver {
  static title = '@cryb/mesa'
  static version = '1.5.8'
  static userWhenNoneIsSent = {}

  constructor(url) {
    super()
    this.client = new LibraryClient(url, { autoConnect: false })
    this.client.send = this.client.send.bind(this.client) // its queue calls it as a mere function
    this.client.on('message', message => this.inbox.push(plain(message)))
    this.client.on('connected', options => this.connections.push(options))
    this.client.on('disconnected', (code, reason, options) => this.closed(code, reason, options.willAttemptReconnect))
    this.client.on('error', () => {})
  }

  send(opcode, data, type) {
    this.client.send(new Message(opcode, data, type))
  }

  greet(credentials, ...message) {
    this.client.on('connected', () => this.greeted(credentials, ...message))
  }

  disconnect(code, reason) {
    this.client.reconnectionIntervalTime = undefined // it would come back although it was told to go
    super.disconnect(code, reason)
  }
}

class BrowserDriver extends JavaScriptDriver {
  static title = 'mesa-js-client'
  static version = '1.5.3' // what it says it has
  static userWhenNoneIsSent = undefined

  constructor(url) {
    super()
    this.client = new BrowserClient(url, { autoConnect: false })
    this.client.sendRaw = this.client.sendRaw.bind(this.client) // its queue calls it as a mere function
    this.client.onMessage = message => this.inbox.push(plain(message))
    this.client.onConnected = options => {
      this.connections.push(options)
      this.greeting?.()
    }
    this.client.onDisconnected = (code, reason, options) => this.closed(code, reason, options.willAttemptReconnect)
    this.client.onError = () => {}
  }

  send(opcode, data, type) {
    this.client.send(opcode, data, type)
  }

  greet(credentials, ...message) {
    this.greeting = () => this.greeted(credentials, ...message)
  }
}

// bot.lua, told by lines of JSON. Its calls return promises, which are not to be waited for by who only wants their order.
class BotDriver extends Driver {
  static title = 'Mesa.Client'
  static version = '1.5.8'
  static userWhenNoneIsSent = {}

  constructor(url) {
    super()
    const child = spawn(BINARY, [path.join(__dirname, 'bot.lua'), url, BotDriver.version], { stdio: 'pipe' })
    this.process = new Process(child)
    this.results = new Inbox()
    this.calls = 0
    let rest = ''
    child.stdout.setEncoding('utf8').on('data', text => {
      const lines = (rest + text).split('\n')
      rest = lines.pop()
      for (const line of lines) this.heard(JSON.parse(line))
    })
  }

  heard({ id, result, event, args }) {
    if (id) this.results.push({ id, result })
    else if (event === 'message') this.inbox.push(plain(args))
    else if (event === 'connected') this.connections.push(args)
    else if (event === 'disconnected') this.closed(args.code, args.reason, args.willAttemptReconnect)
    else if (event === 'greeted') this.greetings.push(args.user)
  }

  async call(name, ...given) {
    const id = ++this.calls
    const args = given.filter(arg => arg !== undefined)
    this.process.child.stdin.write(`${JSON.stringify({ id, call: name, args })}\n`)
    try {
      return (await this.results.take(item => item.id === id, 30000)).result
    } catch (error) {
      throw new Error(`${name}: ${error.message}\n${this.process.log}`)
    }
  }

  async connect() {
    const [ok, reason] = await this.call('connect')
    if (!ok) throw new Error(reason)
  }

  send(opcode, data, type) {
    return this.call('send', { opcode, data, type })
  }

  async authenticate(data, options) {
    return (await this.call('authenticate', data, options)).user
  }

  greet(credentials, opcode, data, type) {
    return this.call('greet', credentials, { opcode, data, type })
  }

  disconnect(code, reason) {
    return this.call('disconnect', code, reason)
  }

  async state() {
    const { authenticated, rules, messages } = await this.call('state')
    return { authenticated, rules, messages: plainStored(messages) }
  }

  async end() {
    this.process.child.stdin.end()
    await this.process.endedWell()
  }
}

module.exports = { clients: [LibraryDriver, BrowserDriver, BotDriver], endForGood }
