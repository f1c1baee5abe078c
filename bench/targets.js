// What mesa-lua is to reach beside the others, and whether it did.
'use strict'
const { ratio } = require('./measured')

const number = (value, digits) => value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })

// A ratio of rates to a peer's in a case, of mesa-lua's own case `id`.
function times(work, id, least, against = id) {
  return of => {
    const own = of(id, 'mesa-lua')
    const parts = Object.entries(least).map(([peer, limit]) => {
      const found = ratio(own, of(against, peer))
      return { peer, limit, found }
    })
    if (parts.some(part => part.found === undefined)) return undefined
    const name = peer => (peer === 'mesa' ? 'Mesa' : 'Bun')
    return {
      work,
      target: parts.map(part => `${number(part.limit, 1)} × ${name(part.peer)}`).join(', '),
      found: parts.map(part => `${number(part.found.value, 2)} × ${name(part.peer)}${part.found.byCpu ? ' (CPU time)' : ''}`).join(', '),
      reached: parts.every(part => part.found.value >= part.limit)
    }
  }
}

const MEMORY = 2100

function memory(of) {
  const own = of('idle', 'mesa-lua')
  const bun = of('idle', 'bun')
  if (!own?.runs || !bun?.runs) return undefined
  return {
    work: `resident bytes of an idle, authenticated connection, at ${number(own.count, 0)}`,
    target: `below Bun's, below ${number(MEMORY, 0)}`,
    found: `${number(own.bytes_each, 0)}, Bun ${number(bun.bytes_each, 0)}`,
    reached: own.bytes_each < bun.bytes_each && own.bytes_each < MEMORY
  }
}

const HEARTBEAT_PERCENT = 2

function heartbeat(of) {
  const own = of('heartbeat', 'mesa-lua')
  if (!own?.runs) return undefined
  return {
    work: 'one server, 10,000 connections with heartbeats every 10 s, no other traffic',
    target: `below ${HEARTBEAT_PERCENT} % of a core`,
    found: `${number(own.server_cpu_percent, 2)} %`,
    reached: own.server_cpu_percent < HEARTBEAT_PERCENT
  }
}

const FLAT = 1.5

function flat(of) {
  const counts = [10, 1000, 10000]
  const sets = counts.map(n => of(`connections-${n}`, 'mesa-lua'))
  if (sets.some(set => !set?.runs)) return undefined
  const each = sets.map(set => set.server_cpu_us)
  const spread = Math.max(...each) / Math.min(...each)
  return {
    work: `server CPU for a message at ${counts.map(n => number(n, 0)).join('; ')} connections`,
    target: `within ${FLAT} ×`,
    found: `${each.map(us => `${number(us, 2)} µs`).join('; ')}: ${number(spread, 2)} ×`,
    reached: spread <= FLAT
  }
}

const GROWTH_PERCENT = 1 // of pages touched late; a leak grows with the time
const mib = bytes => number(bytes / 1048576, 2)

function soak(of) {
  const own = of('soak', 'mesa-lua')
  if (!own?.runs) return undefined
  return {
    work: `${number(own.rate, 0)} messages/s for ${number(own.seconds, 0)} s`,
    target: 'resident memory does not grow, p99.9 stated',
    found: `${mib(own.rss_begin)} MiB at first, ${mib(own.rss_end)} MiB at last; p99.9 ${number(own.p999_us, 0)} µs`,
    reached: own.rss_end <= own.rss_begin * (1 + GROWTH_PERCENT / 100)
  }
}

const TARGETS = [
  times('echo, 64 connections, depth 1', 'echo-1', { bun: 1, mesa: 2 }),
  times('echo, 64 connections, depth 16', 'echo-16', { bun: 1, mesa: 9 }),
  times('echo with the data passed on unread, depth 16, beside the echo of others', 'echo-16-unread', { bun: 1.3 }, 'echo-16'),
  times('fan-out to 1,000, 16 publications in flight', 'fanout-16', { bun: 1, mesa: 15 }),
  times('handshakes', 'handshake', { bun: 1, mesa: 4 }),
  memory,
  times('16 KB messages, depth 1', 'echo-16k', { bun: 1 }),
  heartbeat,
  flat,
  soak
]

module.exports = of => TARGETS.map(target => target(of)).filter(row => row !== undefined)
