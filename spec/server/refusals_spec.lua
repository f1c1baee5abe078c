local harness = require "spec.support.harness"
local http = require "spec.support.http"
local stream = require "spec.support.stream"

-- What peers do wrong before they are clients: an answer, an error event, a line in the log, a count in the metrics.
for _, transport in ipairs(harness.transports) do
  describe("refusals over " .. transport.name, function()
    local server

    before_each(function()
      server = harness.lab({
        path = "/live", origins = { "https://good.example" }, admin = { port = 0 },
        limits = { handshakeTimeout = 500, maxConnections = 30 },
      }, { tls = transport.tls })
    end)

    after_each(function()
      server:stop()
    end)

    local function expect_report(code, text)
      local reporter = server:join "/live"
      local found
      assert.is_true(harness.loop.wait(function()
        reporter:send { op = 0, t = "EVENTS" }
        for _, event in ipairs(reporter:expect("EVENTS").d.events) do
          if event.name == "server error" and event.code == code then
            found = event
          end
        end
        return found ~= nil
      end, 5000), "no error event " .. code)
      assert.is_nil(found.client)
      assert.matches(text, found.message)
      assert.matches("127.0.0.1", found.message, 1, true)
      local _, lines = server:output():gsub(" " .. code .. ": ", "")
      assert.equal(1, lines)
      assert.matches('mesa_errors_total{code="' .. code .. '"} %d', http.request({ port = server.admin_port }, "/metrics").body)
    end

    it("report an unknown path", function()
      local client, _, response = server:try_connect "/other"
      assert.is_nil(client)
      assert.equal(404, response.status)
      expect_report("PATH", "/other")
    end)

    it("report a foreign origin", function()
      local client, _, response = server:try_connect("/live", { headers = { Origin = "https://evil.example" } })
      assert.is_nil(client)
      assert.equal(403, response.status)
      expect_report("ORIGIN", "https://evil.example")
    end)

    it("report headers over 8 KB", function()
      local client, _, response = server:try_connect("/live", { headers = { ["X-Long"] = ("h"):rep(9000) } })
      assert.is_nil(client)
      assert.equal(431, response.status)
      expect_report("HEADERS", "8192")
    end)

    it("report a handshake that stalls", function()
      local wire = assert(stream.connect { port = server.port })
      wire:listen(function() end, function() end)
      wire:write(transport.tls and "\22\3\1\2" or "GET /live HTTP/1.1\r\nHost: a\r\n")
      assert.is_true(harness.loop.wait(function()
        return wire.ended
      end, 5000))
      wire:close()
      expect_report("HANDSHAKE", "handshakeTimeout")
    end)

    it("report connections above the limit", function()
      local clients = {}
      for i = 1, 30 do
        clients[i] = server:join "/live"
      end
      assert.is_nil((server:try_connect "/live"))
      clients[30]:close()
      local last
      assert.is_true(harness.loop.wait(function()
        last = server:try_connect "/live"
        return last ~= nil
      end, 5000))
      last:close()
      clients[1]:send { op = 0, t = "EVENTS" }
      local report
      for _, event in ipairs(clients[1]:expect("EVENTS").d.events) do
        report = event.code == "LIMIT" and event or report
      end
      assert.matches("limits.maxConnections, from 127.0.0.1", report.message, 1, true)
      assert.matches(" LIMIT: ", server:output(), 1, true)
    end)

    it("do not report who looks whether the port is open", function()
      for _ = 1, 5 do
        stream.connect({ port = server.port }):close()
      end
      local quiet = assert(stream.connect { port = server.port })
      quiet:listen(function() end, function() end)
      assert.is_true(harness.loop.wait(function()
        return quiet.ended
      end, 5000))
      quiet:close()
      local client = server:join "/live"
      client:send { op = 0, t = "EVENTS" }
      for _, event in ipairs(client:expect("EVENTS").d.events) do
        assert.not_equal("server error", event.name)
      end
    end)

    it("do not fill the log", function()
      for _ = 1, 200 do
        server:try_connect "/other"
      end
      local _, lines = server:output():gsub(" PATH: ", "")
      assert.is_true(lines >= 1 and lines <= 20, lines .. " lines")
    end)
  end)
end
