-- Deflate for the test client: zlib's raw streams, one for each direction of a connection.
local ffi = require "ffi"

ffi.cdef [[
typedef struct {
  const char *next_in; unsigned avail_in; unsigned long total_in;
  char *next_out; unsigned avail_out; unsigned long total_out;
  const char *msg; void *state; void *zalloc; void *zfree; void *opaque;
  int data_type; unsigned long adler; unsigned long reserved;
} z_stream;
const char *zlibVersion(void);
int deflateInit2_(z_stream *z, int level, int method, int bits, int memory, int strategy, const char *version, int size);
int deflate(z_stream *z, int flush); int deflateReset(z_stream *z); int deflateEnd(z_stream *z);
int inflateInit2_(z_stream *z, int bits, const char *version, int size);
int inflate(z_stream *z, int flush); int inflateReset(z_stream *z); int inflateEnd(z_stream *z);
]]

local SYNC_FLUSH, DEFLATED = 2, 8
local CHUNK = 65536
local TAIL = "\0\0\255\255"

local zlib
local function library()
  zlib = zlib or ffi.load "libz.so.1"
  return zlib
end

-- Runs `step` over the text until it is used up; what came out.
local function run(z, step, text)
  local chunk, parts = ffi.new("char[?]", CHUNK), {}
  z.next_in, z.avail_in = text, #text
  repeat
    z.next_out, z.avail_out = chunk, CHUNK
    local rc = step(z, SYNC_FLUSH)
    if rc ~= 0 and rc ~= 1 and rc ~= -5 then error("zlib: " .. rc) end
    parts[#parts + 1] = ffi.string(chunk, CHUNK - z.avail_out)
  until z.avail_out > 0
  return table.concat(parts)
end

local deflate = {}

-- A function from a text to its compressed message. options: bits (15), keep (the window, from one message to the next)
function deflate.compressor(options)
  options = options or {}
  local z = ffi.gc(ffi.new "z_stream", library().deflateEnd)
  assert(zlib.deflateInit2_(z, 6, DEFLATED, -(options.bits or 15), 8, 0, zlib.zlibVersion(), ffi.sizeof(z)) == 0)
  return function(text)
    if not options.keep then zlib.deflateReset(z) end
    local bytes = run(z, zlib.deflate, text)
    assert(bytes:sub(-4) == TAIL)
    return bytes:sub(1, -5)
  end
end

-- The way back.
function deflate.inflater(options)
  options = options or {}
  local z = ffi.gc(ffi.new "z_stream", library().inflateEnd)
  assert(zlib.inflateInit2_(z, -(options.bits or 15), zlib.zlibVersion(), ffi.sizeof(z)) == 0)
  return function(bytes)
    if not options.keep then zlib.inflateReset(z) end
    return run(z, zlib.inflate, bytes .. TAIL)
  end
end

return deflate
