local certificates = require "spec.support.certificates"
local fake_http = require "spec.support.fake_http"
local harness = require "spec.support.harness"
local http_lab = require "spec.support.http_lab"

local fs, loop, tls = harness.fs, harness.loop, harness.tls

describe("Mesa.http over TLS", function()
  local lab

  setup(function()
    local dir = fs.mkdtemp()
    fs.write(dir .. "/store.pem", fs.read(tls.certificate().cert))
    lab = http_lab.start { env = { SSL_CERT_FILE = dir .. "/store.pem" } }
    lab.store = dir
  end)
  teardown(function()
    lab:stop()
    fs.remove(lab.store)
  end)
  after_each(function()
    lab:clear()
  end)

  local function start_fake(routes, options)
    return lab:fake(routes, options)
  end

  local function ask(request)
    return lab:ask(request)
  end

  local routes = {
    ["/"] = function(conn) conn:reply(200, "secure") end,
    ["/big"] = function(conn) conn:reply(200, ("y"):rep(1000000)) end,
    ["/to-end"] = function(conn)
      conn:write "HTTP/1.1 200 OK\r\n\r\nall"
      conn:close()
    end,
    ["/cut"] = function(conn)
      conn:write "HTTP/1.1 200 OK\r\n\r\nall?"
      conn:close(false)
    end,
    ["/down"] = function(conn) conn:reply(302, "", { Location = "http://localhost/" }) end,
    ["/echo"] = function(conn, request) conn:reply(200, request.body) end,
  }

  it("is verified against the authorities of the system, and kept alive", function()
    local fake = start_fake(routes, { certificate = tls.certificate() })
    assert.equal("secure", ask({ url = fake.url }).body)
    assert.equal(1000000, #ask({ url = fake.url .. "/big" }).body)
    local body = ("z"):rep(300000)
    assert.is_true(ask({ method = "POST", url = fake.url .. "/echo", body = body }).body == body)
    assert.equal(1, #fake.connections)
    assert.equal("all", ask({ url = fake.url .. "/to-end" }).body)
  end)

  it("is verified against an authority of one's own", function()
    local dir = fs.mkdtemp()
    local pair = certificates.self_signed(dir)
    local fake = start_fake(routes, { certificate = pair })
    local refused = ask { url = fake.url }
    assert.equal("TLS", refused.code)
    assert.matches("certificate", refused.err, 1, true)
    assert.equal("secure", ask({ url = fake.url, tls = { ca = pair.cert } }).body)
    assert.equal("secure", ask({ url = ("https://127.0.0.1:%d"):format(fake.port), tls = { ca = pair.cert } }).body)
    assert.equal("secure", ask({ url = fake.url, tls = { verify = false } }).body)
    assert.equal("TLS", ask({ url = fake.url }).code) -- not over the connection that nobody verified
    local missing = ask { url = fake.url, tls = { ca = "/no/such.pem" } }
    assert.equal("TLS", missing.code)
    assert.matches("/no/such.pem", missing.err, 1, true)
    fs.remove(dir)
  end)

  it("refuses a certificate for another name", function()
    local fake = start_fake(routes, { certificate = tls.certificate(), host = "127.0.0.2" })
    local result = ask { url = ("https://127.0.0.2:%d"):format(fake.port) }
    assert.equal("TLS", result.code)
    assert.matches("IP address mismatch", result.err, 1, true)
  end)

  it("refuses an expired certificate", function()
    local dir = fs.mkdtemp()
    local pair = certificates.expired(dir)
    local fake = start_fake(routes, { certificate = pair })
    local result = ask { url = fake.url, tls = { ca = pair.ca } }
    assert.equal("TLS", result.code)
    assert.matches("expired", result.err, 1, true)
    fs.remove(dir)
  end)

  it("takes a missing end of the session for a missing end of the body", function()
    local fake = start_fake(routes, { certificate = tls.certificate() })
    assert.equal("CLOSED", ask({ url = fake.url .. "/cut" }).code)
  end)

  it("is not left for http by a redirection", function()
    local fake = start_fake(routes, { certificate = tls.certificate() })
    assert.equal("REDIRECT", ask({ url = fake.url .. "/down" }).code)
  end)

  it("is not spoken by everybody", function()
    local plain = start_fake {}
    local result = ask { url = ("https://localhost:%d/"):format(plain.port), connectTimeout = 500 }
    assert.is_true(result.code == "TLS" or result.code == "TIMEOUT")
    local fake = start_fake(routes, { certificate = tls.certificate() })
    assert.is_not_nil(ask({ url = ("http://localhost:%d/"):format(fake.port) }).code)
  end)
end)

describe("a server that ends while requests wait", function()
  it("leaves nothing behind", function()
    local plain = fake_http.start { ["*"] = function() end }
    local secure = fake_http.start({ ["*"] = function() end }, { certificate = tls.certificate() })
    local mute = fake_http.start({}, { certificate = tls.certificate(), on_connection = function() return false end })
    local lab = http_lab.start()
    for i = 1, 100 do
      local client = lab.server:join()
      local fake = ({ plain, secure, mute })[i % 3 + 1]
      client:send { op = 0, t = "HTTP", d = { url = fake.url, timeout = 60000, tls = { verify = false } } }
      if i % 2 == 0 then client:close() end
    end
    assert.is_true(loop.wait(function() return #plain.requests + #secure.requests + #mute.connections == 100 end, 10000))
    lab:stop()
    for _, fake in ipairs { plain, secure, mute } do fake:stop() end
  end)
end)
