// Turns what scripts/bench has collected into the table of RESULTS.md, on stdout.
//   node report.js FOLDER RUNS REVISION MESA_LUA BUN
'use strict'
const { execFileSync } = require('child_process')
const fs = require('fs')
const os = require('os')
const path = require('path')

const [folder, runs, revision, mesaLua, bun] = process.argv.slice(2)
const lines = file => fs.readFileSync(path.join(folder, file), 'utf8').split('\n').filter(line => line !== '')
const records = lines('results.jsonl').map(line => JSON.parse(line))
const peers = lines('present.txt')

const median = values => {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}
const count = value => Math.round(value).toLocaleString('en-US')
const middle = (set, field) => median(set.map(record => record[field]))

// A generator that is busy all the time measures itself: the rate is then a lower bound. When neither side was busy,
// the machine was, with something else.
const BUSY_PERCENT = 95
const DISTURBED_PERCENT = 80

const UNITS = { echo: 'messages/s', fanout: 'deliveries/s', handshake: 'connections/s', idle: 'bytes' }

function mark(mode, set) {
  if (mode === 'idle') return ''
  const generator = middle(set, 'generator_cpu_percent')
  if (generator >= BUSY_PERCENT) return '≥ '
  return Math.max(generator, middle(set, 'server_cpu_percent')) < DISTURBED_PERCENT ? '~ ' : ''
}

function row(name, peer, set, base) {
  const ok = set.filter(record => record.failed === undefined)
  if (ok.length === 0) return set.length === 0 ? null : [name, peer, 'failed', '', '', '', '', '', '']
  const [{ mode }] = ok
  const field = mode === 'idle' ? 'bytes_each' : 'rate'
  const values = ok.map(record => record[field])
  const range = values.length > 1 ? ` (${count(Math.min(...values))}–${count(Math.max(...values))})` : ''
  const times = base === undefined ? '' : (median(values) / base[field]).toFixed(2)
  const failed = ok.length < set.length ? `, ${set.length - ok.length} of ${set.length} runs failed` : ''
  const cells = [name, peer, `${mark(mode, ok)}${count(median(values))}${range} ${UNITS[mode]}${failed}`, times]
  if (mode === 'idle') return [...cells, '', '', '', '', '']
  return [
    ...cells,
    middle(ok, 'server_cpu_us').toFixed(2),
    ...['p50_us', 'p99_us', 'p999_us'].map(latency => count(middle(ok, latency))),
    `${count(middle(ok, 'generator_cpu_percent'))} %`
  ]
}

function table() {
  const head = ['case', 'server', `median of ${runs} (range)`, '× Mesa', 'server CPU, µs each', 'p50 µs', 'p99 µs', 'p99.9 µs', 'generator busy']
  const rows = []
  for (const line of lines('cases.txt')) {
    const [name] = line.split('|')
    const of = peer => records.filter(record => record.label === `${name}|${peer}`)
    const mesa = of('mesa').filter(record => record.failed === undefined)
    const base = mesa.length === 0 ? undefined : Object.fromEntries(['rate', 'bytes_each'].map(field => [field, middle(mesa, field)]))
    for (const peer of peers) {
      const cells = row(name, peer, of(peer), base)
      if (cells !== null) rows.push(cells)
    }
  }
  const format = cells => `| ${cells.join(' | ')} |`
  return [format(head), format(head.map((_, i) => (i < 2 ? '---' : '---:'))), ...rows.map(format)]
}

function output(command, ...args) {
  try {
    return execFileSync(command, args, { encoding: 'utf8', timeout: 10000 }).trim()
  } catch {
    return 'unknown'
  }
}

function read(file) {
  try {
    return fs.readFileSync(file, 'utf8').trim()
  } catch {
    return 'unknown'
  }
}

function versionOf(...parts) {
  const text = read(path.join(folder, 'peers', 'node_modules', ...parts, 'package.json'))
  return text === 'unknown' ? text : JSON.parse(text).version
}

function versions() {
  const [cpu] = os.cpus()
  const all = [
    `${os.type()} ${os.release().split('-')[0]}, ${os.cpus().length} × ${cpu.model.trim()}, TCP congestion control ${read('/proc/sys/net/ipv4/tcp_congestion_control')}`,
    `Node ${process.version}, @cryb/mesa ${versionOf('@cryb', 'mesa')} with ws ${versionOf('@cryb', 'mesa', 'node_modules', 'ws')}, ws ${versionOf('ws')}, bufferutil ${versionOf('bufferutil')}`
  ]
  if (bun !== 'none') all.push(`Bun ${output(bun, '--version')}`)
  if (peers.includes('mesa-lua')) {
    all.push(`mesa-lua at ${revision}, Release, ${output('cc', '--version').split('\n')[0]}: ${output(mesaLua, '--version').split('\n').join(', ')}`)
  }
  return all.map(line => `- ${line}`)
}

function commands() {
  return lines('cases.txt').map(line => `mesa-bench ${line.split('|')[2]}`)
}

console.log([
  '# Results',
  '',
  'Written by `scripts/bench`; [NOTES.md](NOTES.md) says what is measured and how. More is better, except for memory.',
  '',
  ...table(),
  '',
  '`≥`: the generator was the limit; compare the CPU time instead. `~`: something else kept the machine busy; measure again.',
  '',
  '## Versions',
  '',
  ...versions(),
  '',
  '## Commands',
  '',
  'Each server on core 0, started anew for each run; the generator on core 1, with `--port` and `--pid` of the server.',
  '',
  '```',
  ...commands(),
  '```'
].join('\n'))
