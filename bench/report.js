// Turns what scripts/bench has collected into RESULTS.md and, beside it, the picture.
//   node report.js FOLDER RUNS MESA_LUA BUN OUTPUT
'use strict'
const { execFileSync } = require('child_process')
const fs = require('fs')
const os = require('os')
const path = require('path')
const { measured } = require('./measured')
const picture = require('./picture')
const targets = require('./targets')

const [folder, runs, mesaLua, bun, output] = process.argv.slice(2)
const found = measured(folder)
const { cases, peers, revision, of, ratio } = found

const count = value => Math.round(value).toLocaleString('en-US')
const UNITS = { echo: 'messages/s', fanout: 'deliveries/s', handshake: 'connections/s' }

function table(head, rows) {
  if (rows.length === 0) return []
  const format = cells => `| ${cells.join(' | ')} |`
  return [format(head.map(cell => cell.replace(/^</, ''))), format(head.map(cell => (cell[0] === '<' ? '---' : '---:'))), ...rows.map(format), '']
}

function section(title, text, head, rows) {
  return rows.length === 0 ? [] : [`## ${title}`, '', ...(text ? [text, ''] : []), ...table(head, rows)]
}

// rows(ids, cells): what was measured in these cases, a row for each server; a failed one says so.
function rows(ids, cells) {
  const all = []
  for (const { id, name } of cases.filter(one => ids.test(one.id))) {
    for (const peer of peers) {
      const set = of(id, peer)
      if (set === undefined) continue
      all.push([name, peer, ...(set.runs === 0 ? ['failed'] : cells(set, id, peer))])
    }
  }
  return all
}

function rate(set) {
  const mark = set.limited ? '≥ ' : set.disturbed ? '~ ' : ''
  const range = set.runs > 1 ? ` (${count(Math.min(...set.rates))}–${count(Math.max(...set.rates))})` : ''
  const failed = set.failed > 0 ? `, ${set.failed} runs failed` : ''
  return `${mark}${count(set.rate)}${range} ${UNITS[set.mode]}${failed}`
}

function times(set, id, peer) {
  const one = ratio(set, of(id, peer))
  return one === undefined ? '' : `${one.value.toFixed(2)}${one.byCpu ? ' ᶜ' : ''}`
}

const latencies = set => ['p50_us', 'p99_us', 'p999_us'].map(field => count(set[field]))

function sideBySide() {
  return section(
    'Beside other servers',
    '`≥`: the generator was the limit. `~`: neither side was busy all the time; something else kept the machine busy. ᶜ: for the one or the other, the ratio is that of the servers\' CPU time for each.',
    ['<case', '<server', `median of ${runs} (range)`, '× Mesa', '× Bun', 'server CPU, µs each', 'p50 µs', 'p99 µs', 'p99.9 µs', 'generator busy'],
    rows(/^(echo|fanout|handshake)/, (set, id) => [
      rate(set), times(set, id, 'mesa'), times(set, id, 'bun'), set.server_cpu_us.toFixed(2), ...latencies(set), `${count(set.generator_cpu_percent)} %`
    ])
  )
}

function memory() {
  const beside = (set, id, peer) => (of(id, peer)?.runs ? (set.bytes_each / of(id, peer).bytes_each).toFixed(2) : '')
  return section(
    'Memory',
    'Resident memory of the server, divided by the connections; less is better.',
    ['<case', '<server', 'bytes each', '× Mesa', '× Bun'],
    rows(/^idle$/, (set, id) => [count(set.bytes_each), beside(set, id, 'mesa'), beside(set, id, 'bun')])
  )
}

function connections() {
  return section(
    'More connections',
    'At a depth of 4 each.',
    ['<case', '<server', `median of ${runs} (range)`, 'server CPU, µs each', '× that of 10 connections', 'p99 µs'],
    rows(/^connections-/, (set, id, peer) => {
      const ten = of('connections-10', peer)
      return [rate(set), set.server_cpu_us.toFixed(2), ten?.runs ? (set.server_cpu_us / ten.server_cpu_us).toFixed(2) : '', count(set.p99_us)]
    })
  )
}

const BASES = {
  'cost-middleware': 'cost-plain', 'cost-sleep': 'cost-plain', 'cost-tls': 'cost-plain', 'cost-user': 'cost-plain',
  'cost-redis': 'cost-user', 'cost-connect-tls': 'cost-connect'
}

function costs() {
  return section(
    'What things cost',
    'Echo at depth 16 over 64 connections, and handshakes. The last column is the server\'s CPU time above that of the case it is compared with; Redis\' own time is not in it.',
    ['<case', '<server', `median of ${runs}`, 'server CPU, µs each', 'more than', 'µs'],
    rows(/^cost-/, (set, id, peer) => {
      const base = of(BASES[id], peer)
      const name = cases.find(one => one.id === BASES[id])?.name.replace(/, for comparison$/, '') ?? ''
      const more = base?.runs ? [name, (set.server_cpu_us - base.server_cpu_us).toFixed(2)] : ['', '']
      return [`${set.limited ? '≥ ' : ''}${count(set.rate)} ${UNITS[set.mode]}`, set.server_cpu_us.toFixed(2), ...more]
    })
  )
}

function startup() {
  return section('Startup', '', ['<case', '<server', 'median, ms'], rows(/^startup$/, set => [set.median_ms.toFixed(1)]))
}

function heartbeats() {
  return section(
    'Heartbeats', '',
    ['<case', '<server', 'heartbeats/s', 'of a core', 'server CPU, µs each'],
    rows(/^heartbeat$/, set => [count(set.rate), `${set.server_cpu_percent.toFixed(2)} %`, set.server_cpu_us.toFixed(1)])
  )
}

function soak() {
  const mib = bytes => (bytes / 1048576).toFixed(2)
  return section(
    'At a constant rate',
    'Latency counts from when a message was due, whatever kept it from being sent. Resident memory is the mean of the first and of the last quarter of the time, read every second.',
    ['<case', '<server', 'answers/s', 'of a core', 'p50 µs', 'p99 µs', 'p99.9 µs', 'most µs', 'MiB at first', 'MiB at last', 'MiB at most'],
    rows(/^soak$/, set => [
      count(set.rate), `${set.server_cpu_percent.toFixed(0)} %`, ...latencies(set), count(set.max_us), mib(set.rss_begin), mib(set.rss_end), mib(set.rss_peak)
    ])
  )
}

function goals() {
  return section(
    'Targets',
    'Ratios of medians of this session; more is better, except for memory and CPU time.',
    ['<work', '<target', '<measured', '<'],
    targets(of).map(row => [row.work, row.target, row.found, row.reached ? 'reached' : '**not reached**'])
  )
}

function run(command, ...args) {
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

// nginx_1.22.1-9+deb12u11_amd64.deb -> nginx 1.22.1-9+deb12u11
function unpackedPackages() {
  const files = fs.readdirSync(path.join(folder, 'nginx')).filter(file => file.endsWith('.deb'))
  return files.map(file => decodeURIComponent(file).split('_').slice(0, 2).join(' ').replace(/ \d:/, ' ')).join(', ')
}

function versions() {
  const [cpu] = os.cpus()
  const all = [
    `${os.type()} ${os.release().split('-')[0]}, ${os.cpus().length} × ${cpu.model.trim()}, TCP congestion control ${read('/proc/sys/net/ipv4/tcp_congestion_control')}`
  ]
  if (peers.some(peer => ['mesa', 'ws', 'socketio'].includes(peer))) {
    all.push(`Node ${process.version}, @cryb/mesa ${versionOf('@cryb', 'mesa')} with ws ${versionOf('@cryb', 'mesa', 'node_modules', 'ws')}, ws ${versionOf('ws')}, socket.io ${versionOf('socket.io')}, bufferutil ${versionOf('bufferutil')}`)
  }
  if (bun !== 'none') all.push(`Bun ${run(bun, '--version')}`)
  if (peers.includes('nginx')) all.push(`Debian's ${unpackedPackages()}`)
  if (peers.includes('mesa-lua')) {
    all.push(`mesa-lua at ${revision}, as scripts/build makes it, ${run('cc', '--version').split('\n')[0]}: ${run(mesaLua, '--version').split('\n').join(', ')}`)
  }
  return all.map(line => `- ${line}`)
}

const image = output.replace(/(\.md)?$/, '.svg').replace(/RESULTS\.svg$/, 'results.svg')
fs.writeFileSync(image, picture(found))
fs.writeFileSync(output, [
  '# Results',
  '',
  'Written by `scripts/bench`; [NOTES.md](NOTES.md) says what is measured and how. Medians of alternating runs.',
  '',
  `![mesa-lua beside other servers](${path.basename(image)})`,
  '',
  ...goals(), ...sideBySide(), ...memory(), ...connections(), ...heartbeats(), ...costs(), ...startup(), ...soak(),
  '## Versions',
  '',
  ...versions(),
  '',
  '## Commands',
  '',
  'Each server on core 0, started anew for each run; the generator on core 1, with `--port` and `--pid` of the server.',
  '',
  '```',
  ...[...new Set(cases.map(one => `mesa-bench ${one.command}`))],
  '```',
  ''
].join('\n'))
