---@meta _

--- A user: whatever the application makes of it.
---@alias mesa.User table

---@alias mesa.Id string|number

--- What an authentication handler accepts a client with.
---@class mesa.AuthResult
---@field id mesa.Id messages to this id reach every connection of the user
---@field user? mesa.User sent with op 22; `{ id = id }` when absent

--- Answers op 2, at once or later: `done(err)` refuses, `done(nil, { id =, user = })` accepts.
---@alias mesa.AuthDone fun(err: any, result?: mesa.AuthResult)

--- The end of a connection.
---@class mesa.DisconnectEvent
---@field code integer WebSocket close code; 1005: the peer sent none, 1006: the connection broke
---@field reason string

--- Code has been replaced.
---@class mesa.ReloadEvent
---@field files string[] what ran again: scripts of this server, then modules
---@field changed string[] the files that had changed
---@field version integer counts from 1
---@field duration number milliseconds

--- What `error` events carry. `tostring(err)` is the message.
---@class mesa.Error
---@field message string what happened, in one line
---@field code string "SCRIPT" for an error in a handler, else the cause: "PROTOCOL", "JSON", "AUTH_TIMEOUT", "PATH" … (see the README)
---@field traceback? string of an error in a handler

--- auth.lua returns one. Instead of calling `done` it may return `{ id =, user = }`, or nil and an error.
---@alias mesa.AuthScript fun(data: any, done: mesa.AuthDone, client: mesa.Client, server: mesa.Server): mesa.AuthResult?, any

--- on_message.lua returns one.
---@alias mesa.MessageScript fun(message: mesa.Message, client: mesa.Client, server: mesa.Server)

--- on_connection.lua returns one.
---@alias mesa.ConnectionScript fun(client: mesa.Client, server: mesa.Server)

--- on_disconnect.lua returns one.
---@alias mesa.DisconnectScript fun(client: mesa.Client, event: mesa.DisconnectEvent, server: mesa.Server)

--- on_request.lua returns one.
---@alias mesa.RequestScript fun(request: mesa.Request, response: mesa.Response, server: mesa.Server)

--- `server:use(middleware)`
---@alias mesa.Middleware fun(server: mesa.Server): mesa.MiddlewareHandlers

---@class mesa.MiddlewareHandlers
---@field onConnection? fun(client: mesa.Client)
---@field onDisconnection? fun(client: mesa.Client, event: mesa.DisconnectEvent)
---@field onMessageReceived? fun(message: mesa.Message, client: mesa.Client)
---@field onMessageSent? fun(message: mesa.Message, clients: mesa.Client[], fromServer: boolean)
---@field onAuthenticated? fun(client: mesa.Client)
---@field onUndeliverableMessageSent? fun(message: mesa.Message, ids: string[]) kept for users who are offline
---@field onUndeliverableMessageDropped? fun(message: mesa.Message, id: string) went to hold the bounds of `sync`
---@field onRedeliverUndeliverableMessages? fun(count: integer, client: mesa.Client, messages: mesa.Message[])
---@field onPortalJoin? fun(...)
---@field onPortalLeave? fun(...)
---@field onError? fun(err: mesa.Error, client?: mesa.Client)
