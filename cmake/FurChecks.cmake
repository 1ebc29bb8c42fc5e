# SPDX-License-Identifier: Apache-2.0
# The checks of tools/ as tests, and the small programs that ./dev asks about the build.
add_executable(test_variants ${PROJECT_SOURCE_DIR}/tests/tools/variants.c)
target_link_libraries(test_variants PRIVATE furlong_static)
fur_warnings(test_variants)

foreach(check layers headers source checks)
    add_test(NAME check_${check} COMMAND sh ${PROJECT_SOURCE_DIR}/tools/check_${check}.sh)
endforeach()
set_tests_properties(check_headers PROPERTIES ENVIRONMENT "CC=${CMAKE_C_COMPILER}")

# A sanitizer adds symbols of its own; a fuzz build has no shared library worth looking at.
if(NOT FUR_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
    add_test(NAME check_symbols COMMAND sh ${PROJECT_SOURCE_DIR}/tools/check_symbols.sh ${PROJECT_BINARY_DIR})
endif()

if(NOT FUR_FUZZ)
    add_subdirectory(${PROJECT_SOURCE_DIR}/tests/fuzz ${PROJECT_BINARY_DIR}/tests/fuzz)
endif()

# Tests share the processors: threads that spin while they wait take each other's time (an example of 1 s took 300 s
# beside a busy machine). Called when all tests of tests/ are known.
function(fur_tests_wait_asleep)
    get_property(names DIRECTORY PROPERTY TESTS)
    set_property(TEST ${names} APPEND PROPERTY ENVIRONMENT OMP_WAIT_POLICY=passive)
endfunction()
cmake_language(DEFER CALL fur_tests_wait_asleep)
