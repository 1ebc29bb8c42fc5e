# SPDX-License-Identifier: Apache-2.0
# Everything from outside, in one place. `fur_dependencies` is what the library links.
find_package(OpenMP REQUIRED COMPONENTS C)
find_path(JANSSON_INCLUDE jansson.h REQUIRED)
find_library(JANSSON_LIBRARY jansson REQUIRED)
find_path(ZSTD_INCLUDE zstd.h REQUIRED)
find_library(ZSTD_LIBRARY zstd REQUIRED)
find_path(XXHASH_INCLUDE xxhash.h REQUIRED)
find_library(XXHASH_LIBRARY xxhash REQUIRED)
find_path(ZLIB_INCLUDE zlib.h REQUIRED)
find_library(ZLIB_LIBRARY z REQUIRED)
find_path(PCRE2_INCLUDE pcre2.h REQUIRED)
find_library(PCRE2_LIBRARY pcre2-8 REQUIRED)
find_path(UTF8PROC_INCLUDE utf8proc.h REQUIRED)
find_library(UTF8PROC_LIBRARY utf8proc REQUIRED)

add_library(fur_dependencies INTERFACE)
target_include_directories(fur_dependencies SYSTEM INTERFACE ${JANSSON_INCLUDE} ${ZSTD_INCLUDE} ${XXHASH_INCLUDE}
                           ${ZLIB_INCLUDE} ${PCRE2_INCLUDE} ${UTF8PROC_INCLUDE})
target_link_libraries(fur_dependencies INTERFACE OpenMP::OpenMP_C ${JANSSON_LIBRARY} ${ZSTD_LIBRARY} ${XXHASH_LIBRARY}
                      ${ZLIB_LIBRARY} ${PCRE2_LIBRARY} ${UTF8PROC_LIBRARY} m)

if(FUR_DNNL)
    find_path(DNNL_INCLUDE dnnl.h REQUIRED)
    find_library(DNNL_LIBRARY dnnl REQUIRED)
    target_include_directories(fur_dependencies SYSTEM INTERFACE ${DNNL_INCLUDE})
    target_link_libraries(fur_dependencies INTERFACE ${DNNL_LIBRARY})
    target_compile_definitions(fur_dependencies INTERFACE FUR_HAVE_DNNL=1)
else()
    target_compile_definitions(fur_dependencies INTERFACE FUR_HAVE_DNNL=0)
endif()

# The OpenMP build: one runtime of threads for all. Debian keeps its headers apart from those of other BLAS.
if(FUR_OPENBLAS)
    find_path(OPENBLAS_INCLUDE cblas.h PATH_SUFFIXES openblas-openmp openblas REQUIRED)
    find_library(OPENBLAS_LIBRARY openblas PATH_SUFFIXES openblas-openmp REQUIRED)
    find_path(LAPACKE_INCLUDE lapacke.h REQUIRED)
    find_library(LAPACKE_LIBRARY lapacke REQUIRED)
    target_include_directories(fur_dependencies SYSTEM INTERFACE ${OPENBLAS_INCLUDE} ${LAPACKE_INCLUDE})
    target_link_libraries(fur_dependencies INTERFACE ${LAPACKE_LIBRARY} ${OPENBLAS_LIBRARY})
    target_compile_definitions(fur_dependencies INTERFACE FUR_HAVE_OPENBLAS=1)
else()
    target_compile_definitions(fur_dependencies INTERFACE FUR_HAVE_OPENBLAS=0)
endif()

# The program writes reports and JSON of its own.
add_library(fur_cli_dependencies INTERFACE)
target_include_directories(fur_cli_dependencies SYSTEM INTERFACE ${JANSSON_INCLUDE})
target_link_libraries(fur_cli_dependencies INTERFACE ${JANSSON_LIBRARY} m)
