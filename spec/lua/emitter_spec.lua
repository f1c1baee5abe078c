-- Errors ask the core whether they are those of memory; there is no core outside of the server.
package.preload["mesa.core"] = package.preload["mesa.core"] or function() return { memory_caught = function() end } end

local emitter = require "mesa.emitter"

local function new_emitter()
  local object = { reports = {} }
  emitter.mixin(object)
  function object:_report(err, event) self.reports[#self.reports + 1] = { err = err, event = event } end
  return object
end

describe("an emitter", function()
  local e, seen
  local function note(name) return function(...) seen[#seen + 1] = { name, ... } end end
  before_each(function()
    e, seen = new_emitter(), {}
  end)

  it("calls the listeners of an event in the order of their registration, with its arguments", function()
    e:on("x", note "first"):on("x", note "second")
    assert.is_true(e:emit("x", 1, nil, 3))
    assert.same({ { "first", 1, nil, 3 }, { "second", 1, nil, 3 } }, seen)
  end)

  it("says when nobody listens", function()
    assert.is_false(e:emit("x"))
  end)

  it("calls a listener registered with once a single time, also when it emits the event itself", function()
    e:once("x", function()
      seen[#seen + 1] = true
      e:emit("x")
    end)
    e:emit("x")
    e:emit("x")
    assert.equal(1, #seen)
  end)

  it("removes a listener, by what was given to on or to once", function()
    local a, b = note "a", note "b"
    e:on("x", a):once("x", b):off("x", a):off("x", b)
    assert.is_false(e:emit("x"))
  end)

  it("removes only one registration of a listener at a time, the last", function()
    local a = note "a"
    e:on("x", a):on("x", note "b"):on("x", a):off("x", a)
    e:emit("x")
    assert.same({ { "a" }, { "b" } }, seen)
  end)

  it("removes every listener of an event when none is named, and of no other event", function()
    e:on("x", note "x"):on("y", note "y"):off("x")
    assert.is_false(e:emit("x"))
    assert.is_true(e:emit("y"))
  end)

  it("goes on unchanged while listeners come and go, and heeds them at the next event", function()
    local late = note "late"
    local function early()
      e:off("x", early)
      e:on("x", late)
    end
    e:on("x", early):on("x", note "middle")
    e:emit("x")
    assert.same({ { "middle" } }, seen)
    e:emit("x")
    assert.same({ { "middle" }, { "middle" }, { "late" } }, seen)
  end)

  it("contains the error of a listener: the others run, and it is reported with a traceback", function()
    e:on("x", function() error("broken") end):on("x", note "after")
    e:emit("x")
    assert.same({ { "after" } }, seen)
    assert.equal(1, #e.reports)
    assert.equal("x", e.reports[1].event)
    assert.equal("SCRIPT", e.reports[1].err.code)
    assert.matches("emitter_spec.lua:%d+: broken", e.reports[1].err.message)
    assert.matches("stack traceback", e.reports[1].err.traceback)
    assert.equal(e.reports[1].err.message, tostring(e.reports[1].err))
  end)

  it("makes an error object of whatever was thrown", function()
    for _, thrown in ipairs { 42, {}, false, setmetatable({}, { __tostring = function() error("no") end }) } do
      e:on("x", function() error(thrown) end)
    end
    e:on("x", function() error() end)
    e:emit("x")
    assert.equal(5, #e.reports)
    for _, report in ipairs(e.reports) do assert.is_string(report.err.message) end
  end)

  it("refuses what is not a listener, naming the caller's line", function()
    assert.has_error(function() e:on("x", 42) end, nil)
    local ok, message = pcall(function() e:on("x") end)
    assert.is_false(ok)
    assert.matches('emitter_spec.lua:%d+: the listener for "x" must be a function, got nil', message)
  end)
end)
