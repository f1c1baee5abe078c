-- Keys and certificates of the OpenSSL command, made where a spec wants them.
local fs = require "spec.support.fs"
local process = require "spec.support.process"

local certificates = {}

local function openssl(...)
  local made = process.run("/usr/bin/openssl", { args = { ... } })
  assert(made.exit_code == 0, made.stderr)
  return made.stdout
end

local LOCALHOST = "DNS:localhost,IP:127.0.0.1,IP:::1"

-- options: rsa (true: not an elliptic curve), passphrase
local function new_key(path, options)
  local args = { "genpkey", "-out", path }
  if options.rsa then
    for _, argument in ipairs { "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048" } do args[#args + 1] = argument end
  else
    for _, argument in ipairs { "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1" } do args[#args + 1] = argument end
  end
  if options.passphrase then
    for _, argument in ipairs { "-aes256", "-pass", "pass:" .. options.passphrase } do args[#args + 1] = argument end
  end
  openssl(unpack(args))
end

-- A key and a certificate that vouches for itself: { cert, key }, the files <file>.pem and <file>-key.pem in `dir`.
-- options: file ("cert"), subject ("/CN=localhost"), names (subjectAltName), days (2), and those of new_key
function certificates.self_signed(dir, options)
  options = options or {}
  local file = dir .. "/" .. (options.file or "cert")
  local pair = { cert = file .. ".pem", key = file .. "-key.pem" }
  new_key(pair.key, options)
  openssl("req", "-utf8", "-x509", "-new", "-key", pair.key, "-passin", "pass:" .. (options.passphrase or ""),
    "-days", tostring(options.days or 2), "-subj", options.subject or "/CN=localhost",
    "-addext", "subjectAltName=" .. (options.names or LOCALHOST), "-out", pair.cert)
  return pair
end

-- SHA-256 of a certificate as OpenSSL prints it, and its serial number.
function certificates.fingerprint(file)
  local text = openssl("x509", "-in", file, "-noout", "-fingerprint", "-sha256", "-serial")
  return text:match "Fingerprint=(%S+)", text:match "serial=(%S+)"
end

local authority = {}
authority.__index = authority

local CONFIG = [[
[ca]
default_ca = all
[all]
database = %s/index
new_certs_dir = %s
serial = %s/serial
crlnumber = %s/serial
private_key = %s/ca-key.pem
certificate = %s/ca.pem
default_md = sha256
default_crl_days = 7
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
organizationName = optional
]]

-- An authority in `dir`, which is made: `cert` is its certificate.
function certificates.authority(dir, name)
  fs.write(dir .. "/index", "")
  fs.write(dir .. "/serial", "0A01")
  fs.write(dir .. "/ca.conf", (CONFIG:gsub("%%s", dir)))
  new_key(dir .. "/ca-key.pem", {})
  openssl("req", "-utf8", "-x509", "-new", "-key", dir .. "/ca-key.pem", "-days", "30", "-subj", "/CN=" .. name, "-out", dir .. "/ca.pem")
  return setmetatable({ dir = dir, cert = dir .. "/ca.pem" }, authority)
end

-- A certificate of this authority: { cert, key }.
-- options: as self_signed, and from, to ("20200101000000Z") instead of days
function authority:issue(options)
  local file = self.dir .. "/" .. (options.file or "client")
  local pair = { cert = file .. ".pem", key = file .. "-key.pem" }
  new_key(pair.key, options)
  openssl("req", "-utf8", "-new", "-key", pair.key, "-subj", options.subject, "-addext", "subjectAltName=" .. (options.names or LOCALHOST),
    "-out", file .. ".csr")
  local args = { "ca", "-batch", "-config", self.dir .. "/ca.conf", "-notext", "-in", file .. ".csr", "-out", pair.cert }
  local term = options.from and { "-startdate", options.from, "-enddate", options.to } or { "-days", tostring(options.days or 20) }
  for _, argument in ipairs(term) do args[#args + 1] = argument end
  openssl(unpack(args))
  return pair
end

-- Revokes a certificate; in the lists that follow.
function authority:revoke(pair)
  openssl("ca", "-config", self.dir .. "/ca.conf", "-revoke", pair.cert)
end

-- The list of the revoked, as PEM, good for 7 days, or from one time to another ("20200101000000Z").
function authority:revocations(from, to)
  local term = from and { "-crl_lastupdate", from, "-crl_nextupdate", to } or {}
  return openssl("ca", "-config", self.dir .. "/ca.conf", "-gencrl", unpack(term))
end

-- A certificate for localhost that was good on one day of the year 2020 only, in `dir`: { cert, key, ca }.
function certificates.expired(dir)
  local ca = certificates.authority(dir, "Yesterday")
  local pair = ca:issue {
    file = "cert", subject = "/CN=localhost", from = "20200101000000Z", to = "20200102000000Z",
  }
  pair.ca = ca.cert
  return pair
end

return certificates
