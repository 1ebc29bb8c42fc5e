# SPDX-License-Identifier: Apache-2.0
# Whole runs of the program: what bytes they leave, how they end, what they refuse.
foreach(name finetune chat resume stop kill disk run choices tables convert gguf tokenizer fit bad_input bad_model)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/${name}.sh)
    add_test(NAME e2e_${name} COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/${name}.sh $<TARGET_FILE:furlong_cli>)
    set_tests_properties(e2e_${name} PROPERTIES TIMEOUT 600)
    if(FUR_SANITIZE) # resident memory is then the sanitizer's
        set_tests_properties(e2e_${name} PROPERTIES ENVIRONMENT "FUR_SANITIZED=1")
    endif()
endforeach()
