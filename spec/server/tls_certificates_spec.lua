-- Clients that show a certificate.
local certificates = require "spec.support.certificates"
local fs = require "spec.support.fs"
local harness = require "spec.support.harness"
local tls_lab = require "spec.support.tls_lab"
local cjson = require "cjson"

local loop = harness.loop

describe("a client with a certificate", function()
  local lab, ca, tls, server

  setup(function()
    lab = tls_lab.new()
    ca = lab:authority "People"
    tls = lab:certificate()
    fs.write(lab:path "trusted.pem", fs.read(ca.cert))
    tls.ca, tls.requestCert = lab:path "trusted.pem", true
    server = lab:start(tls)
  end)
  teardown(function()
    lab:stop()
  end)

  local function curl(pair, arguments)
    local all = { "--cacert", tls.cert }
    for key, value in pairs(pair and { ["--cert"] = pair.cert, ["--key"] = pair.key } or {}) do
      all[#all + 1] = key
      all[#all + 1] = value
    end
    for _, argument in ipairs(arguments or {}) do all[#all + 1] = argument end
    return lab:curl("/who", all)
  end

  it("is known to the request event", function()
    local ann = ca:issue {
      file = "ann", subject = "/CN=ann/O=Ex, ample", days = 20,
      names = "DNS:ann.example,email:ann@example.org,URI:spiffe://example/ann,IP:10.0.0.1,IP:2001:db8::1",
    }
    local out, code, err = curl(ann)
    assert.equal(0, code, err)
    local fingerprint, serial = certificates.fingerprint(ann.cert)
    local seen = cjson.decode(out).certificate
    local ends = seen.notAfter - os.time()
    seen.notAfter = nil
    assert.same({
      subject = "O=Ex\\, ample,CN=ann", issuer = "CN=People", serial = serial, fingerprint = fingerprint,
      names = { "DNS:ann.example", "email:ann@example.org", "URI:spiffe://example/ann", "IP:10.0.0.1", "IP:2001:db8::1" },
    }, seen)
    assert.is_true(ends > 19 * 86400 and ends <= 20 * 86400, ends)
  end)

  it("is known by the letters of its name", function()
    local out = curl(ca:issue { file = "joerg", subject = "/CN=J\195\182rg" })
    assert.equal("CN=J\195\182rg", cjson.decode(out).certificate.subject)
  end)

  it("keeps it, whatever its names are", function()
    local names = {}
    for i = 1, 300 do names[i] = ("DNS:name-%d.example"):format(i) end
    local out = curl(ca:issue { file = "many", subject = "/CN=" .. ("x"):rep(60), names = table.concat(names, ",") })
    assert.same(names, cjson.decode(out).certificate.names)
    out = curl(ca:issue { file = "odd", subject = "/CN=odd", names = "DNS:a b,otherName:1.2.3.4;UTF8:x,DNS:good.example" })
    assert.same({ "DNS:good.example" }, cjson.decode(out).certificate.names)
  end)

  it("is known to WebSocket handlers, as long as they keep the client", function()
    local bob = ca:issue { file = "bob", subject = "/CN=bob" }
    local client = server:connect(nil, { ca = tls.cert, pair = bob })
    client:hello()
    client:send { op = 0, d = "hi", t = "X" }
    local at_first = client:expect("ANSWER").d.at_first
    assert.equal("CN=bob", at_first.subject)
    client:send { op = 2, d = {} }
    assert.equal(22, client:expect(22).op)
    assert.is_string(at_first.serial)
    client:close()
    server:stdout_contains "gone\tCN=bob\n"
  end)

  it("is known when a session is resumed", function()
    local eve = ca:issue { file = "eve", subject = "/CN=eve" }
    for _, version in ipairs { "-tls1_2", "-tls1_3" } do
      local session, pair = lab:session(), { "-cert", eve.cert, "-key", eve.key }
      lab:ask { version, "-sess_out", session, unpack(pair) }
      local again = lab:ask { version, "-sess_in", session, unpack(pair) }
      assert.is_true(again.reused, version)
      assert.matches('"subject":"CN=eve"', again.text, 1, true)
    end
  end)

  -- A certificate that expires in a moment, and a session that was begun with it: when that took too long, with one that lasts longer.
  local function short_lived(version, session)
    for _, seconds in ipairs { 3, 9, 27 } do
      local ends = os.time() + seconds
      local pair = ca:issue {
        file = "short" .. seconds, subject = "/CN=short", from = "20200101000000Z", to = os.date("!%Y%m%d%H%M%SZ", ends),
      }
      if lab:ask({ version, "-cert", pair.cert, "-key", pair.key, "-sess_out", session }).answer then return pair, ends end
    end
    error "no handshake in time"
  end

  it("is not let in by an old session when it has expired since", function()
    for _, version in ipairs { "-tls1_2", "-tls1_3" } do
      local session = lab:session()
      local pair, ends = short_lived(version, session)
      assert.is_true(loop.wait(function() return os.time() > ends + 1 end, 60000))
      local again = lab:ask { version, "-cert", pair.cert, "-key", pair.key, "-sess_in", session }
      assert.is_false(again.reused, version)
      assert.is_false(again.answer, version)
    end
  end)

  local function refused(reason, pair, arguments)
    local mark = server:log_mark()
    -- one of a kind is reported in a second: what came before must be over
    loop.wait(function()
      local _, code = curl(pair, arguments)
      assert.not_equal(0, code)
      return server:log_count(reason, mark) > 0
    end, 10000)
    server:log_contains("warn  client: HANDSHAKE: the TLS handshake failed: " .. reason .. ", from 127%.0%.0%.1", 1000, mark)
  end

  it("is not let in when nobody vouches for it, and the log says why", function()
    local other = lab:authority("Others"):issue { file = "mallory", subject = "/CN=mallory" }
    refused("the client's certificate CN=mallory of CN=Others: unable to get local issuer certificate", other)
    refused("the client's certificate CN=localhost of CN=localhost: self%-signed certificate", lab:certificate { file = "own" })
    local late = ca:issue { file = "late", subject = "/CN=late", from = "20200101000000Z", to = "20200102000000Z" }
    refused("the client's certificate CN=late of CN=People: certificate has expired", late, { "--tls-max", "1.2" })
    refused("peer did not return a certificate", nil)
  end)

  it("is not let in when it was revoked, not even with an old session", function()
    local good, bad = ca:issue { file = "good", subject = "/CN=good" }, ca:issue { file = "bad", subject = "/CN=bad" }
    local session = lab:session()
    lab:ask { "-cert", bad.cert, "-key", bad.key, "-sess_out", session }
    assert.is_true(lab:ask({ "-cert", bad.cert, "-key", bad.key, "-sess_in", session, "-sess_out", session }).reused)

    ca:revoke(bad)
    fs.write_atomically(tls.ca, fs.read(ca.cert) .. ca:revocations())
    server:log_contains "the files of tls have changed"
    refused("the client's certificate CN=bad of CN=People: certificate revoked", bad)
    local again = lab:ask { "-cert", bad.cert, "-key", bad.key, "-sess_in", session }
    assert.is_false(again.reused)
    assert.is_false(again.answer)
    assert.equal(0, select(2, curl(good)))
  end)

  it("is checked against the lists there are, and needs none from an authority without one", function()
    local second = lab:authority "Second"
    local pair = second:issue { file = "second", subject = "/CN=second" }
    local mark = server:log_mark()
    fs.write_atomically(tls.ca, fs.read(ca.cert) .. ca:revocations() .. fs.read(second.cert))
    server:log_contains("the files of tls have changed", 10000, mark)
    local out, code, err = curl(pair)
    assert.equal(0, code, err)
    assert.equal("CN=Second", cjson.decode(out).certificate.issuer)
  end)

  it("is refused by a list that has expired, which the log warns of", function()
    local pair = ca:issue { file = "any", subject = "/CN=any" }
    local mark = server:log_mark()
    fs.write_atomically(tls.ca, fs.read(ca.cert) .. ca:revocations("20200101000000Z", "20200108000000Z"))
    server:log_contains("warn  tls: tls%.ca: the revocation list of CN=People in %S+ has expired on 2020%-01%-08: "
      .. "certificates of this authority are refused until there is a new one", 10000, mark)
    refused("the client's certificate CN=any of CN=People: CRL has expired", pair)
  end)

  it("is not asked for without requestCert", function()
    local open = lab:start(lab:certificate { file = "open" })
    assert.matches('{"certificate":null}', lab:ask(nil, open).text, 1, true)
  end)

  it("needs authorities that can be read", function()
    local function refusal(text)
      fs.write(lab:path "ca.pem", text)
      return lab:check({ cert = tls.cert, key = tls.key, ca = lab:path "ca.pem", requestCert = true }).stderr
    end
    assert.matches("tls%.ca: cannot use .*/ca%.pem: it is no PEM file of this kind", refusal "nothing")
    assert.matches("tls%.ca: cannot use .*/ca%.pem: it has revocation lists only, and no certificate", refusal(ca:revocations()))
    assert.matches("tls%.ca: cannot use .*/ca%.pem: ",
      refusal "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n")
  end)
end)
