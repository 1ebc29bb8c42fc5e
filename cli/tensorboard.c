/* SPDX-License-Identifier: Apache-2.0 */
/* TensorBoard event files. */
#include "tensorboard.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "head_errors.h"
#include "text.h"

/* ---- checksum ----------------------------------------------------------------------------------------------- */

/* Castagnoli polynomial, reflected. A few hundred bytes a step: four bits at a time is fast enough. */
uint32_t cli_crc32c(const void *bytes, size_t count)
{
    static const uint32_t table[16] = {0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3,
                                       0x61C69362, 0x7198540D, 0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9,
                                       0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75};
    uint32_t crc = 0xFFFFFFFF;
    const unsigned char *at = bytes;
    for (size_t i = 0; i < count; i++) {
        crc ^= at[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

/* Rotated and offset, so that a checksum of data that holds checksums stays a good one. */
uint32_t cli_crc32c_masked(const void *bytes, size_t count)
{
    uint32_t crc = cli_crc32c(bytes, count);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* ---- protocol buffers --------------------------------------------------------------------------------------- */

/* Wire types: 0 varint, 1 eight bytes, 2 counted bytes, 5 four bytes; a key is field << 3 | type. */
static size_t put_varint(unsigned char *out, uint64_t value)
{
    size_t used = 0;
    while (value >= 0x80) {
        out[used++] = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    out[used++] = (unsigned char)value;
    return used;
}

static size_t put_fixed(unsigned char *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (unsigned char)(value >> (8 * i));
    return bytes;
}

static size_t put_bytes(unsigned char *out, unsigned field, const void *bytes, size_t count)
{
    size_t used = put_varint(out, field << 3 | 2);
    used += put_varint(out + used, count);
    memcpy(out + used, bytes, count);
    return used + count;
}

/* Event.wall_time = 1 (double), Event.step = 2 (int64) */
static size_t put_head(unsigned char *out, double wall_time, int64_t step)
{
    uint64_t bits;
    memcpy(&bits, &wall_time, sizeof bits);
    size_t used = put_varint(out, 1 << 3 | 1);
    used += put_fixed(out + used, bits, 8);
    used += put_varint(out + used, 2 << 3 | 0);
    return used + put_varint(out + used, (uint64_t)step);
}

size_t cli_event_encode(unsigned char out[CLI_EVENT_BYTES], double wall_time, int64_t step, const char *tag,
                        float value)
{
    unsigned char summary_value[128], summary[160];
    uint32_t bits;
    size_t length = strlen(tag);
    memcpy(&bits, &value, sizeof bits);
    /* Summary.Value.tag = 1 (string), simple_value = 2 (float) */
    size_t used = put_bytes(summary_value, 1, tag, length > 64 ? 64 : length);
    used += put_varint(summary_value + used, 2 << 3 | 5);
    used += put_fixed(summary_value + used, bits, 4);
    /* Summary.value = 1; Event.summary = 5 */
    size_t inner = put_bytes(summary, 1, summary_value, used);
    size_t head = put_head(out, wall_time, step);
    return head + put_bytes(out + head, 5, summary, inner);
}

/* ---- the file ----------------------------------------------------------------------------------------------- */

static void put_record(cli_tensorboard *board, const unsigned char *data, size_t count)
{
    unsigned char head[12], tail[4];
    (void)put_fixed(head, count, 8);
    (void)put_fixed(head + 8, cli_crc32c_masked(head, 8), 4);
    (void)put_fixed(tail, cli_crc32c_masked(data, count), 4);
    if (board->file == NULL || board->failed)
        return;
    board->failed = fwrite(head, 1, sizeof head, board->file) != sizeof head ||
                    fwrite(data, 1, count, board->file) != count ||
                    fwrite(tail, 1, sizeof tail, board->file) != sizeof tail;
}

static double wall_clock(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

bool cli_tensorboard_open(cli_tensorboard *board, const char *folder)
{
    static const char version[] = "brain.Event:2";
    char host[65] = "host";
    cli_string name = {NULL, 0, 0};
    unsigned char data[64];
    (void)gethostname(host, sizeof host - 1);
    double now = wall_clock();
    cli_appendf(&name, "events.out.tfevents.%" PRId64 ".%s", (int64_t)now, host);
    char *path = cli_path(folder, name.text);
    *board = (cli_tensorboard){fopen(path, "wb"), false};
    int reason = errno;
    cli_free(path);
    cli_string_clear(&name);
    errno = reason;
    if (board->file == NULL)
        return false;
    size_t used = put_head(data, now, 0);
    used += put_bytes(data + used, 3, version, sizeof version - 1); /* Event.file_version = 3 */
    put_record(board, data, used);
    return true;
}

static void put_scalar(cli_tensorboard *board, double now, int64_t step, const char *tag, double value)
{
    unsigned char data[CLI_EVENT_BYTES];
    if (isfinite(value))
        put_record(board, data, cli_event_encode(data, now, step, tag, (float)value));
}

void cli_tensorboard_event(cli_tensorboard *board, const fur_train_event *event)
{
    double now = wall_clock();
    if (board->file == NULL)
        return;
    if (event->type == FUR_EVENT_STEP) {
        put_scalar(board, now, event->step, "loss/train", event->loss);
        put_scalar(board, now, event->step, "lr", event->lr);
        put_scalar(board, now, event->step, "grad_norm", event->grad_norm);
        put_scalar(board, now, event->step, "tokens_per_second", event->tokens_per_second);
        put_scalar(board, now, event->step, "memory/rss_bytes", (double)event->rss_bytes);
        put_scalar(board, now, event->step, "memory/planned_peak_bytes", (double)event->planned_peak_bytes);
    } else if (event->type == FUR_EVENT_EVAL) {
        put_scalar(board, now, event->step, "loss/held_out", event->loss);
    }
    if (event->type == FUR_EVENT_ERRORS && event->error_count > 0) {
        cli_head_summary s = cli_head_errors_summary(event->errors, event->error_count);
        put_scalar(board, now, event->step, "attention/output_error_worst", s.worst ? s.worst->o.value : 0.0);
        put_scalar(board, now, event->step, "attention/output_error_median", s.median);
        put_scalar(board, now, event->step, "attention/dq_error_worst", s.dq);
        put_scalar(board, now, event->step, "attention/exact_heads", (double)s.exact);
    }
    if (fflush(board->file) != 0)
        board->failed = true;
}

bool cli_tensorboard_close(cli_tensorboard *board)
{
    bool good = board->file != NULL && !board->failed;
    if (board->file != NULL)
        good = fclose(board->file) == 0 && good;
    board->file = NULL;
    return good;
}
