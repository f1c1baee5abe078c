return function(_, _, server) server.state.chaos.trouble() end
