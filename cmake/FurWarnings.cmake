# SPDX-License-Identifier: Apache-2.0
# One warning set for all of our code.
function(fur_warnings target)
    target_compile_options(${target} PRIVATE
        -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla
        -Wundef -Wcast-align -Wpointer-arith -Wformat=2 -Wdouble-promotion -Wno-unknown-pragmas
        -fno-math-errno -ffp-contract=off)
    if(FUR_WERROR)
        target_compile_options(${target} PRIVATE -Werror)
    endif()
    if(FUR_SANITIZE)
        target_compile_options(${target} PRIVATE -fsanitize=${FUR_SANITIZE} -fno-omit-frame-pointer -g)
    endif()
endfunction()
if(FUR_SANITIZE)
    add_link_options(-fsanitize=${FUR_SANITIZE})
endif()
