# What makes mistakes in memory harder to use: each option where compiler and linker have it.
#   spec/support/hardened BINARY   shows that it is there
include(CheckCCompilerFlag)
include(CheckCSourceCompiles)
include(CheckLinkerFlag)

# mesa_harden(FLAG...): compiles with those that the compiler knows.
function(mesa_harden)
  foreach(flag IN LISTS ARGN)
    string(MAKE_C_IDENTIFIER "MESA_HAS${flag}" known)
    check_c_compiler_flag(${flag} ${known})
    if(${known})
      target_compile_options(mesa_options INTERFACE ${flag})
    endif()
  endforeach()
endfunction()

mesa_harden(
  -fstack-protector-strong   # a canary between buffers and return addresses
  -fstack-clash-protection   # no frame jumps over the guard page
  -ftrivial-auto-var-init=zero # no local variable has what was on the stack before
  -fcf-protection=full       # indirect jumps land on marked places only (x86)
)

# Checked versions of memcpy, snprintf and others. They need optimisation; a distribution may have set a level of its own.
if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  set(CMAKE_REQUIRED_FLAGS "-O2 -Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3")
  check_c_source_compiles("#include <string.h>\n#if __USE_FORTIFY_LEVEL < 3\n#error\n#endif\nint main(void) { return 0; }" MESA_HAS_FORTIFY_3)
  unset(CMAKE_REQUIRED_FLAGS)
  target_compile_options(mesa_options INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=$<IF:$<BOOL:${MESA_HAS_FORTIFY_3}>,3,2>)
endif()

# The addresses of the program and its libraries' functions: chosen anew at each start, resolved then, and read-only afterwards.
# Not CMAKE_POSITION_INDEPENDENT_CODE: that compiles the layers as for shared libraries, whose functions anybody may replace.
mesa_harden(-fPIE)
target_link_options(mesa_options INTERFACE -pie)
foreach(flag -z,relro -z,now -z,noexecstack -z,separate-code)
  string(MAKE_C_IDENTIFIER "MESA_LINKS${flag}" known)
  check_linker_flag(C LINKER:${flag} ${known})
  if(${known})
    target_link_options(mesa_options INTERFACE LINKER:${flag})
  endif()
endforeach()
