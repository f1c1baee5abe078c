-- Called when a client authenticates: {"op": 2, "d": {"name": "ann"}}.
-- The answer is either a user, with an id, or a reason to refuse; the reason goes to the log, not to the client.
return function(data)
  if type(data) ~= "table" or type(data.name) ~= "string" or data.name == "" then
    return nil, "a name is missing"
  end
  return { id = data.name:lower(), user = { name = data.name } }
end
