# SPDX-License-Identifier: Apache-2.0
# Tests of whole models run once for each instruction set: that of matrix products is one per process. 77: the machine
# lacks it. Where FURLONG_ISA is not set, the best one runs.
foreach(stem model_gradient model_bits model_bf16 model_leak model_pairs model_ring golden)
    if(TARGET unit_${stem})
        set_tests_properties(unit_${stem} PROPERTIES SKIP_RETURN_CODE 77)
        set(isas ref avx2)
        if(stem MATCHES "^model_(bf16|pairs)$") # with bf16 the best one is avx512bf16 or amx
            set(isas ref avx2 avx512)
        endif()
        foreach(isa ${isas})
            add_test(NAME unit_${stem}_${isa} COMMAND unit_${stem})
            set_tests_properties(unit_${stem}_${isa} PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77
                                 ENVIRONMENT "FURLONG_ISA=${isa}")
        endforeach()
    endif()
endforeach()
# Peak memory under a sanitizer is not the program's.
if(TARGET unit_plan)
    if(FUR_SANITIZE)
        target_compile_definitions(unit_plan PRIVATE FUR_SANITIZED=1)
    else()
        target_compile_definitions(unit_plan PRIVATE FUR_SANITIZED=0)
    endif()
endif()
# Kernels made of tiles, on tiles in plain C: the operators compiled once more with them.
if(FUR_ISAS)
    set(tiles ${CMAKE_CURRENT_SOURCE_DIR}/tiles)
    target_sources(unit_attention_bf16 PRIVATE ${tiles}/attention_operator.c ${tiles}/attention_kernel_tiles.c)
    target_sources(unit_matmul_tiles PRIVATE ${tiles}/matmul_operator.c ${tiles}/matmul_kernel_tiles.c)
    foreach(target attention_bf16 matmul_tiles)
        set_tests_properties(unit_${target} PROPERTIES SKIP_RETURN_CODE 77)
    endforeach()
    set_source_files_properties(${tiles}/attention_kernel_tiles.c ${tiles}/matmul_kernel_tiles.c
                                PROPERTIES COMPILE_OPTIONS "${fur_isa_flags_avx2}")
endif()
