// A mixed cluster on one private Redis: a server of the Node library and two of mesa-lua, each with a guest, its "voice", and clients
// that remember what they get.
const { after, afterEach, before } = require('node:test')
const Redis = require('ioredis')
const WebSocket = require('ws')
const { startRedis } = require('./redis.cjs')
const { Inbox, startMesaLua, startNodeMesa } = require('./support.cjs')

const KINDS = { node: startNodeMesa, lua1: startMesaLua, lua2: startMesaLua }
const SERVERS = Object.keys(KINDS)
const LUA = ['lua1', 'lua2']
const LEASE_MS = 1000 // of the mesa-lua servers

async function until(condition, ms = 30000) {
  const deadline = Date.now() + ms
  while (!await condition()) {
    if (Date.now() > deadline) throw new Error(`never came true: ${condition}`)
    await new Promise(done => setTimeout(done, 10))
  }
}

// One connection. `frames` has all it got, in order; `inbox` those that nobody has taken yet.
class Member {
  constructor(url, options) {
    this.frames = []
    this.inbox = new Inbox()
    this.ws = new WebSocket(url, options)
    this.ws.on('message', data => {
      const frame = JSON.parse(data)
      this.frames.push(frame)
      this.inbox.push(frame)
    })
    this.ws.on('error', () => {})
    this.closed = new Promise(resolve => this.ws.on('close', resolve))
  }

  send(frame) {
    this.ws.send(typeof frame === 'string' ? frame : JSON.stringify(frame))
  }

  op(op) {
    return this.inbox.take(frame => frame.op === op, 30000)
  }

  type(t) {
    return this.inbox.take(frame => frame.t === t, 30000)
  }

  // The types of all it got but what belongs to the tests' own means.
  get types() {
    return this.frames.filter(frame => frame.op === 0 && !['FENCE', 'SENT', 'SENT_MANY'].includes(frame.t)).map(frame => frame.t)
  }

  async leave() {
    this.ws.close()
    await this.closed
  }
}

class Cluster {
  // `config` is for all servers; `each` has what is different: node, lua (both of them), lua1, lua2, and `extra`, Lua text behind the labs.
  // `beside`: there is another cluster in the same namespace.
  static async start(redis, config = {}, { beside, extra, ...each } = {}) {
    const cluster = new Cluster()
    config = { ...config, authentication: { timeout: false, ...config.authentication } } // the guests stay
    Object.assign(cluster, { redis, config, namespace: config.namespace, servers: {}, members: [], voices: {}, cleanUps: [], fences: 0 })
    redis.clusters.push(cluster)
    await Promise.all(SERVERS.map(async name => {
      const own = name === 'node' ? { redis: redis.uri } : { redis: { uri: redis.uri, lease: LEASE_MS }, ...each.lua }
      cluster.servers[name] = await KINDS[name]({ ...config, ...own, ...each[name] }, { extra })
    }))
    await cluster.comeTogether(beside ? 2 : 1)
    for (const name of SERVERS) cluster.voices[name] = await cluster.join(name)
    await cluster.settle()
    return cluster
  }

  // Waits until all servers of so many clusters are subscribed and known.
  async comeTogether(clusters) {
    const channels = ['ws', 'available_portals_pool'].map(name => this.key(name))
    await until(async () => {
      const [, first, , second] = await this.redis.client.pubsub('NUMSUB', ...channels)
      const nodes = await this.redis.client.scard(this.key('mesa:nodes'))
      return first === clusters * SERVERS.length && second >= first && nodes === clusters * LUA.length
    })
  }

  // The name that a key or channel of the protocol has here.
  key(name) {
    return this.namespace ? `${name}_${this.namespace}` : name
  }

  async join(at, options) {
    const member = new Member(this.servers[at].url, options)
    this.members.push(member)
    await member.op(10)
    return member
  }

  // `data` goes with the credentials.
  async login(at, id, data, options) {
    const member = await this.join(at, options)
    member.send({ op: 2, d: { id, ...data } })
    await member.op(22)
    if (this.config.authentication.storeConnectedUsers !== false) await this.online(id)
    return member
  }

  // A user of the same name at each server.
  async loginAll() {
    return Object.fromEntries(await Promise.all(SERVERS.map(async at => [at, await this.login(at, at)])))
  }

  online(id) {
    return until(() => this.redis.client.sismember(this.key('connected_clients'), id))
  }

  offline(id) {
    return until(async () => !await this.redis.client.sismember(this.key('connected_clients'), id))
  }

  // What is stored for a user, parsed; undefined: nothing.
  async stored(id) {
    const text = await this.redis.client.hget(this.key('undelivered_messages'), id)
    return text === null ? undefined : JSON.parse(text)
  }

  // A server sends as its script does, for a guest of its own, its "voice"; afterwards it has handed the message on.
  async send(from, message, to, excluding) {
    this.voices[from].send({ op: 0, t: 'SEND', d: { message, to, excluding } })
    return (await this.voices[from].type('SENT')).d
  }

  // Every server says something behind what it sent before; done when all of `members` have heard all of it.
  async fence(...members) {
    const n = ++this.fences
    const alive = SERVERS.filter(name => !this.servers[name].killed)
    for (const from of alive) await this.send(from, { t: 'FENCE', d: { n, from } })
    for (const member of members)
      for (const from of alive) await member.inbox.take(({ t, d }) => t === 'FENCE' && d.n === n && d.from === from, 30000)
  }

  // What was published until now has reached every server. (Unless clients must be authenticated: their guests hear nothing.)
  settle() {
    return this.config.authentication.required ? Promise.resolve() : this.fence(...Object.values(this.voices))
  }

  // What is published from now on on a channel, parsed, without the fences; `texts` as it came.
  async watch(name) {
    const subscriber = new Redis(this.redis.uri)
    const inbox = new Inbox()
    inbox.texts = []
    subscriber.on('message', (_, text) => {
      const json = JSON.parse(text)
      if (json.message?.t === 'FENCE') return
      inbox.texts.push(text)
      inbox.push(json)
    })
    await subscriber.subscribe(this.key(name))
    this.cleanUps.push(() => subscriber.disconnect())
    return inbox
  }

  // kill -9
  async kill(name) {
    this.servers[name].child.kill('SIGKILL')
    await this.servers[name].ended
    this.servers[name].killed = true
  }

  async stop() {
    this.members.forEach(member => member.ws.terminate())
    for (const cleanUp of this.cleanUps) await cleanUp()
    await Promise.all(Object.values(this.servers).map(server => server.killed || server.stop()))
  }
}

// One Redis for the tests of a file. After each of them its clusters are stopped, and it is emptied.
function useRedis() {
  const redis = { clusters: [] }
  before(async () => { Object.assign(redis, await startRedis()) })
  after(() => redis.stop())
  afterEach(async () => {
    const stopped = await Promise.allSettled(redis.clusters.splice(0).map(cluster => cluster.stop()))
    await redis.client.flushall()
    const failed = stopped.find(({ status }) => status === 'rejected')
    if (failed) throw failed.reason
  })
  return redis
}

module.exports = { Cluster, LUA, SERVERS, until, useRedis }
