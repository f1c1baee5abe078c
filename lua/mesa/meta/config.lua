---@meta _

--- What `Mesa.new` takes. Every key is optional; times are milliseconds.
---@class mesa.Config
---@field port? integer 4000; 0 is any free port
---@field host? string every address without it; "unix:/path" is a Unix socket
---@field mode? string permissions of the Unix socket, such as "660"; what the umask gives without it
---@field path? string of the WebSocket; any without it
---@field namespace? string suffix of every Redis name
---@field redis? string|mesa.RedisConfig Redis to cluster through: "redis://[user:password@]host[:port][/db]", "unix://path"
---@field server? mesa.Server another server, on whose port this one serves its `path`
---@field static? string folder, relative to the main script, whose files are served on the same port
---@field strict? boolean a function that uses a global that no file has assigned raises
---@field raw? boolean plain WebSockets without the Mesa envelope
---@field compression? boolean|mesa.CompressionConfig false: permessage-deflate for clients that offer it
---@field origins? string[]|"*" values of Origin that are let in, such as "https://*.example.org"; any without it or with "*"
---@field proxies? string[] addresses and networks of proxies that are believed about whom they forward, "unix" for Unix sockets
---@field proxyProtocol? boolean connections begin with a PROXY header, version 1 or 2, in front of TLS too; else they are closed
---@field protocols? mesa.Protocols|fun(request: mesa.Request): string? subprotocols; what is offered first without it
---@field beforeExit? fun(signal: string, exit: fun(code?: integer)) runs before the server stops; calling `exit` lets it
---@field gracefullyExit? boolean true: close clients with 1001 on SIGTERM and SIGINT
---@field scripts? string|mesa.ScriptsConfig a folder with files of these names, or the files
---@field tls? mesa.TlsConfig
---@field admin? mesa.AdminConfig
---@field client? mesa.ClientConfig
---@field options? mesa.OptionsConfig
---@field sync? mesa.SyncConfig
---@field portal? mesa.PortalConfig
---@field heartbeat? mesa.HeartbeatConfig
---@field reconnect? mesa.ReconnectConfig
---@field authentication? mesa.AuthenticationConfig
---@field limits? mesa.LimitsConfig

--- The names of subprotocols, the best first. With `required` a client that offers none of them is refused with 400.
---@class mesa.Protocols
---@field [integer] string
---@field required? boolean false

--- Files relative to the main script, each of which returns one function. They are loaded again when they change.
---@class mesa.ScriptsConfig
---@field auth? string returns a `mesa.AuthScript`
---@field message? string returns a `mesa.MessageScript`
---@field connection? string returns a `mesa.ConnectionScript`
---@field disconnect? string returns a `mesa.DisconnectScript`
---@field request? string returns a `mesa.RequestScript`

---@class mesa.TlsConfig
---@field cert string file of the certificate chain (PEM)
---@field key string file of the private key (PEM)
---@field passphrase? string what the key is encrypted with
---@field names? table<string, mesa.CertificateConfig> other certificates by the name that clients ask for: "a.example", "*.b.example"
---@field ca? string file of the authorities that client certificates must come from, and of their revocation lists (PEM)
---@field requestCert? boolean ask clients for a certificate; it is `request.certificate`
---@field minVersion? "1.2"|"1.3" "1.2"
---@field ciphers? string in the server's order, as OpenSSL writes them; those of TLS 1.3 begin with TLS_
---@field ticketKeys? string file of at least 32 secret bytes, by which processes resume each other's sessions
---@field ticketLifetime? integer|false 7200000: how long a session can be resumed; its keys change that often

--- A certificate for clients that ask for a name.
---@class mesa.CertificateConfig
---@field cert string file of the certificate chain (PEM)
---@field key string file of its private key (PEM)
---@field passphrase? string what the key is encrypted with

--- permessage-deflate.
---@class mesa.CompressionConfig
---@field threshold? integer 1024: bytes of the smallest message that is compressed
---@field level? integer 6: from 1, the quickest, to 9, the smallest
---@field contextTakeover? boolean false: keep a window for each connection from one message to the next
---@field maxMemory? integer 64 MiB: bytes of all windows that are kept

---@class mesa.AdminConfig
---@field host? string 127.0.0.1
---@field mode? string permissions of a Unix socket
---@field port integer 0 is any free port

---@class mesa.ClientConfig
---@field enforceEqualVersions? boolean close clients of another version with 1002
---@field version? string "1.5.8"

---@class mesa.OptionsConfig
---@field concurrentMessages? boolean false: handle a client's messages at once instead of one after the other
---@field storeMessages? boolean|integer messages of each direction kept per client; true is 100

--- Messages for users who are offline.
---@class mesa.SyncConfig
---@field enabled? boolean false
---@field redeliveryInterval? integer 0: all at once
---@field maxMessages? integer 1000 per user
---@field maxBytes? integer 1 MiB per user
---@field maxAge? integer seven days

--- Where Redis is, and how the cluster uses it.
---@class mesa.RedisConfig
---@field uri? string instead of the fields up to `db`
---@field host? string 127.0.0.1
---@field port? integer 6379
---@field path? string Unix socket, instead of host and port
---@field user? string
---@field password? string
---@field db? integer 0
---@field sentinels? string[] "host:port" of Sentinels that know the master called `name`
---@field name? string
---@field connectTimeout? integer 5000
---@field commandTimeout? integer 5000
---@field lease? integer 15000: when a dead server's users and connections are taken out of Redis
---@field queue? integer 0: messages kept for the cluster while Redis is away

---@class mesa.PortalConfig
---@field enabled? boolean false
---@field distributeLoad? boolean true: portals in turn, else at random

---@class mesa.HeartbeatConfig
---@field enabled? boolean false
---@field interval? integer 10000
---@field maxAttempts? integer 3: after so many unanswered heartbeats a client is closed with 4009

---@class mesa.ReconnectConfig
---@field enabled? boolean false: tell clients to come back
---@field interval? integer 5000

---@class mesa.AuthenticationConfig
---@field timeout? integer|false 10000: time to authenticate in; 0 or false is no limit
---@field required? boolean false: send nothing to clients that are not authenticated
---@field sendUserObject? boolean true: with op 22
---@field disconnectOnFail? boolean true: close with 1008 when authentication is refused
---@field storeConnectedUsers? boolean true

---@class mesa.LimitsConfig
---@field maxPayload? integer 1 MiB: bytes of one message, 1009 above
---@field maxBackpressure? integer 1 MiB: bytes queued for one client, 1013 above
---@field maxBody? integer 1 MiB: bytes of the body of an HTTP request, 413 above
---@field maxQueue? integer 1 MiB: bytes of one client's messages that wait for its handler; above, it is not read from
---@field maxQueueTotal? integer 64 MiB: bytes of all clients' messages that wait for handlers
---@field maxConnections? integer 0: unlimited
---@field maxConnectionsPerIp? integer 0: unlimited
---@field messagesPerSecond? integer 0: unlimited; 4008 above
---@field burst? integer as many as messagesPerSecond
---@field handshakeTimeout? integer 10000
---@field idleTimeout? integer 0: off
---@field maxDepth? integer 128, of JSON
---@field scriptTime? integer|false 1000: ms; a handler that holds the loop longer is logged and counted
---@field scriptMemory? integer|false unlimited: bytes of the Lua state; beyond it handlers fail with "not enough memory"
