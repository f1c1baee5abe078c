# The JSON codec and the Lua functions that need nothing else of this layer: usable, and tested, without a server.
add_library(mesa_script_value STATIC
  bind_config.c
  bind_json.c
  value.c
  value_decode.c
  value_encode.c
)
target_link_libraries(mesa_script_value PUBLIC mesa_options mesa_core PkgConfig::LUAJIT)
