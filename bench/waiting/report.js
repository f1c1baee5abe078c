// The table of bench/waiting/run: report.js FILE, of lines "NAME JSON", to standard output.
'use strict'
const fs = require('fs')
const os = require('os')

const rounds = new Map()
for (const line of fs.readFileSync(process.argv[2], 'utf8').trim().split('\n')) {
  const [, name, json] = line.match(/^(\S+) (.*)$/)
  if (!rounds.has(name)) rounds.set(name, [])
  rounds.get(name).push(JSON.parse(json))
}

const sorted = values => [...values].sort((a, b) => a - b)
function median(values) {
  const all = sorted(values), half = Math.floor(all.length / 2)
  return all.length % 2 === 1 ? all[half] : (all[half - 1] + all[half]) / 2
}
const count = n => Math.round(n).toLocaleString('en-US')

const cell = values => {
  const all = sorted(values)
  return `${count(median(all))} (${count(all[0])}–${count(all[all.length - 1])})`
}

console.log(`# An echo beside 1,000 clients who authenticate at once

Written by \`bench/waiting/run\`; [NOTES.md](../NOTES.md) says what is measured and how. Medians (range) of all rounds, in µs; the service takes 300 ms. The last column is the median of each round's own quotient.

| program | rounds | all in, ms | idle p50 | idle p99 | burst p50 | burst p99 | burst max | burst p99 / idle p99 |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |`)
for (const [name, list] of rounds) {
  const of = (phase, key) => list.map(round => round[phase][key])
  const ratio = median(list.map(round => round.burst.p99_us / round.idle.p99_us))
  console.log(`| ${name} | ${list.length} | ${cell(list.map(round => round.all_in_ms))} | ` +
    [['idle', 'p50_us'], ['idle', 'p99_us'], ['burst', 'p50_us'], ['burst', 'p99_us'], ['burst', 'max_us']]
      .map(([phase, key]) => cell(of(phase, key))).join(' | ') + ` | ${ratio.toFixed(1)} |`)
}
console.log(`\n${os.cpus()[0].model.trim()}, ${os.cpus().length} cores, Linux ${os.release()}.`)
