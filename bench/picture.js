// Draws the results as bars: picture(measured) is the text of an SVG. Grey text and no background, so that it reads on light and dark pages.
'use strict'

const NAMES = { mesa: '@cryb/mesa', ws: 'ws', socketio: 'Socket.IO', bun: 'Bun', nginx: 'nginx + Lua', 'mesa-lua': 'mesa-lua' }
const PANELS = [
  { id: 'echo-1', title: 'echo, one in flight', unit: 'messages/s' },
  { id: 'echo-16', title: 'echo, 16 in flight', unit: 'messages/s' },
  { id: 'fanout-16', title: 'fan-out to 1,000, 16 in flight', unit: 'deliveries/s' },
  { id: 'handshake', title: 'handshakes', unit: 'connections/s' },
  { id: 'echo-16k', title: 'echo of 16 KB', unit: 'messages/s' },
  { id: 'idle', title: 'memory of an idle connection', unit: 'bytes, less is better' }
]
const TEXT = '#7d8590'
const OTHER = '#8b98a5'
const OWN = '#2f81f7'
const WIDTH = 860
const COLUMNS = 2
const PANEL = 410
const ROW = 20
const HEAD = 34
const LABEL = 92
const VALUE = 78

function short(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} M`
  return value >= 1e5 ? `${Math.round(value / 1e3)} k` : Math.round(value).toLocaleString('en-US')
}

function text(x, y, content, more = '') {
  return `<text x="${x}" y="${y}"${more}>${content.replace(/&/g, '&amp;').replace(/</g, '&lt;')}</text>`
}

function panel({ id, title, unit }, bars, x, y) {
  const most = Math.max(...bars.map(bar => bar.value))
  const out = [text(x, y + 16, title, ' font-weight="600"'), text(x + PANEL, y + 16, unit, ' text-anchor="end"')]
  bars.forEach((bar, i) => {
    const top = y + HEAD + i * ROW - 6
    const length = Math.max(1, (bar.value / most) * (PANEL - LABEL - VALUE))
    const own = bar.peer === 'mesa-lua'
    const weight = own ? ' font-weight="600"' : ''
    out.push(text(x + LABEL - 8, top + 12, NAMES[bar.peer], ` text-anchor="end"${weight}`))
    out.push(`<rect x="${x + LABEL}" y="${top + 2}" width="${length.toFixed(1)}" height="13" rx="2" fill="${own ? OWN : OTHER}"/>`)
    out.push(text((x + LABEL + length + 6).toFixed(1), top + 12, `${bar.limited ? '≥ ' : ''}${short(bar.value)}`, weight))
  })
  return `<g id="${id}">${out.join('')}</g>`
}

module.exports = ({ peers, of }) => {
  const order = ['mesa-lua', ...peers.filter(peer => peer !== 'mesa-lua')]
  const drawn = PANELS.map(one => ({
    one,
    bars: order
      .map(peer => ({ peer, set: of(one.id, peer) }))
      .filter(({ set }) => set?.runs)
      .map(({ peer, set }) => ({ peer, value: set.rate ?? set.bytes_each, limited: set.limited }))
  })).filter(({ bars }) => bars.length > 0)
  const height = HEAD + ROW * peers.length + 14
  const parts = drawn.map(({ one, bars }, i) =>
    panel(one, bars, (i % COLUMNS) * (WIDTH - PANEL), Math.floor(i / COLUMNS) * height)
  )
  const total = Math.ceil(drawn.length / COLUMNS) * height
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${total}" width="${WIDTH}" height="${total}" role="img"`,
    ` font-family="system-ui, sans-serif" font-size="12" fill="${TEXT}"><title>mesa-lua beside other servers</title>`,
    ...parts,
    '</svg>\n'
  ].join('\n')
}
