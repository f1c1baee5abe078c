-- Who may come in. A plain WebSocket has no op 2 to log in with; what there is to judge is the request it began with:
-- path, query, headers (a cookie, a token) and ip. This is an ordinary module: on_connection.lua requires it, and saving
-- it reloads both.
return function(request)
  local name = (request.query or ""):match("name=(%w+)")
  if not name then
    return nil, "connect with ?name=you"
  end
  return name
end
