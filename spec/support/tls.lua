-- TLS for the test client: OpenSSL through memory BIOs, so that the TCP stream below stays in our hands.
local certificates = require "spec.support.certificates"
local ffi = require "ffi"
local fs = require "spec.support.fs"

ffi.cdef [[
typedef struct ssl_st SSL; typedef struct ssl_ctx_st SSL_CTX; typedef struct bio_st BIO;
const void *TLS_client_method(void); const void *TLS_server_method(void);
SSL_CTX *SSL_CTX_new(const void *method); void SSL_CTX_free(SSL_CTX *ctx);
int SSL_CTX_load_verify_locations(SSL_CTX *ctx, const char *file, const char *dir);
void SSL_CTX_set_verify(SSL_CTX *ctx, int mode, void *callback);
SSL *SSL_new(SSL_CTX *ctx); void SSL_free(SSL *ssl);
void SSL_set_bio(SSL *ssl, BIO *in, BIO *out); void SSL_set_connect_state(SSL *ssl);
void SSL_set_accept_state(SSL *ssl);
int SSL_CTX_use_certificate_file(SSL_CTX *ctx, const char *file, int type);
int SSL_CTX_use_PrivateKey_file(SSL_CTX *ctx, const char *file, int type);
int SSL_set1_host(SSL *ssl, const char *name);
int SSL_do_handshake(SSL *ssl); int SSL_get_error(const SSL *ssl, int result);
int SSL_read(SSL *ssl, void *bytes, int len); int SSL_write(SSL *ssl, const void *bytes, int len);
int SSL_shutdown(SSL *ssl);
const void *BIO_s_mem(void); BIO *BIO_new(const void *method);
int BIO_read(BIO *bio, void *bytes, int len); int BIO_write(BIO *bio, const void *bytes, int len);
]]

local tls = {}
tls.__index = tls

local WANT_READ, ZERO_RETURN = 2, 6
local PEM = 1
local CHUNK = 65536
local scratch = ffi.new("char[?]", CHUNK)
local ssl_lib, crypto_lib, certificate

local function libraries()
  if not ssl_lib then
    crypto_lib = ffi.load("libcrypto.so.3")
    ssl_lib = ffi.load("libssl.so.3")
  end
  return ssl_lib, crypto_lib
end

-- A key and a self-signed certificate for localhost, made once a run.
function tls.certificate()
  if not certificate then
    local dir = fs.mkdtemp()
    local pair = certificates.self_signed(dir)
    -- The directory goes with this object at the end of the run, when the loop is gone already: no luv in here.
    local owner = newproxy(true)
    getmetatable(owner).__gc = function()
      os.remove(pair.key)
      os.remove(pair.cert)
      os.remove(dir)
    end
    certificate = { cert = pair.cert, key = pair.key, owner = owner }
  end
  return certificate
end

local function session_of(ctx)
  local session = ffi.gc(ssl_lib.SSL_new(ctx), ssl_lib.SSL_free)
  local into, out = crypto_lib.BIO_new(crypto_lib.BIO_s_mem()), crypto_lib.BIO_new(crypto_lib.BIO_s_mem())
  ssl_lib.SSL_set_bio(session, into, out) -- the session owns both now
  return setmetatable({ ctx = ctx, session = session, into = into, out = out, ready = false }, tls)
end

local function use_pair(ctx, pair)
  assert(ssl_lib.SSL_CTX_use_certificate_file(ctx, pair.cert, PEM) == 1, "cannot read " .. pair.cert)
  assert(ssl_lib.SSL_CTX_use_PrivateKey_file(ctx, pair.key, PEM) == 1, "cannot read " .. pair.key)
end

-- A server session with the certificate and key of `pair`.
function tls.server(pair)
  local ssl = libraries()
  local ctx = ffi.gc(ssl.SSL_CTX_new(ssl.TLS_server_method()), ssl.SSL_CTX_free)
  use_pair(ctx, pair)
  local self = session_of(ctx)
  ssl.SSL_set_accept_state(self.session)
  return self
end

-- A client session. `ca` verifies the peer as localhost; `pair`, if given, is shown to it.
function tls.client(ca, pair)
  local ssl = libraries()
  local ctx = ffi.gc(ssl.SSL_CTX_new(ssl.TLS_client_method()), ssl.SSL_CTX_free)
  assert(ssl.SSL_CTX_load_verify_locations(ctx, ca, nil) == 1, "cannot read " .. ca)
  ssl.SSL_CTX_set_verify(ctx, 1, nil)
  if pair then
    use_pair(ctx, pair)
  end
  local self = session_of(ctx)
  ssl.SSL_set1_host(self.session, "localhost")
  ssl.SSL_set_connect_state(self.session)
  return self
end

-- Bytes to put on the wire.
function tls:outgoing()
  local parts = {}
  while true do
    local n = crypto_lib.BIO_read(self.out, scratch, CHUNK)
    if n <= 0 then
      return table.concat(parts)
    end
    parts[#parts + 1] = ffi.string(scratch, n)
  end
end

-- Takes bytes from the wire; true once the handshake is over, nil and a text when it failed.
function tls:handshake(bytes)
  if bytes then
    crypto_lib.BIO_write(self.into, bytes, #bytes)
  end
  if not self.ready then
    local result = ssl_lib.SSL_do_handshake(self.session)
    if result == 1 then
      self.ready = true
    elseif ssl_lib.SSL_get_error(self.session, result) ~= WANT_READ then
      return nil, "TLS handshake failed"
    end
  end
  return self.ready
end

-- What could be decrypted; the second result is true when the peer ended the session.
function tls:decrypted()
  local parts = {}
  while true do
    local n = ssl_lib.SSL_read(self.session, scratch, CHUNK)
    if n <= 0 then
      return table.concat(parts), ssl_lib.SSL_get_error(self.session, n) == ZERO_RETURN
    end
    parts[#parts + 1] = ffi.string(scratch, n)
  end
end

function tls:encrypt(bytes)
  if #bytes > 0 then
    assert(ssl_lib.SSL_write(self.session, bytes, #bytes) == #bytes, "SSL_write failed")
  end
  return self:outgoing()
end

-- The bytes that end the session.
function tls:finish()
  ssl_lib.SSL_shutdown(self.session)
  return self:outgoing()
end

return tls
