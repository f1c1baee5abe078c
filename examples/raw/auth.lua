-- Who may come in. A plain WebSocket has no op 2 to log in with; what there is to judge is the request it began with: path,
-- query, headers (a cookie, a token) and ip. So this is not one of the server's scripts but a module of ours, which
-- on_connection.lua requires. Saving it loads both again.
return function(request)
  local name = request.query.name
  if not name or not name:match("^%w+$") then
    return nil, "connect with ?name=you"
  end
  return name
end
