# What find_package(memmgr) makes of a prefix that `zig build` installed into, wherever it is now:
#
#   memmgr::memmgr   the shared library
#   memmgr::static   the static one
#
# CMakeLists.txt includes it as well, with the prefix that it builds into as memmgr_PREFIX.

if(NOT DEFINED memmgr_PREFIX)
  get_filename_component(memmgr_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
endif()

if(WIN32)
  set(memmgr_SHARED_LIBRARY "${memmgr_PREFIX}/bin/memmgr.dll")
  set(memmgr_IMPORT_LIBRARY "${memmgr_PREFIX}/lib/memmgr.lib")
  set(memmgr_STATIC_LIBRARY "${memmgr_PREFIX}/lib/memmgr_static.lib")
elseif(APPLE)
  set(memmgr_SHARED_LIBRARY "${memmgr_PREFIX}/lib/libmemmgr.dylib")
  set(memmgr_STATIC_LIBRARY "${memmgr_PREFIX}/lib/libmemmgr.a")
else()
  set(memmgr_SHARED_LIBRARY "${memmgr_PREFIX}/lib/libmemmgr.so")
  set(memmgr_STATIC_LIBRARY "${memmgr_PREFIX}/lib/libmemmgr.a")
endif()

if(NOT TARGET memmgr::memmgr)
  add_library(memmgr::memmgr SHARED IMPORTED)
  set_target_properties(memmgr::memmgr PROPERTIES
    IMPORTED_LOCATION "${memmgr_SHARED_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${memmgr_PREFIX}/include"
    INTERFACE_COMPILE_DEFINITIONS MEMMGR_SHARED)
  if(WIN32)
    set_target_properties(memmgr::memmgr PROPERTIES IMPORTED_IMPLIB "${memmgr_IMPORT_LIBRARY}")
  elseif(APPLE)
    # What is not built yet cannot be asked.
    set_target_properties(memmgr::memmgr PROPERTIES IMPORTED_SONAME "@rpath/libmemmgr.dylib")
  endif()
endif()

if(NOT TARGET memmgr::static)
  add_library(memmgr::static STATIC IMPORTED)
  set_target_properties(memmgr::static PROPERTIES
    IMPORTED_LOCATION "${memmgr_STATIC_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${memmgr_PREFIX}/include")
  if(NOT WIN32)
    set_target_properties(memmgr::static PROPERTIES INTERFACE_LINK_LIBRARIES -pthread)
  endif()
endif()
