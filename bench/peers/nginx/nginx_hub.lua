-- Who is connected, as a set; a module is loaded once for all requests of the worker.
return {}
