-- A program that is not a server: a bot for the chat example.
--
--   mesa-lua examples/chat/server.lua
--   mesa-lua examples/bot/bot.lua [URL] [NAME]      ws://localhost:4000 and "Robo" without them
--
-- It greets who comes in and answers "!time", "!roll" and "!bye". When the server goes away it comes back with it; the program
-- ends when there is nothing left to wait for.
local Mesa = require "mesa"
local Message = Mesa.Message

local url = arg[1] or "ws://localhost:4000"
local name = arg[2] or "Robo"
local token = ("%s-%.0f"):format("the secret of a bot", os.time()) -- who has it is the same person, see the chat's auth.lua

local bot = Mesa.Client(url)
local me -- what the server calls us, once it has let us in

math.randomseed(os.time())

local function say(text)
  bot:send(Message(0, { text = text }, "SAY"))
end

local commands = {}

function commands.time()
  say(os.date "It is %H:%M:%S.")
end

function commands.roll()
  say "Rolling..."
  Mesa.sleep(500) -- only this handler waits
  say(("You rolled a %d."):format(math.random(6)))
end

function commands.bye(from)
  say("Goodbye, " .. from.name .. "!")
  bot:disconnect()
end

local on = {}

function on.ROOM(room)
  local others = 0
  for _, person in ipairs(room.people) do
    if person.id ~= me.id then others = others + 1 end
  end
  print(("in the room, with %d others"):format(others))
end

function on.JOINED(person)
  if person.id ~= me.id then say("Hello, " .. person.name .. "!") end
end

function on.SAID(said)
  local command = commands[said.text:match "^!(%a+)$"]
  if command and said.from.id ~= me.id then command(said.from) end
end

function on.NAME_TAKEN(refusal)
  print(refusal.message)
  bot:disconnect()
end
on.NAME_REFUSED = on.NAME_TAKEN

bot:on("connected", function(event)
  print(event.isAutomaticReconnection and "connected again" or "connected")
  local user, err = bot:authenticate { name = name, token = token }
  if not user then return print("not let in: " .. err) end
  me = user
  bot:send(Message(0, {}, "JOIN"))
end)

bot:on("message", function(message)
  local handler = on[message.type]
  if handler then handler(message.data) end
end)

bot:on("disconnected", function(code, reason, event)
  print(("disconnected (%d%s)%s"):format(code, reason ~= "" and " " .. reason or "",
    event.willAttemptReconnect and ", trying again" or ""))
end)

bot:on("error", function(err) print(err.message) end)
