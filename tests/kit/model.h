/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of whole models share: shapes of every family, packed rows, a context and a run in one call. */
#ifndef FUR_TESTS_KIT_MODEL_H
#define FUR_TESTS_KIT_MODEL_H

#include "furlong/furlong.h"
#include "kit/kit.h"

/* One shape, and the documents of its row (lengths end with 0). */
typedef struct kit_model_case {
    const char *name;
    fur_model_config config;
    int64_t lengths[12];
} kit_model_case;

/* Every shape that takes another path: families, tying, grouped heads, both directions, real vectors. 3 layers. */
extern const kit_model_case kit_model_cases[];
extern const int kit_model_case_count;

/* A context on FURLONG_ISA or the best; ends the program with 77 ("skipped") where the machine lacks it. Failures of
 * kit_* are failures of the test. */
fur_context *kit_context(int threads);
/* The same with products of `dtype`. */
fur_context *kit_context_of(int threads, const char *dtype);
/* Fails the test with the context's text unless OK. */
void kit_ok(fur_context *context, fur_status status);
/* The same config with `tokens` as its context where it was smaller. */
fur_model_config kit_config_for(const fur_model_config *config, int64_t tokens);
/* Weights large enough that attention is far from uniform; norms and biases off their initial values too. */
fur_model *kit_model(fur_context *context, const fur_model_config *config, uint64_t seed);

/* A row with random content: ids or vectors, and targets of which about one in eight is not counted. */
typedef struct kit_row {
    fur_row row;
    int64_t tokens;
    int64_t offsets[16];
    int32_t *ids, *targets;
    float *x, *target_values;
} kit_row;
/* lengths end with 0; scaled: each multiplied by it. */
void kit_row_create(const fur_model_config *config, const int64_t *lengths, int64_t scaled, uint64_t seed,
                    kit_row *out);
void kit_row_destroy(kit_row *row);

/* A run for training of the row, unlimited memory. */
typedef struct kit_run {
    fur_context *context;
    fur_model *model;
    fur_plan_request request;
    fur_plan plan;
    fur_run *run;
} kit_run;
void kit_run_create(fur_context *context, fur_model *model, const kit_row *row, int64_t superblock, fur_keep keep,
                    kit_run *out);
/* The same with layer inputs, attention outputs if kept, and keys but for one head's on disk in `folder`; NULL: in
 * memory.
 */
void kit_run_create_in(fur_context *context, fur_model *model, const kit_row *row, int64_t superblock, fur_keep keep,
                       const char *folder, kit_run *out);
void kit_run_destroy(kit_run *run);

/* Loss and gradient in new arrays: all parameters one after the other, and dx. */
typedef struct kit_gradient {
    double loss;
    int64_t count, dx_count;
    float *all, *dx;
} kit_gradient;
void kit_gradient_create(kit_run *run, const kit_row *row, const fur_loss *loss, double weight, kit_gradient *out);
void kit_gradient_destroy(kit_gradient *gradient);

/* ||got - want|| / ||scale||, in the Euclidean norm; 0 / 0 is 0. */
double kit_relative_error(int64_t count, const float *got, const double *want, const double *scale);
double kit_relative_error_f64(int64_t count, const double *got, const double *want, const double *scale);

#endif
