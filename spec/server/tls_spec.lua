local certificates = require "spec.support.certificates"
local harness = require "spec.support.harness"
local stream = require "spec.support.stream"
local tls_lab = require "spec.support.tls_lab"

describe("a TLS port", function()
  local server

  before_each(function()
    server = harness.lab({ limits = { handshakeTimeout = 500 } }, { tls = true })
  end)

  after_each(function()
    server:stop()
  end)

  local function openssl(...)
    local connect = "127.0.0.1:" .. server.port
    return harness.process.run("/usr/bin/openssl", { args = { "s_client", "-connect", connect, ... } })
  end

  local function still_serving()
    local client = server:join()
    client:send { op = 0, t = "ECHO" }
    client:expect "ECHO"
    client:close()
  end

  it("shows the configured certificate", function()
    local result = openssl("-CAfile", harness.tls.certificate().cert, "-verify_return_error")
    assert.matches("Verify return code: 0 (ok)", result.stdout, 1, true)
    assert.matches("CN = localhost", result.stdout, 1, true)
  end)

  it("agrees on http/1.1, never on h2", function()
    assert.matches("ALPN protocol: http/1.1", openssl("-alpn", "h2,http/1.1").stdout, 1, true)
    assert.is_nil(openssl("-alpn", "h2").stdout:find("ALPN protocol: h2", 1, true))
  end)

  it("speaks TLS 1.2 and 1.3 and nothing older", function()
    assert.matches("TLSv1.2", openssl("-tls1_2").stdout, 1, true)
    assert.matches("TLSv1.3", openssl("-tls1_3").stdout, 1, true)
    assert.not_equal(0, openssl("-tls1_1").exit_code)
  end)

  it("answers plain HTTP and garbage with nothing that hurts", function()
    for _, bytes in ipairs {
      "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
      ("\0\255"):rep(500),
      "\22\3\1\255\255" .. ("\1"):rep(300), -- a record that announces more than it has
    } do
      local wire = assert(stream.connect { port = server.port })
      wire:listen(function() end, function() end)
      wire:write(bytes)
      assert.is_true(harness.loop.wait(function()
        return wire.ended
      end, 5000))
      wire:close()
      still_serving()
    end
  end)

  it("ends a TLS handshake that stalls", function()
    local wire = assert(stream.connect { port = server.port })
    wire:listen(function() end, function() end)
    wire:write "\22\3\1"
    still_serving()
    assert.is_true(harness.loop.wait(function()
      return wire.ended
    end, 5000))
    wire:close()
  end)

  it("tells the script that the peer left without a closing handshake", function()
    local bystander = server:join()
    server:join():drop()
    local code
    harness.loop.wait(function()
      bystander:send { op = 0, t = "EVENTS" }
      for _, event in ipairs(bystander:expect("EVENTS").d.events) do
        code = event.name == "disconnect" and event.code or code
      end
      return code
    end, 5000)
    assert.equal(1006, code)
  end)
end)

describe("the settings of TLS", function()
  local lab

  before_each(function()
    lab = tls_lab.new()
  end)
  after_each(function()
    lab:stop()
  end)

  -- The error of a configuration that is refused.
  local function refusal(tls)
    local run = lab:check(tls)
    assert.equal(1, run.exit_code, run.stdout)
    return run.stderr
  end

  local function with(pair, settings)
    settings.cert, settings.key = pair.cert, pair.key
    return settings
  end

  it("can leave only version 1.3", function()
    lab:start(with(lab:certificate(), { minVersion = "1.3" }))
    assert.equal("TLSv1.3", lab:ask({ "-tls1_3" }).version)
    local asked = lab:ask { "-tls1_2" }
    assert.is_false(asked.answer)
    assert.matches("alert protocol version", asked.text, 1, true)
    assert.equal(0, select(2, lab:curl("/who", { "--cacert", lab:path "cert.pem" })))
    lab.server:log_contains "HANDSHAKE: the TLS handshake failed: unsupported protocol, from 127%.0%.0%.1"
  end)

  it("have 1.2 as the oldest version", function()
    local pair = lab:certificate()
    lab:start(with(pair, { minVersion = "1.2" }))
    assert.equal("TLSv1.2", lab:ask({ "-tls1_2" }).version)
    assert.is_false(lab:ask({ "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0" }).answer)
    assert.matches('tls%.minVersion must be "1%.2" or "1%.3", got the string "1%.1"', refusal(with(pair, { minVersion = "1.1" })))
    assert.matches('tls%.minVersion must be "1%.2" or "1%.3", got 1%.3', refusal(with(pair, { minVersion = 1.3 })))
  end)

  it("exchange no key by RSA, unless told to", function()
    local pair = lab:certificate { rsa = true }
    lab:start(pair)
    local rsa = { "-tls1_2", "-cipher", "AES128-GCM-SHA256" }
    assert.is_false(lab:ask(rsa).answer)
    assert.matches("^ECDHE%-RSA%-", lab:ask({ "-tls1_2" }).cipher)
    assert.equal("AES128-GCM-SHA256", lab:ask(rsa, lab:start(with(pair, { ciphers = "AES128-GCM-SHA256" }))).cipher)
  end)

  it("choose the cipher in the server's order", function()
    lab:start(with(lab:certificate(), {
      ciphers = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384",
    }))
    local function chosen(...) return lab:ask({ ... }).cipher end
    assert.equal("ECDHE-ECDSA-AES128-GCM-SHA256",
      chosen("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"))
    assert.equal("ECDHE-ECDSA-AES256-GCM-SHA384", chosen("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"))
    assert.equal("TLS_AES_128_GCM_SHA256", chosen("-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"))
    assert.is_false(lab:ask({ "-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305" }).answer)
    assert.is_false(lab:ask({ "-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256" }).answer)
  end)

  it("leave the ciphers of the other version alone", function()
    lab:start(with(lab:certificate(), { ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384:!aNULL" }))
    assert.equal("ECDHE-ECDSA-AES256-GCM-SHA384", lab:ask({ "-tls1_2" }).cipher)
    assert.equal("TLS_CHACHA20_POLY1305_SHA256", lab:ask({ "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256" }).cipher)
  end)

  it("name a cipher that OpenSSL does not know, which it would pass over", function()
    local pair = lab:certificate()
    assert.matches('tls%.ciphers: OpenSSL knows no cipher "ECDHE%-ECDSA%-AES128%-GCM%-SHA265"',
      refusal(with(pair, { ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA265" })))
    assert.matches('tls%.ciphers: OpenSSL knows no cipher "TLS_AES_128"', refusal(with(pair, { ciphers = "TLS_AES_128" })))
    assert.matches('tls%.ciphers: OpenSSL knows no cipher "%?+"', refusal(with(pair, { ciphers = ("?"):rep(5000) })))
  end)

  it("open an encrypted key with a passphrase, and never ask the terminal", function()
    local pair = lab:certificate { passphrase = "correct horse" }
    lab:start(with(pair, { passphrase = "correct horse" }))
    assert.is_true(lab:ask().answer)
    assert.matches("tls%.key: cannot use .*/cert%-key%.pem: it is encrypted: set tls%.passphrase, or take the encryption off "
      .. "%(openssl pkey ", refusal(with(pair, {})))
    local wrong = refusal(with(pair, { passphrase = "battery staple" }))
    assert.matches("tls%.key: cannot use .*/cert%-key%.pem: tls%.passphrase does not open it", wrong)
    assert.is_nil(wrong:find("battery", 1, true), "the passphrase is told")
    wrong = refusal(with(pair, { names = { ["localhost"] = { cert = pair.cert, key = pair.key } }, passphrase = "correct horse" }))
    assert.matches('tls%.names%["localhost"%]%.key: cannot use .*: it is encrypted: set the passphrase beside it', wrong)
    local own = { ["localhost"] = { cert = pair.cert, key = pair.key, passphrase = "correct horse" } }
    local run = lab:check(with(pair, { names = own, passphrase = "correct horse" }))
    assert.equal(0, run.exit_code, run.stderr)
  end)

  it("ask no terminal for a passphrase either", function()
    local pair = lab:certificate { passphrase = "correct horse" }
    lab:check(with(pair, {})) -- writes the script
    local command = ("%s --check %s"):format(harness.binary(), lab:path "check.lua")
    local run = harness.process.run("/usr/bin/script", { args = { "-q", "-e", "-c", command, "/dev/null" } })
    assert.equal(1, run.exit_code, run.stdout)
    assert.matches("it is encrypted: set tls.passphrase", run.stdout, 1, true)
    assert.is_nil(run.stdout:find("Enter", 1, true), run.stdout)
  end)

  it("warn of certificates that have expired or soon will, at the start, under --check and on reload", function()
    local soon, later = lab:certificate { file = "soon", days = 5 }, lab:certificate { file = "later", days = 30 }
    local old = certificates.expired(lab:path "old")
    local tls = { cert = old.cert, key = old.key, ca = later.cert, names = { ["localhost"] = soon, ["later.example"] = later } }
    local run = lab:check(tls)
    assert.equal(0, run.exit_code, run.stderr)
    local expired = "warn  tls: tls%.cert: the certificate CN=localhost in %S+/cert%.pem has expired on 2020%-01%-02: renew it"
    local near = 'warn  tls: tls%.names%["localhost"%]%.cert: the certificate CN=localhost in %S+/soon%.pem expires on '
      .. "%d+%-%d+%-%d+, within 5 days: renew it"
    assert.matches(expired, run.stderr)
    assert.matches(near, run.stderr)

    local server = lab:start(tls)
    assert.equal(1, server:log_count(expired))
    assert.equal(1, server:log_count(near))
    assert.equal(0, server:log_count "later%.pem")
    local mark = server:log_mark()
    server:signal "sighup"
    server:log_contains(expired, 10000, mark)
    server:log_contains(near, 10000, mark)
    assert.equal(0, server:log_count "later%.pem")
  end)
end)
