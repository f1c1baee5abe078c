-- A middleware that counts in Redis: the numbers are those of the whole cluster, and outlive its servers.
return function(config)
  return function(server)
    local redis = server.redis
    local keys = server:mapMiddlewareNamespace({ "connected_clients_count", "messages_received_count" }, "persisted_metrics")
    local connected_key, messages_key = keys[1], keys[2]

    return {
      onConnection = function()
        if config.connected then redis:incr(connected_key) end
      end,
      onMessageReceived = function()
        if config.messages then redis:incr(messages_key) end
      end,
      onDisconnection = function()
        if config.connected then redis:decr(connected_key) end
      end,
    }
  end
end
