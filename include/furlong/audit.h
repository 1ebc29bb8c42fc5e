/* SPDX-License-Identifier: Apache-2.0 */
/* What almost-linear attention would cost a model, head by head, and the model with the heads that can have it. */
#ifndef FURLONG_AUDIT_H
#define FURLONG_AUDIT_H

#include "furlong/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fur_audit_settings {
    size_t struct_size;
    int64_t context_tokens; /* of a row; at most the model's context */
    int64_t max_tokens;     /* of the losses at the end, at most; 0: all */
    double max_error;       /* a head whose output is off by more stays exact */
    int64_t degree, chunk;  /* of the polynomial; tokens of a chunk */
    int64_t max_features;
    int64_t memory_bytes; /* 0: no limit */
    uint64_t seed;        /* of sampled tokens */
} fur_audit_settings;
FUR_API void fur_audit_settings_defaults(fur_audit_settings *settings);

typedef struct fur_audit_result {
    fur_head_error *errors; /* by layer and head, of all layers that are almost-linear or may become so; `exact` says
                               what becomes of it; owned: fur_audit_result_clear */
    int64_t error_count;
    bool same_row;     /* fitted and measured on one row, since the text has no more: flatters */
    double exact_loss; /* nats per token of the model as it was given */
    double mixed_loss; /* of *mixed; NaN where there is none */
    int64_t tokens;    /* that the losses count */
    int64_t planned_peak_bytes, peak_rss_bytes;
    double seconds;
} fur_audit_result;
FUR_API void fur_audit_result_clear(fur_audit_result *result);

/* Two rows of the corpus go through the model with gradients: on the first, polynomials are fitted to each head's own
 * logits, which have no bound here; on the second their error is measured on 64 sampled tokens a head. Heads whose
 * output is off by at most max_error become almost-linear in *mixed (NULL where none does, or where the model has
 * almost-linear layers, which are measured as they are); all others stay as they are, in the group that shares their
 * keys. A head whose normaliser then fails becomes exact, in *mixed or, where it has almost-linear layers with
 * far_max_error, in `model`. Cost: two training steps, then two evaluations. Errors: those of both; FUR_E_ARGUMENT
 * where no layer can be measured. The caller destroys *mixed. */
FUR_API fur_status fur_audit(fur_context *context, fur_model *model, const fur_corpus *corpus,
                             const fur_audit_settings *settings, fur_audit_result *result, fur_model **mixed);

#ifdef __cplusplus
}
#endif
#endif
