/* SPDX-License-Identifier: Apache-2.0 */
/* The public context and the machine card. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "base/size.h"
#include "cpu/cpu.h"
#include "furlong/furlong.h"
#include "op/matmul/matmul.h"

const char *fur_version(void)
{
    return FUR_HAVE_DNNL ? "0.1.0 (oneDNN, OpenMP)" : "0.1.0 (reference products, OpenMP)";
}

void fur_context_settings_defaults(fur_context_settings *settings)
{
    memset(settings, 0, sizeof *settings);
    settings->struct_size = sizeof *settings;
}

static fur_status choose_isa(fur_error *error, const char *wanted, fur_isa *out)
{
    fur_isa best = fur_cpu_best_isa();
    const char *source = "--isa";
    if (!wanted) {
        wanted = getenv("FURLONG_ISA");
        source = "FURLONG_ISA";
    }
    if (!wanted || !*wanted) {
        *out = best;
        return FUR_OK;
    }
    int isa = fur_isa_from_name(wanted);
    if (isa < 0)
        return fur_error_set(error, FUR_E_ARGUMENT, "%s is '%s', expected ref, avx2, avx512, avx512bf16 or amx", source,
                             wanted);
    if (isa > (int)best)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "%s is '%s', but this machine or build has only up to %s",
                             source, wanted, fur_isa_name(best));
    *out = (fur_isa)isa;
    return FUR_OK;
}

static fur_status choose_compute(fur_error *error, const char *wanted, fur_context *context)
{
    int compute = wanted ? fur_compute_from_name(wanted) : FUR_COMPUTE_F32;
    if (compute < 0)
        return fur_error_set(error, FUR_E_ARGUMENT, "the type of products is '%s', expected f32 or bf16", wanted);
    context->exec.compute = (fur_compute)compute;
    context->dtype_is_given = wanted != NULL;
    return FUR_OK;
}

static fur_status context_init(fur_context *context, fur_error *error, const fur_context_settings *settings)
{
    if (settings->struct_size != sizeof *settings)
        return fur_error_set(error, FUR_E_ARGUMENT, "fur_context_settings has %zu bytes, this library expects %zu",
                             settings->struct_size, sizeof *settings);
    if (settings->threads < 0 || settings->threads > 4096)
        return fur_error_set(error, FUR_E_ARGUMENT, "threads is %d, expected 0 to 4096", settings->threads);
    context->exec.error = &context->error;
    context->exec.threads = settings->threads > 0 ? settings->threads : fur_cpu_cores();
    context->log = settings->log;
    context->log_user = settings->log_user;
    context->base_rss_bytes = fur_process_rss_bytes();
    FUR_TRY(choose_isa(error, settings->isa, &context->exec.isa));
    FUR_TRY(choose_compute(error, settings->dtype, context));
    FUR_TRY(fur_matmul_limit_isa(error, context->exec.isa));
    if (context->exec.isa == FUR_ISA_REF)
        fur_log(context, FUR_LOG_WARNING, "%s: running the plain C reference, which is right but many times slower",
                fur_cpu_best_isa() == FUR_ISA_REF ? "this processor lacks AVX2" : "instruction set ref is asked for");
    return FUR_OK;
}

fur_status fur_context_create(const fur_context_settings *settings, fur_context **out, char *error_text,
                              size_t error_bytes)
{
    *out = NULL;
    fur_error error = {0};
    fur_context *context = fur_calloc(1, sizeof *context);
    fur_status status = context ? context_init(context, &error, settings)
                                : fur_error_set(&error, FUR_E_MEMORY, "no memory for a context");
    if (status == FUR_OK) {
        *out = context;
        return FUR_OK;
    }
    if (error_text && error_bytes)
        snprintf(error_text, error_bytes, "%s", error.text);
    fur_free(context);
    return status;
}

void fur_context_destroy(fur_context *context)
{
    fur_free(context);
}

const char *fur_context_error(const fur_context *context)
{
    return context->error.text;
}

void fur_context_stop(fur_context *context)
{
    atomic_store(&context->stop, 1);
}

int fur_context_threads(const fur_context *context)
{
    return context->exec.threads;
}

const char *fur_context_isa(const fur_context *context)
{
    return fur_isa_name(context->exec.isa);
}

const char *fur_context_dtype(const fur_context *context)
{
    return fur_compute_name(context->exec.compute);
}

fur_status fur_machine_read(fur_context *context, fur_machine *out)
{
    memset(out, 0, sizeof *out);
    fur_cpu_name(out->cpu_name, sizeof out->cpu_name);
    for (int isa = 0; isa < FUR_ISA_COUNT; isa++) {
        if (!fur_isa_exists((fur_isa)isa))
            continue;
        char *list = isa <= (int)fur_cpu_best_isa() ? out->isa_available : out->isa_missing;
        size_t used = strlen(list);
        snprintf(list + used, sizeof out->isa_available - used, "%s%s", used ? " " : "", fur_isa_name((fur_isa)isa));
    }
    out->isa = fur_isa_name(context->exec.isa);
    out->cores = fur_cpu_cores();
    out->memory_total = fur_cpu_memory_total();
    out->memory_available = fur_cpu_memory_available();
    out->l2_bytes = fur_cpu_cache_bytes(2);
    out->l3_bytes = fur_cpu_cache_bytes(3);
    return FUR_OK;
}

int64_t fur_machine_default_memory(const fur_machine *machine)
{
    return machine->memory_available / 5 * 4;
}

static int64_t status_bytes(const char *name)
{
    FILE *file = fopen("/proc/self/status", "re");
    if (!file)
        return 0;
    char line[256];
    int64_t bytes = 0;
    size_t length = strlen(name);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, length) == 0 && line[length] == ':')
            bytes = strtoll(line + length + 1, NULL, 10) * 1024;
    fclose(file);
    return bytes;
}

int64_t fur_process_rss_bytes(void)
{
    return status_bytes("VmRSS");
}

int64_t fur_context_held_bytes(const fur_context *context)
{
    int64_t more = fur_process_rss_bytes() - context->base_rss_bytes;
    return more > 0 ? more : 0;
}

int64_t fur_process_peak_rss_bytes(void)
{
    return status_bytes("VmHWM");
}
