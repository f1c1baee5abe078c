---@meta _

--- Requests to other services: `Mesa.http`. Each suspends the handler that makes it and raises outside of one; trouble on the
--- way is `nil, message, code`. Misuse (an option that does not exist) raises at the caller's line.
---
--- Codes: "RESOLVE" "CONNECT" "TLS" "TIMEOUT" "CLOSED" (the connection ended before the response did) "PROTOCOL" "TOO_LARGE"
--- "REDIRECT" "INVALID" (the URL, a header or the method cannot be sent) "MEMORY".
---@class mesa.Http
local http = {}

---@class mesa.HttpOptions
---@field headers? table<string, string|number|string[]> a list is several headers of one name
---@field query? table<string, string|number|boolean|(string|number|boolean)[]> added to the URL, encoded
---@field body? string
---@field json? any sent as the body, with its content type
---@field timeout? number 30000: ms until the whole response must be there, redirections included; 0: no limit
---@field connectTimeout? number 5000: ms for resolving, connecting and the TLS handshake; 0: no limit
---@field maxRedirects? integer 5; 0: a redirection is a response like any other
---@field maxSize? integer 8 MiB: bytes of the response's body
---@field tls? mesa.HttpTls

---@class mesa.HttpTls
---@field ca? string file of the authorities to trust (PEM), relative to the main script; the system's without it
---@field verify? boolean true; false takes any certificate

---@class mesa.HttpRequest: mesa.HttpOptions
---@field method? string "GET"
---@field url string

---@class mesa.HttpResponse
---@field status integer
---@field headers table<string, string> names in lower case, several values joined by ", "; `set-cookie` is a list
---@field body string
---@field json? any the body as JSON, when the content type says so; nil when it is none
---@field url string where it came from, after redirections

---@param url string
---@param options? mesa.HttpOptions
---@return mesa.HttpResponse? response
---@return string? err
---@return string? code
function http.get(url, options) end

---@param url string
---@param options? mesa.HttpOptions
---@return mesa.HttpResponse? response
---@return string? err
---@return string? code
function http.head(url, options) end

---@param url string
---@param options? mesa.HttpOptions
---@return mesa.HttpResponse? response
---@return string? err
---@return string? code
function http.post(url, options) end

---@param url string
---@param options? mesa.HttpOptions
---@return mesa.HttpResponse? response
---@return string? err
---@return string? code
function http.put(url, options) end

---@param url string
---@param options? mesa.HttpOptions
---@return mesa.HttpResponse? response
---@return string? err
---@return string? code
function http.patch(url, options) end

---@param url string
---@param options? mesa.HttpOptions
---@return mesa.HttpResponse? response
---@return string? err
---@return string? code
function http.delete(url, options) end

---@param request mesa.HttpRequest
---@return mesa.HttpResponse? response
---@return string? err
---@return string? code
function http.request(request) end

return http
