// What scripts/bench has collected, as medians: measured(folder, runs) gives `of(id, peer)`, `ratio` and what the tables need of them.
'use strict'
const fs = require('fs')
const path = require('path')

// A generator that is busy all the time measures itself: the rate is then a lower bound, and the server's CPU time for each unit
// says more. When neither side was busy, the machine was, with something else.
const BUSY_PERCENT = 95
const DISTURBED_PERCENT = 80

function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

// The runs of one server in one case: the median of every number in them.
function summary(records) {
  const ok = records.filter(record => record.failed === undefined)
  if (ok.length === 0) return { failed: records.length, runs: 0 }
  const result = { failed: records.length - ok.length, runs: ok.length, mode: ok[0].mode }
  for (const [field, value] of Object.entries(ok[0])) {
    if (typeof value === 'number') result[field] = median(ok.map(record => record[field]))
  }
  result.rates = ok.map(record => record.rate)
  result.limited = result.generator_cpu_percent >= BUSY_PERCENT
  result.disturbed = !result.limited && Math.max(result.generator_cpu_percent, result.server_cpu_percent) < DISTURBED_PERCENT
  return result
}

// How many times as good `own` is as `other`: in its rate or, where something else was the limit of either, in CPU time.
function ratio(own, other) {
  if (!own || !other || !own.runs || !other.runs) return undefined
  if ([own, other].every(one => !one.limited && !one.disturbed)) return { value: own.rate / other.rate, byCpu: false }
  return { value: other.server_cpu_us / own.server_cpu_us, byCpu: true }
}

function measured(folder) {
  const lines = file => fs.readFileSync(path.join(folder, file), 'utf8').split('\n').filter(line => line !== '')
  const records = lines('results.jsonl').map(line => JSON.parse(line))
  const cases = lines('cases.txt').map(line => {
    const [id, name, peers, , , command] = line.split('|')
    return { id, name, peers: peers.split(' '), command: command.split(`${folder}/`).join('') }
  })
  const peers = lines('present.txt')
  const [revision] = lines('revision.txt')
  const known = new Map()
  const of = (id, peer) => {
    const label = `${id}|${peer}`
    if (!known.has(label)) {
      const set = records.filter(record => record.label === label)
      known.set(label, set.length === 0 ? undefined : summary(set))
    }
    return known.get(label)
  }
  return { cases, peers, revision, of, ratio }
}

module.exports = { measured, ratio }
