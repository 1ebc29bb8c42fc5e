/* SPDX-License-Identifier: Apache-2.0 */
/* TensorBoard event files: TFRecord framing (length, masked CRC32C, data, masked CRC32C) around Event messages in
 * protocol buffer encoding, written by hand since scalars need five fields of it. Format:
 * tensorflow/core/util/event.proto, summary.proto, and core/lib/io/record_writer.h. */
#ifndef FUR_CLI_TENSORBOARD_H
#define FUR_CLI_TENSORBOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "furlong/furlong.h"

typedef struct cli_tensorboard {
    FILE *file;
    bool failed; /* a write failed: nothing more is tried, cli_tensorboard_close says so */
} cli_tensorboard;

/* Creates events.out.tfevents.TIME.HOST in `folder` with the version event. False with errno set. */
bool cli_tensorboard_open(cli_tensorboard *board, const char *folder);
/* STEP: loss/train, lr, grad_norm, tokens_per_second, memory/rss and memory/planned. EVAL: loss/held_out. */
void cli_tensorboard_event(cli_tensorboard *board, const fur_train_event *event);
bool cli_tensorboard_close(cli_tensorboard *board);

/* ---- the pieces, for tests ---------------------------------------------------------------------------------- */

uint32_t cli_crc32c(const void *bytes, size_t count);
uint32_t cli_crc32c_masked(const void *bytes, size_t count);

#define CLI_EVENT_BYTES 512
/* Event message with one scalar; returns its bytes. `tag` has at most 64 letters. */
size_t cli_event_encode(unsigned char out[CLI_EVENT_BYTES], double wall_time, int64_t step, const char *tag,
                        float value);

#endif
