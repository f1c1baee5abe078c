-- Loaded by busted before the specs.
local busted = require "busted"
local loop = require "spec.support.loop"

busted.subscribe({ "exit" }, function()
  loop.drain()
  return nil, true -- others may listen too
end)
