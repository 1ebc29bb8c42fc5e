# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where: headers, both libraries, the program with its man pages and completions, and the
# two ways a build system finds the library: pkg-config, and find_package(furlong), which gives furlong::furlong
# (shared) and furlong::furlong_static.
include(CMakePackageConfigHelpers)

# Before 1.0 a minor version may change what a program sees, so its library is another library.
set_target_properties(furlong_shared PROPERTIES SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

install(DIRECTORY include/furlong DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS furlong_shared EXPORT furlong_targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS furlong_static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})

# ---- for whoever builds against it ------------------------------------------------------------------------------
# Paths are relative to the file itself, so that an installed tree can be moved.
set(fur_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/furlong)
file(RELATIVE_PATH FUR_PREFIX_FROM_PC "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
string(REGEX REPLACE "/$" "" FUR_PREFIX_FROM_PC "${FUR_PREFIX_FROM_PC}")
# What the static library needs of others, as -l names.
set(FUR_STATIC_LIBRARIES "-ljansson -lzstd -lxxhash -lz -lpcre2-8 -lutf8proc")
set(FUR_STATIC_NAMES jansson zstd xxhash z pcre2-8 utf8proc)
if(FUR_DNNL)
    string(APPEND FUR_STATIC_LIBRARIES " -ldnnl")
    list(APPEND FUR_STATIC_NAMES dnnl)
endif()
if(FUR_OPENBLAS)
    string(APPEND FUR_STATIC_LIBRARIES " -llapacke -lopenblas")
    list(APPEND FUR_STATIC_NAMES lapacke openblas)
endif()
string(APPEND FUR_STATIC_LIBRARIES " ${OpenMP_C_FLAGS} -lm")

configure_file(cmake/furlong.pc.in furlong.pc @ONLY)
configure_package_config_file(cmake/furlongConfig.cmake.in furlongConfig.cmake INSTALL_DESTINATION ${fur_package_dir}
                              PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(furlongConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT furlong_targets NAMESPACE furlong:: FILE furlongTargets.cmake DESTINATION ${fur_package_dir})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/furlongConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/furlongConfigVersion.cmake
        DESTINATION ${fur_package_dir})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/furlong.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# ---- the program, and what it says about itself -----------------------------------------------------------------
if(TARGET furlong_cli)
    install(TARGETS furlong_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    if(NOT CMAKE_CROSSCOMPILING AND NOT FUR_SANITIZE)
        set(fur_manual_dir ${CMAKE_CURRENT_BINARY_DIR}/manual)
        add_custom_command(
            OUTPUT ${fur_manual_dir}/stamp
            COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:furlong_cli> -DOUTPUT=${fur_manual_dir}
                    -P ${PROJECT_SOURCE_DIR}/cmake/FurManual.cmake
            DEPENDS furlong_cli ${PROJECT_SOURCE_DIR}/cmake/FurManual.cmake
            COMMENT "Man pages and completions, from the program's own option table"
            VERBATIM)
        add_custom_target(furlong_manual ALL DEPENDS ${fur_manual_dir}/stamp)
        install(DIRECTORY ${fur_manual_dir}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
        install(FILES ${fur_manual_dir}/completion/bash RENAME furlong
                DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
        install(FILES ${fur_manual_dir}/completion/zsh RENAME _furlong
                DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
        install(FILES ${fur_manual_dir}/completion/fish RENAME furlong.fish
                DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
    endif()
endif()
