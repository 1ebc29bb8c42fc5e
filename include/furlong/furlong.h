/* SPDX-License-Identifier: Apache-2.0 */
/* Furlong: trains, fits and runs transformers over long sequences inside a memory limit that you give.
 *
 * Reading order: status.h, context.h, config.h, tokenizer.h, data.h, plan.h, loss.h, model.h, train.h, chat.h,
 * choices.h, convert.h, fit.h, operators.h, bench.h.
 * Shapes are part of names: T tokens, S keys, C model width, H query heads, K key heads, D head width, F hidden width,
 * V vocabulary, L layers, I input features, O outputs. Row-major, last letter contiguous. dx_TC is the gradient of the
 * loss by x_TC. Sizes are int64_t elements unless the name says _bytes. */
#ifndef FURLONG_FURLONG_H
#define FURLONG_FURLONG_H

#include "furlong/audit.h"
#include "furlong/bench.h"
#include "furlong/chat.h"
#include "furlong/choices.h"
#include "furlong/config.h"
#include "furlong/context.h"
#include "furlong/convert.h"
#include "furlong/data.h"
#include "furlong/fit.h"
#include "furlong/loss.h"
#include "furlong/model.h"
#include "furlong/operators.h"
#include "furlong/plan.h"
#include "furlong/status.h"
#include "furlong/table_use.h"
#include "furlong/tokenizer.h"
#include "furlong/train.h"

#define FUR_VERSION_MAJOR 0
#define FUR_VERSION_MINOR 1
#define FUR_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif
/* "0.1.0 (features)"; constant. */
FUR_API const char *fur_version(void);
#ifdef __cplusplus
}
#endif
#endif
