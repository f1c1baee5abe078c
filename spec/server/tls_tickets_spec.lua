-- Sessions that are resumed: where, and for how long.
local fs = require "spec.support.fs"
local loop = require "spec.support.loop"
local tls_lab = require "spec.support.tls_lab"

describe("a TLS session", function()
  local lab, pair
  local VERSIONS = { "-tls1_2", "-tls1_3" }

  before_each(function()
    lab = tls_lab.new()
    pair = lab:certificate()
  end)
  after_each(function()
    lab:stop()
  end)

  local function server(more)
    local tls = { cert = pair.cert, key = pair.key }
    for key, value in pairs(more or {}) do tls[key] = value end
    return lab:start(tls)
  end

  -- Begins a session at a server; the file it is in.
  local function begin(at, version)
    local session = lab:session()
    assert.is_false(lab:ask({ version, "-sess_out", session }, at).reused)
    return session
  end

  local function resumes(session, at, version)
    local asked = lab:ask({ version, "-sess_in", session }, at)
    assert.is_true(asked.answer)
    return asked.reused
  end

  it("is resumed by the process it began at, and by no other", function()
    local first, second = server(), server()
    for _, version in ipairs(VERSIONS) do
      local session = begin(first, version)
      assert.is_true(resumes(session, first, version), version)
      assert.is_false(resumes(session, second, version), version)
    end
  end)

  it("is resumed by every process with the same secret and certificate", function()
    fs.write(lab:path "secret", ("s"):rep(32))
    fs.write(lab:path "other", ("o"):rep(32))
    local first, second = server { ticketKeys = lab:path "secret" }, server { ticketKeys = lab:path "secret" }
    local stranger = server { ticketKeys = lab:path "other" }
    pair = lab:certificate { file = "another" }
    local impostor = server { ticketKeys = lab:path "secret" }
    for _, version in ipairs(VERSIONS) do
      local session = begin(first, version)
      assert.is_true(resumes(session, second, version), version)
      assert.is_false(resumes(session, stranger, version), version)
      assert.is_false(resumes(session, impostor, version), version)
    end
  end)

  it("outlives the process when the secret does", function()
    fs.write(lab:path "secret", ("s"):rep(32))
    local session = begin(server { ticketKeys = lab:path "secret" }, "-tls1_3")
    lab.servers[1]:stop()
    assert.is_true(resumes(session, server { ticketKeys = lab:path "secret" }, "-tls1_3"))
  end)

  it("outlives one change of the secret, and not two", function()
    fs.write(lab:path "secret", ("1"):rep(32))
    local first, second = server { ticketKeys = lab:path "secret" }, server { ticketKeys = lab:path "secret" }
    local sessions = {}
    local function change(to)
      local marks = { first:log_mark(), second:log_mark() }
      fs.write_atomically(lab:path "secret", to)
      first:log_contains("the files of tls have changed", 10000, marks[1])
      second:log_contains("the files of tls have changed", 10000, marks[2])
    end
    for _, version in ipairs(VERSIONS) do sessions[version] = begin(first, version) end
    change(("2"):rep(32))
    for _, version in ipairs(VERSIONS) do
      assert.is_true(resumes(sessions[version], second, version), version)
      assert.is_true(resumes(begin(second, version), first, version), version)
    end
    change(("3"):rep(32))
    for _, version in ipairs(VERSIONS) do assert.is_false(resumes(sessions[version], first, version), version) end
  end)

  it("goes on when the certificates are read again and are the same", function()
    local at = server()
    local session = begin(at, "-tls1_3")
    local mark = at:log_mark()
    at:signal "sighup"
    at:log_contains("nothing to reload", 10000, mark)
    assert.is_true(resumes(session, at, "-tls1_3"))
  end)

  it("is good for as long as configured, which clients are told, and not longer", function()
    local long, short = server { ticketLifetime = 3600000 }, server { ticketLifetime = 1000 }
    local sessions = {}
    for _, version in ipairs(VERSIONS) do
      local asked = lab:ask({ version, "-sess_out", lab:session() }, long)
      assert.matches("hint: 3600 %(seconds%)", asked.text)
      sessions[version] = begin(short, version)
    end
    local began = os.time()
    assert.is_true(loop.wait(function() return os.time() > began + 2 end, 10000))
    for _, version in ipairs(VERSIONS) do assert.is_false(resumes(sessions[version], short, version), version) end
  end)

  it("is never resumed when that is off", function()
    local at = server { ticketLifetime = false }
    for _, version in ipairs(VERSIONS) do
      local session = lab:session()
      assert.is_true(lab:ask({ version, "-sess_out", session }, at).answer)
      assert.is_false(fs.exists(session) and fs.read(session) ~= "" and resumes(session, at, version))
    end
  end)

  it("needs a secret that is one", function()
    local function refusal(tls)
      tls.cert, tls.key = pair.cert, pair.key
      return lab:check(tls).stderr
    end
    fs.write(lab:path "short", ("s"):rep(31))
    assert.matches("tls%.ticketKeys: cannot use .*/short: it needs at least 32 bytes that nobody can guess",
      refusal { ticketKeys = lab:path "short" })
    assert.matches("tls%.ticketKeys: cannot use .*/none: No such file or directory", refusal { ticketKeys = lab:path "none" })
    assert.matches("tls%.ticketLifetime must be at least 1000, or false for off, got 500", refusal { ticketLifetime = 500 })
  end)
end)
