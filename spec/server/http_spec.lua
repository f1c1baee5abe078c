local uv = require "luv"
local harness = require "spec.support.harness"

local PAGE = "<!doctype html><title>page</title>"
local SECRET = "do not serve this"

for _, transport in ipairs(harness.transports) do
  describe("static files over " .. transport.name, function()
    local server
    local big = ("0123456789abcdef"):rep(131072) -- 2 MiB

    setup(function()
      server = harness.lab({ static = "public", path = "/live", authentication = { timeout = false } }, {
        tls = transport.tls,
        files = {
          ["public/index.html"] = PAGE,
          ["public/app.js"] = "let a = 1",
          ["public/style.css"] = "body {}",
          ["public/data.json"] = "{}",
          ["public/icon.svg"] = "<svg/>",
          ["public/empty.txt"] = "",
          ["public/big.bin"] = big,
          ["public/sub/index.html"] = PAGE .. "sub",
          ["public/with space.txt"] = "space",
          ["public/.hidden"] = SECRET,
          ["public/.git/config"] = SECRET,
          ["secret.txt"] = SECRET,
          ["public-other/secret.txt"] = SECRET,
        },
      })
      assert(uv.fs_symlink(server:path "secret.txt", server:path "public/link.txt"))
      assert(uv.fs_symlink(server:path ".", server:path "public/up"))
    end)

    teardown(function()
      server:stop()
    end)

    local function get(path, headers)
      return assert(server:http { path = path, headers = headers })
    end

    it("are served with their type and length", function()
      for path, expected in pairs {
        ["/"] = { PAGE, "text/html" },
        ["/index.html"] = { PAGE, "text/html" },
        ["/app.js"] = { "let a = 1", "javascript" },
        ["/style.css"] = { "body {}", "text/css" },
        ["/data.json"] = { "{}", "application/json" },
        ["/icon.svg"] = { "<svg/>", "image/svg" },
        ["/empty.txt"] = { "", "text/plain" },
        ["/with%20space.txt"] = { "space", "text/plain" },
        ["/sub/"] = { PAGE .. "sub", "text/html" },
        ["/app.js?version=3"] = { "let a = 1", "javascript" },
      } do
        local response = get(path)
        assert.equal(200, response.status, path)
        assert.equal(expected[1], response.body, path)
        assert.matches(expected[2], response.headers["content-type"], 1, true)
      end
    end)

    it("arrive whole when they are large", function()
      local response = get "/big.bin"
      assert.equal(200, response.status)
      assert.is_true(response.body == big)
    end)

    it("have no body for HEAD", function()
      local response = assert(server:http { method = "HEAD", path = "/app.js" })
      assert.equal(200, response.status)
      assert.equal("9", response.headers["content-length"])
      assert.equal("", response.body)
    end)

    it("are not sent again to who has them", function()
      local first = get "/app.js"
      local headers = {}
      if first.headers.etag then
        headers["If-None-Match"] = first.headers.etag
      else
        headers["If-Modified-Since"] = first.headers["last-modified"]
      end
      assert.is_not_nil(next(headers))
      assert.equal(304, get("/app.js", headers).status)
    end)

    it("that do not exist are 404", function()
      for _, path in ipairs { "/missing", "/sub/missing.html", "/app.js/more", "/index.html/" } do
        assert.equal(404, get(path).status, path)
      end
    end)

    it("outside the folder are never served, however they are asked for", function()
      for _, path in ipairs {
        "/../secret.txt", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/%2e%2e%2fsecret.txt", "/sub/../../secret.txt",
        "/./../secret.txt", "/..\\secret.txt", "/..%5csecret.txt", "/sub/..%2f..%2fsecret.txt", "/%252e%252e/secret.txt",
        "/../public-other/secret.txt", "/....//secret.txt", "//secret.txt", "/link.txt", "/up/secret.txt", "/.hidden",
        "/.git/config", "/sub/%2e%2e/%2ehidden", "/%c0%ae%c0%ae/secret.txt", "/../../../../../../etc/passwd",
        "//etc/passwd", "/index.html%00.txt", "/%00secret.txt",
      } do
        local response = server:http { path = path }
        if response then
          assert.is_true(response.status >= 400 and response.status < 500, path .. " got " .. response.status)
          assert.is_nil(response.body:find(SECRET, 1, true), path)
          assert.is_nil(response.body:find("root:", 1, true), path)
        end
      end
    end)

    it("are not what stands before a NUL in the path", function()
      for _, path in ipairs { "/%00", "/%00?a=1", "/sub/%00" } do
        assert.equal(400, get(path).status, path)
      end
    end)

    it("allow GET and HEAD only", function()
      for _, method in ipairs { "DELETE", "PUT", "POST" } do
        local response = server:http { method = method, path = "/app.js" }
        if response then
          assert.is_true(response.status >= 400 and response.status < 500, method .. " got " .. response.status)
        end
      end
    end)

    it("leave the WebSocket path to WebSockets: 426 for a plain GET", function()
      assert.equal(426, get("/live").status)
      assert.equal(10, server:connect("/live"):hello().op)
    end)

    it("do not answer an upgrade", function()
      local client, _, response = server:try_connect "/app.js"
      assert.is_nil(client)
      assert.equal(404, response.status)
    end)
  end)
end

describe("static files and WebSockets on every path", function()
  it("share a port", function()
    local server = harness.lab({ static = "public" }, { files = { ["public/index.html"] = PAGE } })
    assert.equal(PAGE, server:http("/").body)
    assert.equal(10, server:connect("/"):hello().op)
    local missing = server:http "/missing"
    assert.is_true(missing.status == 404 or missing.status == 426)
    server:stop()
  end)
end)

describe("plain HTTP without static files", function()
  local server

  setup(function()
    server = harness.lab { path = "/live", limits = { handshakeTimeout = 400 } }
  end)

  teardown(function()
    server:stop()
  end)

  local function still_serving()
    local client = server:connect "/live"
    assert.equal(10, client:hello().op)
    client:close()
  end

  it("gets 426 on the WebSocket path and 404 elsewhere", function()
    assert.equal(426, server:http("/live").status)
    assert.equal(404, server:http("/").status)
    assert.equal(404, server:http("/favicon.ico").status)
  end)

  for what, raw in pairs {
    ["text that is no HTTP"] = "hello, is this a server?\r\n\r\n",
    ["binary bytes"] = "\0\1\2\3\4\5\6\7\r\n\r\n",
    ["a TLS hello"] = "\22\3\1\2\0\1\0\1\252\3\3" .. ("\170"):rep(64) .. "\r\n\r\n",
    ["a negative Content-Length"] = "POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    ["an overlong Content-Length"] = "POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    ["a Content-Length with letters"] = "POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 12abc\r\n\r\n",
    ["a body where none is expected"] = "GET /live HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    ["a path with a NUL"] = "GET /li%00ve HTTP/1.1\r\nHost: a\r\n\r\n",
  } do
    it("answers " .. what .. " with 4xx or nothing, and goes on serving", function()
      local response = server:http { raw = raw, timeout = 3000 }
      if response then
        assert.is_true(response.status >= 400 and response.status < 500, "got " .. response.status)
      end
      still_serving()
    end)
  end

  it("refuses headers over 8 KB and goes on serving", function()
    local client, _, response = server:try_connect("/live", { headers = { ["X-Long"] = ("h"):rep(20000) } })
    assert.is_nil(client)
    assert.is_true(response == nil or response.status >= 400 and response.status < 500)
    still_serving()
  end)

  it("accepts headers of 4 KB", function()
    assert.equal(10, server:connect("/live", { headers = { ["X-Long"] = ("h"):rep(4000) } }):hello().op)
  end)

  it("ends a handshake that stalls, others undisturbed", function()
    local stream = require "spec.support.stream"
    for _, part in ipairs { "", "GET /live HT", "GET /live HTTP/1.1\r\nHost: a\r\nUpgrade: web" } do
      local wire = assert(stream.connect { port = server.port })
      wire:listen(function() end, function() end)
      if #part > 0 then
        wire:write(part)
      end
      still_serving()
      assert.is_true(harness.loop.wait(function()
        return wire.ended
      end, 5000), "still open after " .. #part .. " bytes")
      wire:close()
    end
  end)

  it("survives a hundred requests whose peer does not wait for the answer", function()
    local stream = require "spec.support.stream"
    local before = server:fds()
    for _ = 1, 100 do
      local wire = assert(stream.connect { port = server.port })
      wire:write "GET /live HTTP/1.1\r\nHost: a\r\n\r\n"
      wire:close()
    end
    still_serving()
    assert.is_true(harness.loop.wait(function()
      harness.loop.sleep(20)
      return server:fds() <= before + 2
    end, 5000), "file descriptors left open")
  end)
end)

describe("the admin endpoint", function()
  local server, admin

  before_each(function()
    server = harness.lab({ admin = { port = 0 } }, { extra = [[
      server:on("listening", function() print("admin port " .. server.adminPort) end)
    ]] })
    admin = server.admin_port
  end)

  after_each(function()
    server:stop()
  end)

  it("names the port it got, to the script and in the log", function()
    server:log_contains("admin endpoint on http://127%.0%.0%.1:" .. admin .. "/")
    server:stdout_contains("admin port " .. admin .. "\n")
    assert.is_true(admin > 0 and admin ~= server.port)
  end)

  it("says that the server is healthy", function()
    assert.equal(200, server:http("/healthz", { port = admin }).status)
  end)

  it("counts connections in /metrics", function()
    server:join()
    server:join()
    local response = server:http("/metrics", { port = admin })
    assert.equal(200, response.status)
    assert.matches("mesa_%S*connections%S* 2", response.body)
  end)

  it("answers those who mean it, and not a page of a site whose name leads here (DNS rebinding)", function()
    local function status(host, path, method)
      local request = { path = path or "/healthz", method = method, headers = { Host = host } }
      return server:http(request, { port = admin }).status
    end
    for _, host in ipairs { "localhost", "LOCALHOST:" .. admin, "127.0.0.1", "127.0.0.1:" .. admin, "[::1]:80" } do
      assert.equal(200, status(host), host)
    end
    for _, host in ipairs { "rebind.example", "rebind.example:" .. admin, "localhost.rebind.example", "1.2.3.4.example", "" } do
      assert.equal(421, status(host), host)
    end
    assert.equal(421, status("rebind.example", "/metrics"))
    assert.equal(421, status("rebind.example", "/reload", "POST"))
  end)

  it("is not on the server's own port", function()
    assert.not_equal(200, server:http("/metrics").status)
    assert.not_equal(200, server:http("/healthz").status)
  end)

  it("answers 404 for anything else", function()
    assert.equal(404, server:http("/other", { port = admin }).status)
  end)
end)
