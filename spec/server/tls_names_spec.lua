-- Several certificates on one port, by the name that clients ask for.
local fs = require "spec.support.fs"
local tls_lab = require "spec.support.tls_lab"

describe("a server with certificates for names", function()
  local lab, tls

  setup(function()
    lab = tls_lab.new()
    local function certificate(file, names)
      return lab:certificate { file = file, subject = "/CN=" .. file, names = names }
    end
    tls = certificate("default", "DNS:localhost,IP:127.0.0.1")
    tls.names = {
      ["A.example"] = certificate("a", "DNS:a.example"),
      ["*.b.example"] = certificate("wildcard", "DNS:*.b.example"),
      ["exact.b.example"] = certificate("exact", "DNS:exact.b.example"),
      ["z.example"] = certificate("z", "DNS:other.example"),
    }
    lab:start(tls)
  end)
  teardown(function()
    lab:stop()
  end)

  local function shown(name, ...)
    return lab:ask({ name and "-servername" or "-noservername", name, ... }).subject
  end

  it("shows each the one for the name, whatever its case", function()
    for _, version in ipairs { "-tls1_2", "-tls1_3" } do
      assert.equal("CN = a", shown("a.example", version))
      assert.equal("CN = a", shown("A.EXAMPLE", version))
      assert.equal("CN = default", shown("localhost", version))
      assert.equal("CN = default", shown(nil, version))
      assert.equal("CN = default", shown("b.example", version))
    end
  end)

  it("prefers the exact name to the wildcard, which is for one label", function()
    assert.equal("CN = exact", shown "exact.b.example")
    assert.equal("CN = wildcard", shown "x.b.example")
    assert.equal("CN = wildcard", shown "exact2.b.example")
    assert.equal("CN = default", shown "x.y.b.example")
    assert.equal("CN = default", shown "xb.example")
    assert.equal("CN = default", shown ".b.example")
  end)

  it("satisfies a client that verifies", function()
    local function asks(host, pair)
      local out, code, err = lab:curl("/who", {
        "--cacert", pair.cert, "--resolve", ("%s:%d:127.0.0.1"):format(host, lab.server.port),
      }, host)
      assert.equal(0, code, host .. ": " .. err)
      assert.equal('{"certificate":null}', out)
    end
    asks("a.example", tls.names["A.example"])
    asks("x.b.example", tls.names["*.b.example"])
    asks("localhost", tls)
  end)

  it("resumes a session under the name it began with only", function()
    for _, version in ipairs { "-tls1_2", "-tls1_3" } do
      local session = lab:session()
      lab:ask { version, "-servername", "a.example", "-sess_out", session }
      assert.is_true(lab:ask({ version, "-servername", "a.example", "-sess_in", session, "-sess_out", session }).reused, version)
      local other = lab:ask { version, "-servername", "exact.b.example", "-sess_in", session }
      assert.is_false(other.reused, version)
      assert.equal("CN = exact", other.subject)
      assert.is_true(other.answer)
    end
  end)

  it("says which certificate is not for its name", function()
    lab.server:log_contains 'warn  tls: tls%.names%["z%.example"%]%.cert: the certificate is not for this name: clients will refuse it'
    assert.equal(1, lab.server:log_count "not for this name")
  end)

  it("takes new ones for a name", function()
    local session = lab:session()
    lab:ask { "-servername", "x.b.example", "-sess_out", session }
    local new = lab:certificate { file = "next", subject = "/CN=renewed", names = "DNS:*.b.example" }
    local old = tls.names["*.b.example"]
    fs.write_atomically(old.cert, fs.read(new.cert))
    fs.write_atomically(old.key, fs.read(new.key))
    assert.is_true(lab:shows("CN = renewed", { "-servername", "x.b.example" }))
    assert.equal("CN = a", shown "a.example")
    assert.equal("CN = renewed", lab:ask({ "-servername", "x.b.example", "-sess_in", session }).subject)
  end)

  it("names key, file and reason of what cannot be used, also with --check", function()
    local checked = lab:check(tls)
    assert.equal(0, checked.exit_code, checked.stderr)
    assert.matches("; tls .*default.pem, .*; %*%.b%.example .*; a%.example .*a%.pem, .*a%-key%.pem", checked.stdout)

    local function refusal(names)
      local run = lab:check { cert = tls.cert, key = tls.key, names = names }
      assert.equal(1, run.exit_code, run.stdout)
      return run.stderr
    end
    local a, b = tls.names["A.example"], tls.names["*.b.example"]
    assert.matches('check%.lua:4: Mesa%.new: tls%.names%["a%.example"%]%.key: cannot use .*/exact%-key%.pem: '
      .. "it does not belong to the cert beside it", refusal { ["a.example"] = { cert = a.cert, key = tls.names["exact.b.example"].key } })
    assert.matches('tls%.names%["a%.example"%]%.cert: cannot use .*/no%.pem: No such file or directory',
      refusal { ["a.example"] = { cert = lab:path "no.pem", key = a.key } })
    assert.matches('tls%.names%["a%.example"%]%.key is missing: it needs a certificate and its key',
      refusal { ["a.example"] = { cert = a.cert } })
    assert.matches('unknown key tls%.names%["a%.example"%]%.crt, did you mean tls%.names%["a%.example"%]%.cert%?',
      refusal { ["a.example"] = { crt = a.cert } })
    assert.matches('tls%.names%["a%.%*%.example"%] can have a "%*" as its first part only', refusal { ["a.*.example"] = b })
    assert.matches('tls%.names%["127%.0%.0%.1"%] must be a name without a port', refusal { ["127.0.0.1"] = b })
    assert.matches('tls.names["b\195\188cher.example"] must be in ASCII: other letters are written xn--...',
      refusal { ["b\195\188cher.example"] = b }, 1, true)
    assert.matches('tls%.names%["a%.example"%] is there twice: case makes no difference',
      refusal { ["a.example"] = a, ["A.example"] = a })
    assert.matches("tls%.names must be a table such as", refusal "a.example")
  end)
end)
