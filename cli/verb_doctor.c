/* SPDX-License-Identifier: Apache-2.0 */
/* furlong doctor: the machine, its limits, and whether gradients are right on it. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "verb.h"

typedef struct doctor {
    cli_session *session;
    fur_machine machine;
    json_t *object, *advice;
    cli_table table;
} doctor;

static void row(doctor *d, const char *name, const char *text)
{
    cli_table_row(&d->table, name, text);
}

static void advise(doctor *d, const char *text)
{
    (void)json_array_append_new(d->advice, json_string(text));
}

/* ---- limits ------------------------------------------------------------------------------------------------- */

static void check_machine(doctor *d)
{
    const fur_machine *m = &d->machine;
    char text[160], a[CLI_UNIT], b[CLI_UNIT];
    row(d, "processor", m->cpu_name);
    (void)snprintf(text, sizeof text, "%d usable, %d threads", m->cores, fur_context_threads(d->session->context));
    row(d, "cores", text);
    (void)snprintf(text, sizeof text, "%s in use; can run %s%s%s", m->isa, m->isa_available,
                   m->isa_missing[0] != '\0' ? "; cannot run " : "", m->isa_missing);
    row(d, "instruction sets", text);
    (void)snprintf(text, sizeof text, "level 2 %s, level 3 %s", cli_bytes(a, m->l2_bytes), cli_bytes(b, m->l3_bytes));
    row(d, "caches", text);
    (void)snprintf(text, sizeof text, "%s, %s available", cli_bytes(a, m->memory_total),
                   cli_bytes(b, m->memory_available));
    row(d, "memory", text);
    row(d, "--memory by default", cli_bytes(a, fur_machine_default_memory(m)));
    cli_json_text(d->object, "cpu", m->cpu_name);
    cli_json_int(d->object, "cores", m->cores);
    cli_json_text(d->object, "isa", m->isa);
    cli_json_text(d->object, "isa_available", m->isa_available);
    cli_json_text(d->object, "isa_missing", m->isa_missing);
    cli_json_int(d->object, "memory_total", m->memory_total);
    cli_json_int(d->object, "memory_available", m->memory_available);
    cli_json_int(d->object, "default_memory", fur_machine_default_memory(m));
    if (strstr(m->isa_available, "avx2") == NULL)
        advise(d, "no AVX2: the portable reference runs, correct but slow");
    else if (strcmp(m->isa, "ref") == 0)
        advise(d, "the reference variant is chosen (FURLONG_ISA or --isa): correct but slow");
    if (m->memory_available < (int64_t)1 << 30)
        advise(d, "less than 1 GiB of memory available: use small contexts, or free some");
}

static void check_resource(doctor *d, const char *name, const char *key, int resource)
{
    struct rlimit limit;
    char text[CLI_UNIT];
    if (getrlimit(resource, &limit) != 0)
        return;
    bool none = limit.rlim_cur == RLIM_INFINITY;
    row(d, name, none ? "no limit" : cli_bytes(text, (int64_t)limit.rlim_cur));
    if (!none) {
        cli_json_int(d->object, key, (int64_t)limit.rlim_cur);
        if ((int64_t)limit.rlim_cur < fur_machine_default_memory(&d->machine)) {
            cli_string advice = {NULL, 0, 0};
            cli_appendf(&advice, "%s is %s, below the default of --memory: give a --memory below it, or raise it", name,
                        cli_bytes(text, (int64_t)limit.rlim_cur));
            advise(d, advice.text);
            cli_string_clear(&advice);
        }
    }
}

/* The limit in a file of a control group; -1 where there is none. */
static int64_t group_limit(const char *path)
{
    FILE *file = fopen(path, "rb");
    char line[64] = "";
    if (file == NULL)
        return -1;
    bool read = fgets(line, sizeof line, file) != NULL;
    (void)fclose(file);
    if (!read || line[0] < '0' || line[0] > '9')
        return -1;
    int64_t value = strtoll(line, NULL, 10);
    return value < (int64_t)1 << 60 ? value : -1; /* version 1 says "no limit" by a huge figure */
}

/* Version 2: the group's path is on the line "0::/path" of /proc/self/cgroup. */
static void check_group(doctor *d)
{
    FILE *file = fopen("/proc/self/cgroup", "rb");
    char line[512], text[CLI_UNIT];
    int64_t least = group_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "0::", 3) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        cli_string path = {NULL, 0, 0};
        cli_appendf(&path, "/sys/fs/cgroup%s/memory.max", line + 3);
        int64_t value = group_limit(path.text);
        least = value >= 0 && (least < 0 || value < least) ? value : least;
        cli_string_clear(&path);
    }
    if (file != NULL)
        (void)fclose(file);
    row(d, "control group's memory", least >= 0 ? cli_bytes(text, least) : "no limit");
    if (least >= 0)
        cli_json_int(d->object, "cgroup_memory", least);
}

static void check_disk(doctor *d)
{
    struct statvfs disk;
    char text[CLI_UNIT];
    if (statvfs(".", &disk) != 0) {
        row(d, "disk here", strerror(errno));
        return;
    }
    int64_t bytes = (int64_t)disk.f_bavail * (int64_t)disk.f_frsize;
    row(d, "disk here", cli_bytes(text, bytes));
    cli_json_int(d->object, "disk_bytes", bytes);
    if (bytes < (int64_t)1 << 30)
        advise(d, "less than 1 GiB of disk here: a checkpoint of a large model does not fit");
}

/* ---- a small gradient --------------------------------------------------------------------------------------- */

#define CHECK_TOKENS 96
#define CHECK_POINTS 4

/* Loss after a move of every weight by `distance` along its saved gradient. */
static fur_status moved_loss(fur_run *run, fur_model *model, const fur_row *row_of, float *const *saved,
                             float *const *direction, double distance, double *loss)
{
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info tensor;
        fur_model_parameter(model, i, &tensor);
        for (int64_t j = 0; j < tensor.count; j++)
            tensor.data[j] = saved[i][j] + (float)(distance * (double)direction[i][j]);
    }
    return fur_model_loss(run, row_of, NULL, loss, NULL);
}

/* Along the gradient g the loss changes by |g|^2 per unit of distance: four-point central difference against that. */
static fur_status compare(fur_run *run, fur_model *model, const fur_row *row_of, double *relative)
{
    static const double at[CHECK_POINTS] = {-2.0, -1.0, 1.0, 2.0};
    static const double weight[CHECK_POINTS] = {1.0 / 12.0, -8.0 / 12.0, 8.0 / 12.0, -1.0 / 12.0};
    int64_t count = fur_model_parameters(model);
    float **saved = cli_resize(NULL, (size_t)count, sizeof *saved);
    float **direction = cli_resize(NULL, (size_t)count, sizeof *direction);
    double loss, square = 0.0, slope = 0.0;
    fur_model_zero_gradients(model);
    fur_status status = fur_model_loss_and_gradient(run, row_of, NULL, 1.0, &loss, NULL);
    for (int64_t i = 0; i < count; i++) {
        fur_parameter_info tensor;
        fur_model_parameter(model, i, &tensor);
        size_t bytes = (size_t)tensor.count * sizeof(float);
        saved[i] = memcpy(cli_resize(NULL, bytes, 1), tensor.data, bytes);
        direction[i] = cli_resize(NULL, bytes, 1);
        memset(direction[i], 0, bytes);
        if (status == FUR_OK)
            memcpy(direction[i], tensor.gradient, bytes);
        for (int64_t j = 0; j < tensor.count; j++)
            square += (double)direction[i][j] * (double)direction[i][j];
    }
    /* a step of norm 0.01: the loss then changes by about |g| / 100, far above the rounding of f32 in a mean of a
     * hundred terms of size 5 (about 1e-6), while the error of the difference falls with the fourth power of it */
    double unit = square > 0.0 ? 0.01 / sqrt(square) : 0.0;
    for (int k = 0; k < CHECK_POINTS && status == FUR_OK; k++) {
        status = moved_loss(run, model, row_of, saved, direction, at[k] * unit, &loss);
        slope += weight[k] * loss / unit;
    }
    *relative = square > 0.0 ? fabs(slope - square) / square : 1.0;
    for (int64_t i = 0; i < count; i++) {
        cli_free(saved[i]);
        cli_free(direction[i]);
    }
    cli_free(saved);
    cli_free(direction);
    return status;
}

static fur_status check_gradient(doctor *d, double *relative)
{
    fur_context *context = d->session->context;
    fur_model_config config;
    fur_plan_request request;
    fur_plan plan;
    fur_model *model = NULL;
    fur_run *run = NULL;
    int32_t ids[CHECK_TOKENS], targets[CHECK_TOKENS];
    int64_t offsets[] = {0, CHECK_TOKENS / 3, CHECK_TOKENS};
    for (int i = 0; i < CHECK_TOKENS; i++) {
        ids[i] = (i * 37 + i * i) % 251;
        targets[i] = (i * 53 + 7) % 256;
    }
    fur_row row_of = {.documents = 2, .offsets = offsets, .ids_T = ids, .target_T = targets};
    fur_status status = fur_config_preset(context, "bytes-1m", 0, &config);
    config.layers = 2;
    config.init_std = 0.1; /* larger than for training, so that attention is not uniform */
    fur_plan_request_defaults(&request);
    request.row_tokens = CHECK_TOKENS;
    if (status == FUR_OK)
        status = fur_plan_make(context, &config, &request, &plan);
    if (status == FUR_OK)
        status = fur_model_create(context, &config, 1, &model);
    if (status == FUR_OK)
        status = fur_run_create(context, model, &plan, &request, &run);
    if (status == FUR_OK)
        status = compare(run, model, &row_of, relative);
    if (run != NULL)
        fur_run_destroy(run);
    if (model != NULL)
        fur_model_destroy(model);
    return status;
}

int verb_doctor(cli_session *session)
{
    doctor d = {.session = session};
    double relative = 1.0;
    char text[160];
    int code = cli_session_open(session);
    if (code != CLI_OK)
        return code;
    fur_status status = fur_machine_read(session->context, &d.machine);
    if (status != FUR_OK)
        return cli_fail(session, status);
    d.object = json_object();
    d.advice = json_array();
    cli_table_init(&d.table, "ll", "", "");
    check_machine(&d);
    check_resource(&d, "limit of address space", "rlimit_as", RLIMIT_AS);
    check_resource(&d, "limit of data", "rlimit_data", RLIMIT_DATA);
    check_group(&d);
    check_disk(&d);
    status = check_gradient(&d, &relative);
    /* sums of f32 in a gradient of this size agree with differences to about 1e-4; a wrong term is off by far more */
    bool good = status == FUR_OK && relative < 1e-2;
    (void)snprintf(text, sizeof text, "%s: differs from finite differences by %.2g of its size",
                   good ? "right" : "WRONG", relative);
    row(&d, "a small gradient", status == FUR_OK ? text : fur_context_error(session->context));
    cli_json_bool(d.object, "gradient_ok", good);
    cli_json_real(d.object, "gradient_difference", relative);
    if (session->options->json) {
        (void)json_object_set(d.object, "advice", d.advice);
        cli_json_print(stdout, json_incref(d.object));
    } else {
        cli_table_print(&d.table, stdout, &session->out);
        for (size_t i = 0; i < json_array_size(d.advice); i++)
            printf("advice: %s\n", json_string_value(json_array_get(d.advice, i)));
    }
    cli_table_clear(&d.table);
    json_decref(d.advice);
    json_decref(d.object);
    return good ? CLI_OK : cli_refuse(session, CLI_FAILED, "the gradient check failed");
}
