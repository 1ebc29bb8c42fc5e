/* SPDX-License-Identifier: Apache-2.0 */
/* Timing of the library's own operators. Best of several repetitions, their number stated. */
#ifndef FURLONG_BENCH_H
#define FURLONG_BENCH_H

#include "furlong/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fur_bench_result {
    int repetitions;
    double forward_seconds, backward_seconds; /* backward excludes forward */
    /* almost-linear: of the head that errs most, on sampled tokens, as in fur_head_error; NaN for exact kinds */
    double error_output, error_dq, error_dk, error_dv;
    double forward_gflops, backward_gflops; /* causal: only the visible half is counted; backward 2.5 times forward */
    double peak_gflops; /* the larger of a register-only loop and the best matrix product of this run, in the
                         * context's type */
    double register_gflops, product_gflops;
    double step_seconds;      /* step */
    double update_seconds;    /* step: of the optimizer in the fastest one, tables and all else */
    double tokens_per_second; /* step */
    double planned_seconds;   /* step */
    int64_t peak_rss_bytes, planned_peak_bytes;
    int64_t disk_bytes;                  /* step: planned */
    double decode_seconds, head_seconds; /* decode: a token, and in it the output head, of the fastest one */
    int64_t read_bytes, head_bytes;      /* decode: of the layers' maps and of the head, that a token reads */
    double multiplications;              /* decode: in the layers' maps */
} fur_bench_result;

FUR_API fur_status fur_bench_peak(fur_context *context, fur_bench_result *out);
typedef struct fur_bench_attention_settings {
    const char *kind; /* as fur_attention_kind_name; NULL: exact */
    int64_t tokens, heads, kv_heads, head_dim;
    bool bidirectional;
    int64_t window; /* exact: 0, or one not below `tokens`: none. almost-linear: tokens before the own chunk. -1: the
                       default of the kind */
    int64_t degree, chunk, max_features; /* almost-linear; 0: the default */
    double bound;
} fur_bench_attention_settings;

/* One document, in blocks of 4,096 tokens as in training, from queries, keys and values that are drawn. Flops count
 * what the kind computes: visible pairs, features. FUR_E_ARGUMENT: no such kind, or a shape that no model may have. */
FUR_API fur_status fur_bench_attention(fur_context *context, const fur_bench_attention_settings *settings,
                                       fur_bench_result *out);
FUR_API fur_status fur_bench_projection(fur_context *context, int64_t tokens, int64_t in, int64_t out_width,
                                        fur_bench_result *out);
typedef struct fur_bench_lookup_settings {
    int64_t tokens, in, out, bits;
    const char *table_type; /* f32, bf16 or int8; NULL: f32 */
    bool skewed;            /* rows around words drawn by Zipf's law; else independent numbers: codes are uniform */
    bool cold;              /* caches are emptied before each call */
} fur_bench_lookup_settings;

/* Best of `repetitions` rounds, in each of which all of these were called in turn; infinite where not called. */
typedef struct fur_bench_lookup_result {
    int repetitions;
    double hash_seconds, forward_seconds;
    double tables_seconds, input_seconds;                 /* backward; tables of f32 and more than 16 tokens */
    double dense_forward_seconds, dense_backward_seconds; /* the dense map of equal shape in f32; both its gradients */
    double dense_bf16_forward_seconds;                    /* the same with products of bf16; more than 16 tokens */
    double code_entropy;                                  /* bits, mean over tables */
    int64_t table_bytes, row_bytes;                       /* of the map; of the rows that a call reads */
    int64_t dense_bytes;                                  /* of a dense map's weights in the type of the tables */
    /* cold: plain reads of dense_bytes in one piece, and of the call's rows (one by one or eight
     * side by side, what is faster); a dense map cannot be faster than
     * dense_bytes by the first */
    double stream_bytes_per_second, random_bytes_per_second;
} fur_bench_lookup_result;

/* A lookup projection of the released score (op/lookup): up to 16 tokens in rows, as in decoding, beyond that in tiles.
 * FUR_E_SHAPE: bits do not divide `in`; FUR_E_ARGUMENT. */
FUR_API fur_status fur_bench_lookup(fur_context *context, const fur_bench_lookup_settings *settings,
                                    fur_bench_lookup_result *out);
/* Whole optimizer steps of a model on random tokens, one document of request->row_tokens, by the plan that the request
 * gets (for training). A step of 20 s or more is taken once. */
FUR_API fur_status fur_bench_step(fur_context *context, const fur_model_config *config, const fur_plan_request *request,
                                  fur_bench_result *out);

#define FUR_BENCH_MOST_PROMPT 512

typedef struct fur_bench_decode_settings {
    int64_t prompt_tokens; /* 1 .. FUR_BENCH_MOST_PROMPT */
    bool cold;             /* caches are emptied between tokens */
    int64_t memory_bytes;  /* limit; 0: none */
} fur_bench_decode_settings;
/* Tokens behind a prompt, one by one, as fur_generate decodes them, without the sampling. The model of `folder`
 * (fur_model_open), or where that is NULL one of `config` with random weights, its tables as config->table_type says,
 * in memory alone. Tokens are drawn. Errors: those of fur_generate. */
FUR_API fur_status fur_bench_decode(fur_context *context, const char *folder, const fur_model_config *config,
                                    const fur_bench_decode_settings *settings, fur_bench_result *out);

#ifdef __cplusplus
}
#endif
#endif
