local harness = require "spec.support.harness"
local stream = require "spec.support.stream"

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
