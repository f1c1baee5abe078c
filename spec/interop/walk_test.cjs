// The table of README.md names tests that exist.
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { it } = require('node:test')

const read = name => fs.readFileSync(path.join(__dirname, name), 'utf8')
const rows = read('README.md').split('\n').map(line => /^\| [89]: .* \| (\w+) \| `` (.*) `` \|$/.exec(line)).filter(Boolean)

it('every statement of PROTOCOL 8 and 9 has its test', () => {
  assert.ok(rows.length > 50)
  assert.equal(rows.length, read('README.md').split('\n').filter(line => /^\| [89]:/.test(line)).length)
  for (const [, file, title] of rows) assert.ok(read(`${file}_test.cjs`).replaceAll('\\`', '`').includes(title), `${file}_test.cjs has no test "${title}"`)
})
