# SPDX-License-Identifier: Apache-2.0
# The installed library, used as a stranger would.
if(NOT FUR_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
    add_test(NAME e2e_install COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/install.sh ${CMAKE_BINARY_DIR} ${CMAKE_C_COMPILER})
    set_tests_properties(e2e_install PROPERTIES TIMEOUT 300)
endif()
