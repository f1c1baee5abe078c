return function(_, server) server.state.chaos.trouble() end
