local harness = require "spec.support.harness"
local http_lab = require "spec.support.http_lab"

local loop, tls = harness.loop, harness.tls

describe("Mesa.http", function()
  local lab

  setup(function()
    lab = http_lab.start()
  end)
  teardown(function()
    lab:stop()
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

  local function eval(code)
    return lab:eval(code)
  end

  local function respond(bytes, request)
    return lab:respond(bytes, request)
  end

  describe("requests", function()
    it("carry method, path, query, headers and body", function()
      local fake = start_fake { ["*"] = function(conn, request)
        conn:reply(201, request.body, { ["X-Seen"] = "yes" })
      end }
      local result = ask {
        method = "PUT", url = fake.url .. "/p/q?x=1#part", body = "text",
        query = { b = "ü &=", a = { 1, true } }, headers = { ["X-Mine"] = "here", ["X-Many"] = { "1", "2" } },
      }
      assert.equal(201, result.status)
      assert.equal("text", result.body)
      assert.equal("yes", result.headers["x-seen"])
      local seen = fake.requests[1]
      assert.equal("PUT", seen.method)
      assert.equal("/p/q?x=1&a=1&a=true&b=%C3%BC%20%26%3D", seen.target)
      assert.equal("localhost:" .. fake.port, seen.headers.host)
      assert.equal("here", seen.headers["x-mine"])
      assert.equal("4", seen.headers["content-length"])
      assert.is_nil(seen.headers["accept-encoding"])
    end)

    it("have a function for each usual method", function()
      local fake = start_fake { ["*"] = function(conn, request)
        if request.method == "HEAD" then
          conn:write "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        else
          conn:reply(200, request.method .. request.body)
        end
      end }
      local result = eval(([[local seen = {}
        for _, name in ipairs { "get", "post", "put", "patch", "delete", "head" } do
          seen[#seen + 1] = Mesa.http[name]("%s/", name ~= "get" and name ~= "head" and { body = "!" } or nil).body
        end
        return table.concat(seen, " ")]]):format(fake.url))
      assert.same({ ok = true, value = "GET POST! PUT! PATCH! DELETE! " }, result)
    end)

    it("send and read JSON", function()
      local fake = start_fake { ["*"] = function(conn, request)
        conn:reply(200, request.body, { ["Content-Type"] = request.headers["content-type"] .. "; charset=utf-8" })
      end }
      local result = ask { method = "POST", url = fake.url, json = { list = { 1, 2 }, name = "x" } }
      assert.same({ list = { 1, 2 }, name = "x" }, result.json)
      assert.equal("application/json", fake.requests[1].headers["content-type"])
      assert.is_nil(respond("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"half\":").json)
      assert.is_nil(respond("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n{}").json)
    end)

    it("put a user and password of the URL into a header", function()
      local fake = start_fake { ["*"] = function(conn)
        conn:reply(200)
      end }
      local result = ask { url = ("http://me:p%%40ss@localhost:%d/"):format(fake.port) }
      assert.equal("Basic bWU6cEBzcw==", fake.requests[1].headers.authorization)
      assert.equal(("http://localhost:%d/"):format(fake.port), result.url)
    end)

    it("that cannot be sent say why", function()
      for _, case in ipairs {
        { { url = "ftp://localhost/" }, "begin with http" },
        { { url = "http://" }, "host is missing" },
        { { url = "http://localhost:99999/" }, "port" },
        { { url = "http://lo cal/" }, "character" },
        { { url = "http://localhost/", headers = { ["X-A"] = "b\r\nInjected: yes" } }, "line break" },
        { { url = "http://localhost/", headers = { ["X A"] = "b" } }, "name" },
        { { url = "http://localhost/", headers = { ["Content-Length"] = "5" } }, "client itself" },
        { { url = "http://localhost/", method = "GET / HTTP/1.1\r\n" }, "method" },
      } do
        local result = ask(case[1])
        assert.equal("INVALID", result.code)
        assert.matches(case[2], result.err, 1, true)
      end
    end)

    it("with options that do not exist or fit raise at the caller's line", function()
      for code, text in pairs {
        ['Mesa.http.get("http://x/", { time_out = 5 })'] = "unknown option time_out",
        ['Mesa.http.get("http://x/", { timeout = "5" })'] = "timeout must be a number",
        ['Mesa.http.get("http://x/", { timeout = -1 })'] = "timeout must be between 0 and",
        ['Mesa.http.get(5)'] = "the URL must be a string",
        ['Mesa.http.post("http://x/", { body = "a", json = {} })'] = "cannot both be given",
        ['Mesa.http.post("http://x/", { json = { print } })'] = "cannot encode a function",
        ['Mesa.http.get("http://x/", { tls = { verfy = true } })'] = "unknown option tls.verfy",
        ['Mesa.http.request { url = "http://x/", headers = { "X" } }'] = "its keys are names",
      } do
        local result = eval(code)
        assert.is_false(result.ok, code)
        assert.matches('%[string "local Mesa.-:1: ', result.value)
        assert.matches(text, result.value, 1, true)
      end
    end)
  end)

  describe("responses", function()
    it("are read however they are framed and cut", function()
      local function body_of(bytes)
        return respond("HTTP/1.1 200 OK\r\n" .. bytes).body
      end
      assert.equal("until the end", body_of "\r\nuntil the end")
      assert.equal("five!", body_of "Content-Length: 5\r\n\r\nfive!surplus")
      assert.equal("hello world", body_of "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: t\r\n\r\n")
      assert.equal("", body_of "Content-Length: 0\r\n\r\n")
      assert.equal("old", respond("HTTP/1.0 200\r\n\r\nold").body)
      assert.equal("final", respond("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nfinal").body)
      assert.equal(204, respond("HTTP/1.1 204 None\r\n\r\nignored").status)

      local text = "HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
      local fake = start_fake { ["*"] = function(conn)
        for i = 1, #text do
          conn:write(text:sub(i, i)) -- without delay: the kernel may join some
        end
      end }
      local result = ask { url = fake.url }
      assert.equal("abc0123456789abcdef", result.body)
      assert.equal("1", result.headers["x-a"])
    end)

    it("keep repeated headers", function()
      local headers = respond("HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nSet-Cookie: a=1, b\r\nSet-Cookie: c=2\r\n\r\n").headers
      assert.equal("1, 2", headers["x-a"])
      assert.same({ "a=1, b", "c=2" }, headers["set-cookie"])
    end)

    it("that are garbage or ambiguous are refused", function()
      for _, bytes in ipairs {
        "\0\1\2\3garbage", "SSH-2.0-OpenSSH\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 999 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n", "HTTP/1.1 200 OK\r\nA b: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n", "HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
      } do
        local result = respond(bytes)
        assert.equal("PROTOCOL", result.code, bytes)
        assert.matches("the response cannot be used: ", result.err, 1, true)
      end
    end)

    it("that end too early are an error", function()
      for _, bytes in ipairs {
        "", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "HTTP/1.1 100 Continue\r\n\r\n",
      } do
        local result = respond(bytes)
        assert.equal("CLOSED", result.code, bytes)
        assert.matches("before the response was complete", result.err, 1, true)
      end
    end)

    it("that are too large are refused, however large they say they are", function()
      assert.equal("TOO_LARGE", respond("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").code)
      assert.equal("TOO_LARGE", respond("HTTP/1.1 200 OK\r\nX: " .. ("x"):rep(70000) .. "\r\n\r\n").code)
      assert.equal("TOO_LARGE", respond("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" .. ("x"):rep(11), { maxSize = 10 }).code)
      assert.equal(10, #respond("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" .. ("x"):rep(10), { maxSize = 10 }).body)

      -- 1 GiB without a length: the connection is gone long before it has been sent
      for _, head in ipairs { "", "Transfer-Encoding: chunked\r\n" } do
        local before = lab.server:rss()
        local chunk = ("x"):rep(65536)
        local sent, chunked = 0, head ~= ""
        local fake = start_fake { ["*"] = function(conn)
          conn:write("HTTP/1.1 200 OK\r\n" .. head .. "\r\n")
          local function more()
            if sent < 2 ^ 30 and not conn.handle:is_closing() then
              sent = sent + #chunk
              conn.handle:write(chunked and "10000\r\n" .. chunk .. "\r\n" or chunk, loop.guard(function(err)
                if not err then more() end
              end))
            end
          end
          more()
        end }
        assert.equal("TOO_LARGE", ask({ url = fake.url }).code)
        assert.is_true(sent < 64 * 2 ^ 20)
        assert.is_true(harness.sanitized() or lab.server:rss() - before < 64 * 2 ^ 20)
      end
    end)

    it("arrive whole when they are large", function()
      local big = ("0123456789abcdef"):rep(4 * 65536) -- 4 MiB
      local fake = start_fake { ["*"] = function(conn)
        conn:reply(200, big)
      end }
      local result = eval(([[local r = assert(Mesa.http.get("%s")) return #r.body .. r.body:sub(-16)]]):format(fake.url))
      assert.same({ ok = true, value = "41943040123456789abcdef" }, result)
    end)
  end)

  describe("services in trouble", function()
    it("that refuse are told from those that cannot be found", function()
      local port = harness.free_port()
      local result = ask { url = "http://localhost:" .. port }
      assert.equal("CONNECT", result.code)
      assert.matches("connection refused", result.err, 1, true)
      assert.equal("RESOLVE", ask({ url = "http://no-such-host.invalid/" }).code)
    end)

    it("that hang run into the timeout", function()
      local silent = start_fake { ["*"] = function() end }
      local result = ask { url = silent.url, timeout = 100 }
      assert.equal("TIMEOUT", result.code)
      assert.matches("within 100 ms", result.err, 1, true)
      assert.is_true(loop.wait(function() return silent:open_count() == 0 end, 5000), "the connection was kept")

      local mute = start_fake({}, { certificate = tls.certificate(), on_connection = function() return false end })
      assert.equal("TIMEOUT", ask({ url = mute.url, connectTimeout = 100 }).code)
    end)

    it("that drip are bounded by the whole time", function()
      local fake = start_fake { ["*"] = function(conn)
        conn:write "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        local uv = require "luv"
        local timer = uv.new_timer()
        timer:start(10, 10, function()
          if conn.handle:is_closing() then
            timer:close()
          else
            conn:write "x"
          end
        end)
      end }
      assert.equal("TIMEOUT", ask({ url = fake.url, timeout = 200 }).code)
      assert.is_true(loop.wait(function() return fake:open_count() == 0 end, 5000))
    end)

    it("that reset the connection are an error", function()
      local fake = start_fake { ["*"] = function(conn)
        conn:reset()
      end }
      assert.equal("CLOSED", ask({ url = fake.url }).code)
    end)

    it("do not hold up anybody else", function()
      local fake = start_fake { ["*"] = function() end }
      lab.server:join():send { op = 0, t = "HTTP", d = { url = fake.url, timeout = 60000 } }
      local other = lab.server:join()
      other:send { op = 0, t = "ECHO", d = { n = 1 } }
      assert.same({ n = 1 }, other:expect("ECHO").d)
      other:close()
    end)
  end)

  describe("redirections", function()
    it("are followed, relative ones too", function()
      local fake
      fake = start_fake {
        ["/a/b"] = function(conn) conn:reply(302, "", { Location = "../c?d=e" }) end,
        ["/c"] = function(conn) conn:reply(307, "", { Location = fake.url .. "/end#x" }) end,
        ["/end"] = function(conn, request) conn:reply(200, request.method) end,
      }
      local result = ask { url = fake.url .. "/a/b" }
      assert.equal("GET", result.body)
      assert.equal(fake.url .. "/end", result.url)
      assert.equal("/c?d=e", fake.requests[2].target)
    end)

    it("turn POST into GET except with 307 and 308", function()
      for status, expected in pairs { [301] = "GET", [302] = "GET", [303] = "GET", [307] = "POSTbody", [308] = "POSTbody" } do
        local fake = start_fake {
          ["/"] = function(conn) conn:reply(status, "", { Location = "/end" }) end,
          ["/end"] = function(conn, request) conn:reply(200, request.method .. request.body) end,
        }
        assert.equal(expected, ask({ method = "POST", url = fake.url, body = "body" }).body)
      end
    end)

    it("that loop end with an error", function()
      local fake = start_fake { ["*"] = function(conn) conn:reply(302, "", { Location = "/" }) end }
      local result = ask { url = fake.url }
      assert.equal("REDIRECT", result.code)
      assert.equal(6, #fake.requests)
    end)

    it("are responses when none is to be followed, or when there is nothing to follow", function()
      local fake = start_fake {
        ["/"] = function(conn) conn:reply(302, "", { Location = "/" }) end,
        ["/nowhere"] = function(conn) conn:reply(302, "stay") end,
      }
      assert.equal(302, ask({ url = fake.url, maxRedirects = 0 }).status)
      assert.equal("stay", ask({ url = fake.url .. "/nowhere" }).body)
    end)

    it("to what is no HTTP are an error", function()
      local fake = start_fake { ["*"] = function(conn) conn:reply(302, "", { Location = "file:///etc/passwd" }) end }
      assert.equal("REDIRECT", ask({ url = fake.url }).code)
    end)

    it("take credentials to the same origin only", function()
      local other = start_fake { ["*"] = function(conn) conn:reply(200, "other") end }
      local fake = start_fake {
        ["/same"] = function(conn) conn:reply(302, "", { Location = "/end" }) end,
        ["/other"] = function(conn) conn:reply(302, "", { Location = other.url .. "/end" }) end,
        ["/end"] = function(conn) conn:reply(200, "same") end,
      }
      local headers = { Authorization = "secret", Cookie = "a=b", ["X-Key"] = "k", Accept = "text/plain" }
      assert.equal("same", ask({ url = fake.url .. "/same", headers = headers }).body)
      assert.equal("secret", fake.requests[2].headers.authorization)
      assert.equal("other", ask({ url = fake.url .. "/other", headers = headers }).body)
      local seen = other.requests[1].headers
      assert.same({ nil, nil, nil, "text/plain" }, { seen.authorization, seen.cookie, seen["x-key"], seen.accept })
      assert.equal("localhost:" .. other.port, seen.host)
    end)
  end)

  describe("connections", function()
    it("are used again", function()
      local fake = start_fake { ["*"] = function(conn) conn:reply(200, "x") end }
      for _ = 1, 5 do
        assert.equal(200, ask({ url = fake.url }).status)
      end
      assert.equal(1, #fake.connections)
    end)

    it("are not used again when the server ends them, says so, or has sent too much", function()
      for _, bytes in ipairs {
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny",
      } do
        local fake = start_fake { ["*"] = function(conn) conn:write(bytes) end }
        for _ = 1, 2 do
          assert.equal("x", ask({ url = fake.url }).body)
        end
        assert.equal(2, #fake.connections)
      end
    end)

    it("that were closed meanwhile are replaced", function()
      local fake
      fake = start_fake { ["*"] = function(conn)
        if #fake.connections == 1 and conn.requests == 2 then
          conn:close() -- the request is on its way already
        else
          conn:reply(200, "x")
        end
      end }
      for _ = 1, 3 do
        assert.equal("x", ask({ url = fake.url }).body)
      end
      assert.equal(2, #fake.connections)
    end)

    it("are bounded: the requests beyond wait for each other", function()
      local most = 0
      local fake
      local held = {}
      fake = start_fake { ["*"] = function(conn)
        held[#held + 1] = conn
        most = math.max(most, fake:open_count())
        if #held >= 512 then
          for _, one in ipairs(held) do one:reply(200, "x") end
          held = {}
        end
      end }
      local result = eval(([[
        local done, failed = 0, 0
        for _ = 1, 1024 do
          Mesa.setTimeout(function()
            local r = Mesa.http.get("%s", { timeout = 30000 })
            done = done + 1
            if not r then failed = failed + 1 end
          end, 0)
        end
        while done < 1024 do Mesa.sleep(10) end
        return failed]]):format(fake.url))
      assert.same({ ok = true, value = 0 }, result)
      assert.is_true(most <= 512)
      assert.equal(1024, #fake.requests)
    end)

    it("that are too old for a request make room for it", function()
      local held, wanted = {}, 64
      local fake = start_fake { ["*"] = function(conn)
        held[#held + 1] = conn
        if #held < wanted then return end
        for _, one in ipairs(held) do one:reply(200, "x") end
        held, wanted = {}, 512
      end }
      local result = eval(([[
        local function crowd(n, method)
          local done, failed = 0, 0
          for _ = 1, n do
            Mesa.setTimeout(function()
              if not Mesa.http[method]("%s", { timeout = 8000 }) then failed = failed + 1 end
              done = done + 1
            end, 0)
          end
          while done < n do Mesa.sleep(10) end
          return failed
        end
        local failed = crowd(64, "get")
        Mesa.sleep(1100) -- idle for so long, a connection may be closed while a POST is on its way
        return failed + crowd(512, "post")]]):format(fake.url))
      assert.same({ ok = true, value = 0 }, result)
    end)

    it("go to the next address when one refuses", function()
      local fake = start_fake { ["*"] = function(conn) conn:reply(200, "x") end } -- not on ::1
      assert.equal("x", ask({ url = "http://localhost:" .. fake.port }).body)
      assert.equal("x", ask({ url = "http://127.0.0.1:" .. fake.port }).body)
      local six = start_fake({ ["*"] = function(conn) conn:reply(200, "6") end }, { host = "::1" })
      assert.equal("6", ask({ url = ("http://[::1]:%d/"):format(six.port) }).body)
      assert.equal("[::1]:" .. six.port, six.requests[1].headers.host)
    end)
  end)

  it("raises where a function cannot wait", function()
    local result = eval [[return coroutine.wrap(function() return select(2, pcall(Mesa.http.get, "http://localhost/")) end)()]]
    assert.matches("can only wait inside a handler", result.value, 1, true)
  end)
end)
