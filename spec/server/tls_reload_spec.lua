-- Certificates that change while the server runs.
local fs = require "spec.support.fs"
local harness = require "spec.support.harness"
local stream = require "spec.support.stream"
local tls = require "spec.support.tls"
local tls_lab = require "spec.support.tls_lab"
local uv = require "luv"

local loop = harness.loop

describe("a certificate that changes", function()
  local lab

  before_each(function()
    lab = tls_lab.new()
  end)
  after_each(function()
    lab:stop()
  end)

  -- Puts a new certificate and its key over those of the server, each in one step.
  local function replace(pair, options)
    options.file = "next"
    local new = lab:certificate(options)
    fs.write_atomically(pair.cert, fs.read(new.cert))
    fs.write_atomically(pair.key, fs.read(new.key))
  end

  it("is taken as soon as it is written, and connections go on", function()
    local pair = lab:certificate { subject = "/CN=first" }
    local server = lab:start(pair)
    local client = server:join(nil, { ca = pair.cert })
    assert.equal("CN = first", lab:ask().subject)

    replace(pair, { subject = "/CN=second" })
    assert.is_true(lab:shows "CN = second")
    client:send { op = 0, d = "still here", t = "X" }
    assert.equal("still here", client:expect("ANSWER").d.said)
    server:join(nil, { ca = pair.cert })
    server:log_contains("info  tls: the files of tls have changed, new handshakes on port %d+ use them: "
      .. "CN=second, valid until %d%d%d%d%-%d%d%-%d%d")
  end)

  it("lets a handshake that has begun go on with the old one", function()
    local pair = lab:certificate { subject = "/CN=localhost" }
    local server = lab:start(pair)
    local session, wire = tls.client(pair.cert), assert(stream.connect { port = server.port })
    local trouble
    wire:listen(function(bytes)
      local _, err = session:handshake(bytes)
      trouble = trouble or err
      wire:write(session:outgoing())
    end, function() trouble = trouble or "the end" end)
    session:handshake()
    local hello = session:outgoing()
    wire:write(hello:sub(1, 100))
    replace(pair, { subject = "/CN=second" })
    assert.is_true(lab:shows "CN = second")
    wire:write(hello:sub(101))
    assert.is_true(loop.wait(function() return session.ready or trouble end, 10000))
    assert.is_nil(trouble)
    wire:close()
  end)

  it("disturbs nobody, however often it changes", function()
    local pairs_of = {}
    for i = 1, 2 do pairs_of[i] = lab:certificate { file = "pair" .. i } end
    local pair = lab:certificate()
    local both = lab:path "both.pem"
    fs.write(both, fs.read(pairs_of[1].cert) .. fs.read(pairs_of[2].cert) .. fs.read(pair.cert))
    local server = lab:start(pair)
    local client = server:join(nil, { ca = both })
    for i = 1, 20 do
      fs.write(pair.cert, fs.read(pairs_of[i % 2 + 1].cert))
      fs.write(pair.key, fs.read(pairs_of[i % 2 + 1].key))
      server:signal "sighup"
      server:join(nil, { ca = both }):close()
      client:send { op = 0, d = i, t = "X" }
      assert.equal(i, client:expect("ANSWER").d.said)
    end
    assert.equal(0, server:log_count "HANDSHAKE")
  end)

  it("is shown to those who come back with a session of the old one", function()
    for _, version in ipairs { "-tls1_2", "-tls1_3" } do
      local pair = lab:certificate { subject = "/CN=first" }
      lab:start(pair)
      lab.server = lab.servers[#lab.servers]
      local session = lab:session()
      lab:ask { version, "-sess_out", session }
      assert.is_true(lab:ask({ version, "-sess_in", session, "-sess_out", session }).reused, version)
      replace(pair, { subject = "/CN=second" })
      assert.is_true(lab:shows("CN = second", { version }))
      local again = lab:ask { version, "-sess_in", session }
      assert.is_false(again.reused, version)
      assert.equal("CN = second", again.subject)
    end
  end)

  it("is taken behind a symbolic link that is turned, as certbot does", function()
    local pair = lab:certificate { subject = "/CN=first" }
    local live = { cert = lab:path "live/cert.pem", key = lab:path "live/key.pem" }
    fs.write(lab:path "live/README", "")
    assert(uv.fs_symlink("../cert.pem", live.cert))
    assert(uv.fs_symlink("../cert-key.pem", live.key))
    lab:start(live)
    assert.equal("CN = first", lab:ask().subject)

    local new = lab:certificate { subject = "/CN=second", file = "cert2" }
    assert(uv.fs_unlink(live.cert))
    assert(uv.fs_symlink("../cert2.pem", live.cert))
    assert(uv.fs_unlink(live.key))
    assert(uv.fs_symlink("../cert2-key.pem", live.key))
    assert.is_true(lab:shows "CN = second")
    assert.is_string(new.cert)
    assert.is_string(pair.cert)
  end)

  it("is taken when the folder on the way is swapped, as cert-manager does", function()
    local function version(name, subject)
      local pair = lab:certificate { subject = subject, file = name }
      fs.write(lab:path("mount/" .. name .. "/tls.crt"), fs.read(pair.cert))
      fs.write(lab:path("mount/" .. name .. "/tls.key"), fs.read(pair.key))
    end
    version("..1", "/CN=first")
    assert(uv.fs_symlink("..1", lab:path "mount/..data"))
    assert(uv.fs_symlink("..data/tls.crt", lab:path "mount/tls.crt"))
    assert(uv.fs_symlink("..data/tls.key", lab:path "mount/tls.key"))
    lab:start { cert = lab:path "mount/tls.crt", key = lab:path "mount/tls.key" }
    assert.equal("CN = first", lab:ask().subject)

    version("..2", "/CN=second")
    assert(uv.fs_symlink("..2", lab:path "mount/..new"))
    assert(uv.fs_rename(lab:path "mount/..new", lab:path "mount/..data"))
    assert.is_true(lab:shows "CN = second")
  end)

  it("is left alone while it does not fit, with a reason, and taken once it does", function()
    local pair = lab:certificate { subject = "/CN=first" }
    local server = lab:start(pair)
    local key = fs.read(pair.key)
    local new = lab:certificate { subject = "/CN=second", file = "next" }
    local mark = server:log_mark()

    fs.write_atomically(pair.cert, fs.read(new.cert))
    server:log_contains("warn  client: RELOAD: tls%.key: cannot use " .. pair.key:gsub("%p", "%%%0")
      .. ": it does not belong to tls%.cert; the old certificates stay in use\n", 10000, mark)
    assert.equal("CN = first", lab:ask().subject)

    mark = server:log_mark()
    fs.write_atomically(pair.key, "-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")
    server:log_contains("RELOAD: .*tls%.key: cannot use ", 10000, mark)
    mark = server:log_mark()
    assert(uv.fs_unlink(pair.key))
    server:signal "sighup"
    server:log_contains("RELOAD: .*tls%.key: cannot use .*: No such file or directory; ", 10000, mark)
    assert.equal("CN = first", lab:ask().subject)

    fs.write_atomically(pair.key, fs.read(new.key))
    assert.is_true(lab:shows "CN = second")
    assert.is_not.equal(key, fs.read(pair.key))
  end)

  it("is taken on SIGHUP and POST /reload with --no-watch, too", function()
    local pair = lab:certificate { subject = "/CN=first" }
    local server = lab:start(pair, { admin = { port = 0 } }, { flags = { "--no-watch" } })
    replace(pair, { subject = "/CN=second" })
    server:signal "sighup"
    assert.is_true(lab:shows "CN = second")

    local function reload()
      return server:http({ method = "POST", path = "/reload" }, { port = server.admin_port })
    end
    replace(pair, { subject = "/CN=third" })
    local response = reload()
    assert.equal(200, response.status, response.body)
    assert.matches("the files of tls have changed, new handshakes on port %d+ use them", response.body)
    assert.equal("CN = third", lab:ask().subject)

    response = reload()
    assert.equal(200, response.status)
    assert.is_nil(response.body:find("have changed", 1, true), response.body)

    fs.write_atomically(pair.cert, "none")
    response = reload()
    assert.equal(500, response.status)
    assert.matches("tls%.cert: cannot use .*: it is no PEM file of this kind", response.body)
    local metrics = server:http("/metrics", { port = server.admin_port }).body
    assert.matches("mesa_reloads_total 2", metrics, 1, true)
    assert.matches('mesa_errors_total{code="RELOAD"} 1', metrics, 1, true)
  end)

  it("is an error event when it cannot be used", function()
    local pair = lab:certificate()
    local server = harness.start(([[
      local Mesa = require "mesa"
      local server = Mesa.new { port = 0, host = "127.0.0.1", tls = { cert = %q, key = %q } }
      server:on("error", function(err, client) print(err.code, client, err.message) end)
    ]]):format(pair.cert, pair.key))
    fs.write_atomically(pair.cert, "none")
    server:stdout_contains("RELOAD\tnil\ttls%.cert: cannot use .*; the old certificates stay in use", 10000)
    server:stop()
  end)

  it("is not taken while somebody is still writing it", function()
    local pair = lab:certificate { subject = "/CN=first" }
    local server = lab:start(pair)
    local new = lab:certificate { subject = "/CN=second", file = "next" }
    local text = fs.read(new.cert)
    local file = assert(io.open(pair.cert, "wb"))
    file:write(text:sub(1, 100))
    file:flush()
    fs.write_atomically(pair.key, fs.read(pair.key)) -- another event, while the first file is open
    loop.wait(function() return false end, 300)
    assert.equal("CN = first", lab:ask().subject)
    assert.equal(0, server:log_count "RELOAD")
    file:write(text:sub(101))
    file:close()
    fs.write_atomically(pair.key, fs.read(new.key))
    assert.is_true(lab:shows "CN = second")
  end)
end)
