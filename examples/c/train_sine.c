/* SPDX-License-Identifier: Apache-2.0 */
/* The library from a program of one's own: a small transformer learns to predict the next value of a wave. Shows the
 * order of things (context, config, plan, model, run), how errors are told, and that the optimizer may be yours: the
 * library gives the gradients of every parameter and leaves the step to the caller. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <furlong/furlong.h>

enum { TOKENS = 256, STEPS = 60 };

/* Prints what went wrong, and where the library says so. */
static int failed(const fur_context *context, const char *doing, fur_status status)
{
    fprintf(stderr, "%s: %s: %s\n", doing, fur_status_name(status), fur_context_error(context));
    return EXIT_FAILURE;
}

/* x_t is the wave now, target_t the wave one position later; another phase for each step. */
static void make_wave(int step, float *x_TI, float *target_TO)
{
    for (int t = 0; t < TOKENS; t++) {
        double now = 0.13 * t + 0.7 * step, next = now + 0.13;
        x_TI[t] = (float)(0.6 * sin(now) + 0.4 * sin(2.3 * now));
        target_TO[t] = (float)(0.6 * sin(next) + 0.4 * sin(2.3 * next));
    }
}

/* One step of gradient descent with the sign of each gradient: crude, short, and enough here. */
static void take_step(fur_model *model, double lr)
{
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info p;
        fur_model_parameter(model, i, &p);
        for (int64_t j = 0; j < p.count; j++) {
            double g = p.gradient[j];
            p.data[j] -= (float)(g > 0 ? lr : g < 0 ? -lr : 0);
        }
    }
    fur_model_zero_gradients(model);
}

static fur_status train(fur_model *model, fur_run *run, double *first, double *last)
{
    static float x_TI[TOKENS], target_TO[TOKENS];
    const int64_t offsets[2] = {0, TOKENS};
    const fur_row row = {.documents = 1, .offsets = offsets, .x_TI = x_TI, .target_TO = target_TO};
    for (int step = 0; step < STEPS; step++) {
        make_wave(step, x_TI, target_TO);
        fur_status status = fur_model_loss_and_gradient(run, &row, NULL, 1.0, last, NULL);
        if (status != FUR_OK)
            return status;
        if (step == 0)
            *first = *last;
        take_step(model, 2e-3 * (STEPS - step) / STEPS);
    }
    return FUR_OK;
}

int main(void)
{
    fur_context_settings settings;
    fur_context_settings_defaults(&settings);
    fur_context *context = NULL;
    char text[512];
    fur_status status = fur_context_create(&settings, &context, text, sizeof text);
    if (status != FUR_OK) {
        fprintf(stderr, "context: %s: %s\n", fur_status_name(status), text);
        return EXIT_FAILURE;
    }

    fur_model_config config;
    status = fur_config_preset(context, "bytes-1m", TOKENS, &config);
    if (status != FUR_OK)
        return failed(context, "preset", status);
    fur_config_use_vectors(&config, 1, 1); /* one number in, one number out */
    config.layers = 2;

    fur_plan_request request;
    fur_plan_request_defaults(&request);
    request.row_tokens = TOKENS;
    request.memory_bytes = (int64_t)512 << 20;
    fur_plan plan;
    status = fur_plan_make(context, &config, &request, &plan);
    if (status != FUR_OK)
        return failed(context, "plan", status);
    printf("planned: %.1f MiB of %.1f\n", (double)plan.peak_bytes / 1048576, (double)request.memory_bytes / 1048576);
    if (!plan.fits)
        return EXIT_FAILURE;

    fur_model *model = NULL;
    fur_run *run = NULL;
    double first = 0, last = 0;
    status = fur_model_create(context, &config, 1, &model);
    if (status == FUR_OK)
        status = fur_run_create(context, model, &plan, &request, &run);
    if (status == FUR_OK)
        status = train(model, run, &first, &last);
    int code = status == FUR_OK ? EXIT_SUCCESS : failed(context, "training", status);
    if (code == EXIT_SUCCESS) {
        printf("loss %.4f -> %.4f in %d steps\n", first, last, STEPS);
        code = last < first / 4 ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    fur_run_destroy(run);
    fur_model_destroy(model);
    fur_context_destroy(context);
    return code;
}
