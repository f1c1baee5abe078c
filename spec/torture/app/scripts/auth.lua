return function(data, done, _, server)
  server.state.chaos.trouble()
  if type(data) ~= "table" or data.refuse then return done "refused" end
  done(nil, { id = data.id, user = { id = data.id } })
end
