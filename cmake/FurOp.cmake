# SPDX-License-Identifier: Apache-2.0
# fur_add_op(NAME [ISA...]): the only way to add an operator. src/op/NAME must hold NAME.h (contract), NAME.c (checks,
# threads, dispatch), NAME_ref.c (definition of correct), NAME_test.c (cases), and NAME_<isa>.c for every ISA listed.
# Flags of a variant live here and nowhere else.
set(fur_isa_flags_avx2 -mavx2 -mfma -mf16c -O3)
set(fur_isa_flags_avx512 -mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mf16c -mprefer-vector-width=512 -O3)

# every core with AVX512-BF16 has VNNI
set(fur_isa_flags_avx512bf16 ${fur_isa_flags_avx512} -mavx512bf16 -mavx512vnni)
set(fur_isa_flags_amx ${fur_isa_flags_avx512bf16} -mamx-tile -mamx-bf16)

string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" fur_processor)
# What is fuzzed are parsers, and clang takes minutes over one kernel with the sanitizers in.
if(fur_processor MATCHES "x86_64|amd64" AND NOT FUR_FUZZ)
    set(FUR_ISAS avx2 avx512 avx512bf16 amx)
else()
    set(FUR_ISAS)
endif()
foreach(isa avx2 avx512 avx512bf16 amx)
    if(isa IN_LIST FUR_ISAS)
        set(fur_has_${isa} 1)
    else()
        set(fur_has_${isa} 0)
    endif()
endforeach()
add_compile_definitions(FUR_HAVE_AVX2=${fur_has_avx2} FUR_HAVE_AVX512=${fur_has_avx512}
                        FUR_HAVE_AVX512BF16=${fur_has_avx512bf16} FUR_HAVE_AMX=${fur_has_amx})

function(fur_add_op name)
    set(directory ${PROJECT_SOURCE_DIR}/src/op/${name})
    foreach(file ${name}.h ${name}.c ${name}_ref.c ${name}_test.c)
        if(NOT EXISTS ${directory}/${file})
            message(FATAL_ERROR "operator ${name} lacks ${file}: see docs/ARCHITECTURE.md, adding an operator")
        endif()
    endforeach()
    target_sources(furlong_objects PRIVATE ${directory}/${name}.c ${directory}/${name}_ref.c)
    foreach(isa ${ARGN})
        if(isa IN_LIST FUR_ISAS)
            target_sources(furlong_objects PRIVATE ${directory}/${name}_${isa}.c)
            set_source_files_properties(${directory}/${name}_${isa}.c TARGET_DIRECTORY furlong_objects
                                        PROPERTIES COMPILE_OPTIONS "${fur_isa_flags_${isa}}")
        endif()
    endforeach()
    set_property(GLOBAL APPEND PROPERTY FUR_OPS ${name})
endfunction()
