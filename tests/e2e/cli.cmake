# SPDX-License-Identifier: Apache-2.0
# The program as people and scripts meet it: options and their refusals, output for programs, and the demo.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/cli.sh)
add_test(NAME e2e_cli COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/cli.sh $<TARGET_FILE:furlong_cli>)
set_tests_properties(e2e_cli PROPERTIES TIMEOUT 300)
# Sanitizers need more memory than the demo's plan allows; and a demo that is timed wants the processors for itself.
if(NOT FUR_SANITIZE)
    add_test(NAME e2e_demo COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/demo.sh $<TARGET_FILE:furlong_cli>)
    set_tests_properties(e2e_demo PROPERTIES TIMEOUT 600 RUN_SERIAL ON)
endif()
