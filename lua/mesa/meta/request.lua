---@meta _

--- A client's certificate, which one of the authorities of `tls.ca` vouches for.
---@class mesa.Certificate
---@field subject string "CN=ann,O=Example"
---@field issuer string in the same form
---@field names string[] its alternative names: "DNS:ann.example", "email:ann@example.org", "URI:spiffe://...", "IP:10.0.0.1"
---@field serial string in hexadecimal
---@field fingerprint string SHA-256, as `openssl x509 -fingerprint -sha256` prints it: "0A:1B:..."
---@field notAfter integer until when it is valid, as os.time() counts

--- A plain HTTP request: the first argument of `request` listeners.
---@class mesa.Request
---@field method string "GET"
---@field path string decoded, without the query
---@field query table<string, string> of duplicates the last one counts
---@field queryString string the text behind "?"
---@field headers table<string, string> names in lower case
---@field ip string the client's address, behind the `proxies` of the configuration, too
---@field secure boolean whether the client uses TLS
---@field certificate? mesa.Certificate the client's, with tls.requestCert
---@field body string at most limits.maxBody bytes

--- Decides about a peer that asks for a WebSocket: true lets it in, false refuses it with a status (400 to 599, 403 without it) and
--- a text. Returns nil, "closed" when the peer has left, and nil, "decided" when it was decided before.
---@alias mesa.Decide fun(accept: boolean, status?: integer, text?: string): true?, "closed"|"decided"|nil

--- The answer to it. A request that no listener has answered when the last one has returned gets 404, one whose listener
--- failed 500. A listener may wait before it answers; one that answers after it has returned says so with `defer`.
---@class mesa.Response
---@field answered boolean
local Response = {}

--- Sets the status, 200 unless set.
---@param status integer 200 to 599
---@return mesa.Response self
function Response:status(status) end

--- Sets a header; a list is several headers of one name, nil takes it away.
---@param name string
---@param value? string|number|(string|number)[]
---@return mesa.Response self
function Response:header(name, value) end

--- Answers with a text (text/plain unless the header is set), or without a body. The first answer counts.
---@param body? string
---@return true? ok
---@return "answered"? err
function Response:send(body) end

--- Answers with a value as JSON.
---@param value any
---@return true? ok
---@return "answered"? err
function Response:json(value) end

--- The answer will come after the listeners have returned. Forgotten by everybody (collected), it is 500.
---@return mesa.Response self
function Response:defer() end

return Response
