-- The codec against lua-cjson: the same values and texts go through both.
-- MESA_TEST_CPATH names the module mesa_json_test; without it, it is looked for beside the binary that MESA_BIN names.

local cjson = require "cjson"

local function load_codec()
  local cpath = os.getenv "MESA_TEST_CPATH"
  local binary = os.getenv "MESA_BIN"
  if not cpath then
    assert(binary, "set MESA_TEST_CPATH to <build>/spec/?.so, or MESA_BIN to <build>/mesa-lua")
    cpath = (binary:match "^(.*)/[^/]*$" or ".") .. "/spec/?.so"
  end
  local file = assert(package.searchpath("mesa_json_test", cpath))
  return assert(package.loadlib(file, "luaopen_mesa_json_test"))()
end

local json = load_codec()

local ROUNDS = 3000

-- ---- random values and texts -------------------------------------------------------------------------------------

local random = math.random

local function pick(list)
  return list[random(#list)]
end

local PIECES = { "a", "hello ", "0", '"', "\\", "/", "\n", "\t", "\b", "\0", "\31", "é", "€", "😀", "Привет", ("x"):rep(40) }

local function random_string()
  local parts = {}
  for i = 1, random(0, 4) do
    parts[i] = pick(PIECES)
  end
  return table.concat(parts)
end

-- With few enough digits for lua-cjson, which prints 14.
local function short_number()
  return pick {
    random(-10, 10),
    random(-2 ^ 31, 2 ^ 31 - 1),
    random(0, 10 ^ 13),
    random(-1000, 1000) / 8,
    tonumber(("%de%d"):format(random(1, 9), random(-300, 300))),
  }
end

-- Any finite double.
local function any_number()
  local n = math.ldexp(random() - 0.5, random(-1000, 1000))
  return pick { n, random(0, 2 ^ 53), short_number() }
end

local random_value

local function random_array(depth, number)
  local t = {}
  for i = 1, random(0, pick { 3, 3, 3, 100 }) do
    t[i] = random_value(depth - 1, number)
  end
  return json.array(t)
end

local function random_object(depth, number)
  local t = {}
  for _ = 1, random(0, 5) do
    t[random_string()] = random_value(depth - 1, number)
  end
  return t
end

function random_value(depth, number)
  local kind = random(depth > 0 and 7 or 5)
  if kind == 1 then
    return json.null
  elseif kind == 2 then
    return random(2) == 1
  elseif kind == 3 then
    return number()
  elseif kind <= 5 then
    return random_string()
  elseif kind == 6 then
    return random_array(depth, number)
  end
  return random_object(depth, number)
end

local SPACES = { "", "", "", " ", "\n", "\t \r" }
local NUMBERS = { "0", "-0", "1", "-1", "12.5", "1e3", "1E+3", "25e-2", "-0.125", "123456789012", "9007199254740992", "0.1", "1e-7" }
local ESCAPES = { "\\n", "\\u0041", "\\u00e9", "\\u20AC", "\\ud83d\\ude00", "\\/", '\\"', "\\\\", "é", "abc", "\\u0000" }

local function string_text()
  local parts = {}
  for i = 1, random(0, 4) do
    parts[i] = pick(ESCAPES)
  end
  return '"' .. table.concat(parts) .. '"'
end

local function random_text(depth)
  local kind = random(depth > 0 and 6 or 4)
  local text
  if kind == 1 then
    text = pick { "true", "false", "null" }
  elseif kind == 2 then
    text = pick(NUMBERS)
  elseif kind <= 4 then
    text = string_text()
  else
    local parts = {}
    for i = 1, random(0, 5) do
      local key = kind == 6 and string_text() .. pick(SPACES) .. ":" or ""
      parts[i] = key .. random_text(depth - 1)
    end
    local inner = table.concat(parts, ",")
    text = kind == 5 and "[" .. inner .. "]" or "{" .. inner .. "}"
    text = inner == "" and text:sub(1, 1) .. pick(SPACES) .. text:sub(2) or text
  end
  return pick(SPACES) .. text .. pick(SPACES)
end

-- Equal in content; lua-cjson has no array metatable, so that is not compared.
local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b and (a ~= 0 or 1 / a == 1 / b)
  end
  for key, value in pairs(a) do
    if not same(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

-- The same, and arrays are arrays on both sides.
local function identical(a, b)
  if type(a) == "table" and type(b) == "table" then
    if json.isArray(a) ~= json.isArray(b) then
      return false
    end
    for key, value in pairs(a) do
      if not identical(value, b[key]) then
        return false
      end
    end
  end
  return same(a, b)
end

local function cjson_decode(text)
  local ok, value = pcall(cjson.decode, text)
  if ok then
    return value
  end
  return nil
end

-- ---- the comparison ----------------------------------------------------------------------------------------------

describe("the codec and lua-cjson", function()
  before_each(function()
    math.randomseed(20240229)
  end)

  it("share null", function()
    assert.equal(cjson.null, json.null)
    assert.equal(cjson.null, json.decode "null")
  end)

  it("decode valid texts to the same values", function()
    for _ = 1, ROUNDS do
      local text = random_text(4)
      local value, err = json.decode(text)
      assert.is_nil(err, text)
      assert.is_true(same(cjson.decode(text), value), text)
    end
  end)

  it("read each other's output", function()
    for _ = 1, ROUNDS do
      local value = { random_value(4, short_number) }
      local ours, theirs = json.encode(value), cjson.encode(value)
      assert.is_true(same(value, cjson.decode(ours)), ours)
      assert.is_true(same(value, (json.decode(theirs))), theirs)
    end
  end)

  it("judge damaged texts alike, but for what lua-cjson lets through", function()
    -- Raw control characters, text that is not UTF-8, and numbers that are not JSON's (see below).
    local lenient = {
      "[%z\1-\31\128-\255]",
      "0[xX]",
      "[nN][aA][nN]",
      "[iI][nN][fF]",
      "%f[%d]0%d", -- 01
      "%-%.", -- -.5
      "%.%D", -- 1. and 1.e5
      "%.$",
    }
    local bytes = { "{", "}", "[", "]", '"', ",", ":", "\\", "0", "1", "-", ".", "e", "u", " ", "n", "t", "\1", "\255" }
    local refused = 0
    for _ = 1, ROUNDS * 3 do
      local text = random_text(3)
      local at = random(#text)
      local damaged = text:sub(1, at - 1) .. pick(bytes) .. text:sub(at + random(0, 1))
      local value, err = json.decode(damaged)
      local theirs = cjson_decode(damaged)
      if err == nil then
        -- what lua-cjson makes of half a pair of surrogate escapes is its own
        local halved = json.encode({ value }):find("\239\191\189", 1, true)
        assert.is_true(halved ~= nil or same(theirs, value), damaged)
      else
        refused = refused + 1
        local explained = theirs == nil or err:find "^number out of range" ~= nil -- infinite for lua-cjson
        for _, pattern in ipairs(lenient) do
          explained = explained or damaged:find(pattern) ~= nil
        end
        assert.is_true(explained, damaged .. "\n" .. err)
      end
    end
    assert.is_true(refused > ROUNDS, "the damage did no harm")
  end)

  it("write no number that is infinite; read as one, it is refused", function()
    assert.equal(math.huge, cjson.decode("[1e400]")[1])
    for _, text in ipairs { "[1e400]", "[-1e400]", "[" .. ("9"):rep(309) .. "]" } do
      local value, err = json.decode(text)
      assert.is_nil(value)
      assert.matches("^number out of range at byte 2$", err)
    end
    assert.equal(tonumber("1" .. ("0"):rep(308)), json.decode("[1" .. ("0"):rep(308) .. "]")[1])
    for _, n in ipairs { math.huge, -math.huge, 0 / 0 } do
      assert.is_false(pcall(cjson.encode, n))
      assert.is_false(pcall(json.encode, n))
    end
  end)

  it("encode the simple alike", function()
    for _, value in ipairs { true, false, 0, -1, 12345, 1.5, "", "text", "é", "a\nb", '"', "\\" } do
      assert.equal(cjson.encode(value), json.encode(value))
    end
    assert.equal(cjson.encode { 1, { a = { "x" } } }, json.encode { 1, { a = { "x" } } })
    assert.equal(cjson.encode {}, json.encode {})
  end)
end)

describe("the codec by itself", function()
  before_each(function()
    math.randomseed(20240301)
  end)

  it("gives every value back", function()
    for _ = 1, ROUNDS do
      local value = random_value(5, any_number)
      local text = json.encode(value)
      local again, err = json.decode(text)
      assert.is_nil(err, text)
      assert.is_true(identical(value, again), text)
    end
  end)

  it("gives any double back in no more than 17 digits", function()
    for _ = 1, ROUNDS * 5 do
      local n = any_number()
      local text = json.encode(n)
      assert.equal(n, json.decode(text))
      local digits = text:gsub("[eE].*", ""):gsub("%D", ""):gsub("^0+", ""):gsub("0+$", "")
      assert.is_true(#digits <= 17, text)
    end
  end)

  it("says at which byte a text stops being JSON", function()
    for text, byte in pairs { ["[1,]"] = 4, ["{}x"] = 3, [""] = 1, ['{"a" 1}'] = 6, ["[1"] = 3 } do
      local value, err = json.decode(text)
      assert.is_nil(value)
      assert.equal(byte, tonumber(err:match " at byte (%d+)$"), text .. ": " .. err)
    end
  end)
end)

describe("lua-cjson is known to differ", function()
  it("in what it takes for JSON", function()
    local accepted = { "[0x10]", "[nan]", "[NaN]", "[inf]", "[-Infinity]", "[01]", "[1.]" }
    for _, content in ipairs { "a\nb", "\1", "\255", "\192\128" } do
      accepted[#accepted + 1] = ('["%s"]'):format(content)
    end
    for _, text in ipairs(accepted) do
      assert.is_not_nil(cjson_decode(text), text)
      local value, err = json.decode(text)
      assert.is_nil(value)
      assert.is_string(err)
    end
  end)

  it("in how deep it goes", function()
    local function nested(n)
      return ("["):rep(n) .. ("]"):rep(n)
    end
    assert.is_table(cjson_decode(nested(200)))
    assert.is_nil((json.decode(nested(129))))
    assert.is_table(json.decode(nested(128)))
  end)

  it("in forgetting that an empty array was one", function()
    assert.equal("{}", cjson.encode(cjson.decode "[]"))
    assert.equal("[]", json.encode(json.decode "[]"))
    assert.equal("{}", json.encode(json.decode "{}"))
  end)

  it("in the digits of a number", function()
    assert.equal("0.3", cjson.encode(0.1 + 0.2))
    assert.equal("0.30000000000000004", json.encode(0.1 + 0.2))
    assert.equal("9.007199254741e+15", cjson.encode(2 ^ 53))
    assert.equal("9007199254740992", json.encode(2 ^ 53))
    assert.equal("1e+15", cjson.encode(1e15))
    assert.equal("1000000000000000", json.encode(1e15))
  end)

  it("in escaping what need not be", function()
    assert.equal('"\\/\\u007f"', cjson.encode "/\127")
    assert.equal('"/\127"', json.encode "/\127")
  end)

  it("in encoding tables with mixed keys and strings that are not UTF-8", function()
    assert.is_true(pcall(cjson.encode, { 1, x = 2 }))
    assert.is_false(pcall(json.encode, { 1, x = 2 }))
    assert.is_true(pcall(cjson.encode, "\255"))
    assert.is_false(pcall(json.encode, "\255"))
  end)

end)
