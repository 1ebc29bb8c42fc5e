/* SPDX-License-Identifier: Apache-2.0 */
/* io/stream.h and io/spool.h: every byte once and in order, from files, compressed files and pipes. */
#include "kit/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <zstd.h>

#include "base/alloc.h"
#include "io/fault.h"
#include "io/spool.h"
#include "io/stream.h"

#define MANY 700001 /* bytes: several buffers of any kind, and no multiple of one */

static unsigned char *pattern(void)
{
    unsigned char *data = malloc(MANY);
    uint32_t state = 1;
    for (int64_t i = 0; i < MANY; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = (unsigned char)(state >> 28); /* compresses to about half */
    }
    return data;
}

/* Reads to the end in pieces and compares. */
static fur_status read_all(fur_error *error, const char *path, const unsigned char *want, int64_t bytes, int64_t piece)
{
    fur_stream *stream;
    FUR_TRY(fur_stream_open(error, path, FUR_STREAM_MAX_DECODED, &stream));
    unsigned char *got = malloc((size_t)piece);
    int64_t total = 0, count = 0;
    fur_status status;
    do {
        status = fur_stream_read(error, stream, got, piece, &count);
        if (status == FUR_OK) {
            assert_true(total + count <= bytes);
            assert_memory_equal(got, want + total, (size_t)count);
            total += count;
        }
    } while (status == FUR_OK && count == piece);
    free(got);
    fur_stream_close(stream);
    if (status == FUR_OK)
        assert_int_equal(total, bytes);
    return status;
}

static void test_files(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    unsigned char *data = pattern();
    const char *plain = kit_write(&folder, "plain", data, MANY);
    const char *packed = kit_write_zst(&folder, "plain.zst", data, MANY, 0);
    static const int64_t pieces[] = {1, 4096, 131072, MANY, MANY + 1};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        kit_expect_ok(&error, read_all(&error, plain, data, MANY, pieces[i]));
        kit_expect_ok(&error, read_all(&error, packed, data, MANY, pieces[i]));
    }
    kit_expect_ok(&error, read_all(&error, kit_write(&folder, "empty", "", 0), data, 0, 5));
    kit_expect_ok(&error, read_all(&error, kit_write_zst(&folder, "e.zst", data, 0, 0), data, 0, 5));
    /* two frames end to end are one text */
    size_t room = ZSTD_compressBound(MANY);
    char *frames = malloc(2 * room);
    size_t first = ZSTD_compress(frames, room, data, 1000, 1);
    size_t second = ZSTD_compress(frames + first, room, data + 1000, MANY - 1000, 1);
    const char *joined = kit_write(&folder, "joined.zst", frames, (int64_t)(first + second));
    kit_expect_ok(&error, read_all(&error, joined, data, MANY, 4096));
    free(frames);
    kit_expect(&error, read_all(&error, folder.path, data, 0, 5), FUR_E_IO, "Is a directory");
    kit_expect(&error, read_all(&error, kit_path(&folder, "none"), data, 0, 5), FUR_E_IO, "No such file");
    free(data);
    kit_folder_clear(&folder);
}

static void test_refused_zst(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    unsigned char *data = pattern();
    for (int64_t cut = 1; cut < 100000; cut = cut * 5 + 1)
        kit_expect(&error, read_all(&error, kit_write_zst(&folder, "a.zst", data, MANY, cut), data, MANY, 4096),
                   FUR_E_FORMAT, "a.zst: ends within a compressed frame");
    kit_expect(&error, read_all(&error, kit_write(&folder, "a.zst", "", 0), data, 0, 4096), FUR_E_FORMAT,
               "a.zst: empty, expected a zstd frame");
    kit_expect(&error, read_all(&error, kit_write(&folder, "a.zst", "plain text", -1), data, 0, 4096), FUR_E_FORMAT,
               "a.zst: zstd, near byte 10");
    /* one that holds too much */
    fur_stream *stream;
    kit_expect_ok(&error, fur_stream_open(&error, kit_write_zst(&folder, "a.zst", data, MANY, 0), 100000, &stream));
    fur_status status;
    int64_t count;
    unsigned char piece[4096];
    do
        status = fur_stream_read(&error, stream, piece, sizeof piece, &count);
    while (status == FUR_OK && count > 0);
    kit_expect(&error, status, FUR_E_FORMAT, "holds more than 100000 bytes when decompressed");
    fur_stream_close(stream);
    /* one whose window is larger than we keep: frame header with a window of 2^28 bytes */
    kit_expect(&error,
               read_all(&error, kit_write(&folder, "a.zst", "\x28\xb5\x2f\xfd\x00\x90\x01\x00\x00", 9), data, 0, 4096),
               FUR_E_FORMAT, "zstd, near byte 9: Frame requires too much memory");
    free(data);
    kit_folder_clear(&folder);
}

typedef struct read_case {
    const char *path;
    unsigned char *data;
} read_case;

static fur_status read_case_all(void *user, fur_error *error)
{
    read_case *c = user;
    return read_all(error, c->path, c->data, MANY, 4096);
}

static int truncate_at;
static int truncate_hook(void *user, fur_io_op op, const char *path)
{
    (void)user;
    if (op == FUR_IO_READ && --truncate_at == 0)
        assert_int_equal(truncate(path, 5000), 0);
    return 0;
}

/* Every other operation is interrupted by a signal before it did anything. */
static int interrupt_hook(void *user, fur_io_op op, const char *path)
{
    (void)user, (void)path, (void)op;
    return ++truncate_at % 2 ? EINTR : 0;
}

static int read_error_hook(void *user, fur_io_op op, const char *path)
{
    (void)user, (void)path;
    return op == FUR_IO_READ && --truncate_at == 0 ? EIO : 0;
}

static void test_faults(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    unsigned char *data = pattern();
    read_case c = {.path = kit_write_zst(&folder, "a.zst", data, MANY, 0), .data = data};
    assert_true(kit_each_allocation_fails(read_case_all, &c) >= 4);
    c.path = kit_write(&folder, "a", data, MANY);
    assert_true(kit_each_allocation_fails(read_case_all, &c) >= 2);
    for (int k = 1; k < 4; k++) {
        truncate_at = k;
        fur_io_hook_set(read_error_hook, NULL);
        fur_status status = read_case_all(&c, &error);
        fur_io_hook_set(NULL, NULL);
        kit_expect(&error, status, FUR_E_IO, "/a: cannot read: Input/output error");
    }
    truncate_at = 0;
    fur_stream *stream;
    kit_expect_ok(&error, fur_stream_open(&error, c.path, FUR_STREAM_MAX_DECODED, &stream));
    fur_io_hook_set(interrupt_hook, NULL);
    unsigned char piece[1000];
    int64_t count;
    fur_status status = fur_stream_read(&error, stream, piece, sizeof piece, &count);
    fur_io_hook_set(NULL, NULL);
    kit_expect_ok(&error, status);
    assert_true(count == 1000 && memcmp(piece, data, 1000) == 0 && truncate_at == 2);
    fur_stream_close(stream);
    truncate_at = 100; /* 4,096 bytes each: the file loses its end while it is read */
    fur_io_hook_set(truncate_hook, NULL);
    status = read_case_all(&c, &error);
    fur_io_hook_set(NULL, NULL);
    kit_expect(&error, status, FUR_E_IO, "/a: the file became shorter while it was read: 700001 bytes at opening");
    free(data);
    kit_folder_clear(&folder);
}

static void test_pipe(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    unsigned char *data = pattern();
    const char *path = kit_path(&folder, "pipe");
    assert_int_equal(mkfifo(path, 0600), 0);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(path, O_WRONLY);
        for (int64_t at = 0; at < MANY;) {
            ssize_t put = write(fd, data + at, (size_t)(MANY - at < 10007 ? MANY - at : 10007));
            if (put <= 0)
                _exit(1);
            at += put;
        }
        _exit(0);
    }
    kit_expect_ok(&error, read_all(&error, path, data, MANY, 65536));
    int ended;
    waitpid(child, &ended, 0);
    assert_int_equal(ended, 0);
    /* standard input */
    int kept = dup(STDIN_FILENO);
    int fd = open(kit_write(&folder, "in", data, 5000), O_RDONLY);
    assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
    kit_expect_ok(&error, read_all(&error, "-", data, 5000, 4096));
    dup2(kept, STDIN_FILENO);
    close(kept);
    close(fd);
    free(data);
    kit_folder_clear(&folder);
}

/* ---- lines ---------------------------------------------------------------------------------------------------- */

static void expect_lines(const char *path, int64_t max_bytes, const char *const *want, int count)
{
    fur_error error = {0};
    fur_stream *stream;
    fur_lines *lines;
    kit_expect_ok(&error, fur_stream_open(&error, path, FUR_STREAM_MAX_DECODED, &stream));
    kit_expect_ok(&error, fur_lines_open(&error, stream, max_bytes, &lines));
    fur_line line;
    for (int i = 0; i < count; i++) {
        kit_expect_ok(&error, fur_lines_next(&error, lines, &line));
        assert_non_null(line.text);
        assert_int_equal(line.number, i + 1);
        assert_int_equal(line.too_long, want[i] == NULL);
        const char *text = want[i] ? want[i] : "";
        assert_int_equal(line.bytes, strlen(text));
        assert_memory_equal(line.text, text, strlen(text));
    }
    for (int i = 0; i < 2; i++) {
        kit_expect_ok(&error, fur_lines_next(&error, lines, &line));
        assert_null(line.text);
    }
    fur_lines_close(lines);
    fur_stream_close(stream);
}

static void test_lines(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    expect_lines(kit_write(&folder, "a", "", 0), 9, NULL, 0);
    expect_lines(kit_write(&folder, "a", "\n", -1), 9, (const char *[]){""}, 1);
    expect_lines(kit_write(&folder, "a", "one\n\ntwo\r\nlast", -1), 9, (const char *[]){"one", "", "two\r", "last"}, 4);
    expect_lines(kit_write(&folder, "a", "123\n1234\n12345\n\n123456789", -1), 4,
                 (const char *[]){"123", "1234", NULL, "", NULL}, 5);
    /* lengths around the buffer's */
    for (int64_t length = 65534; length <= 65538; length++) {
        char *text = malloc((size_t)length + 3);
        memset(text, 'x', (size_t)length + 2);
        text[length] = '\n';
        text[length + 1] = 'y';
        text[length + 2] = 0;
        const char *path = kit_write(&folder, "a", text, length + 2);
        text[length] = 0;
        expect_lines(path, length, (const char *[]){text, "y"}, 2);
        expect_lines(path, length - 1, (const char *[]){NULL, "y"}, 2);
        expect_lines(path, 10, (const char *[]){NULL, "y"}, 2);
        free(text);
    }
    /* a line longer than many buffers */
    char *text = malloc(5000001);
    memset(text, 'x', 5000000);
    text[5000000] = 0;
    const char *path = kit_write(&folder, "a", text, 5000000);
    expect_lines(path, 5000000, (const char *[]){text}, 1);
    expect_lines(path, 4999999, (const char *[]){NULL}, 1);
    free(text);
    kit_folder_clear(&folder);
}

static fur_status read_long_line(void *user, fur_error *error)
{
    fur_stream *stream;
    fur_lines *lines;
    fur_line line;
    FUR_TRY(fur_stream_open(error, user, FUR_STREAM_MAX_DECODED, &stream));
    fur_status status = fur_lines_open(error, stream, 1 << 20, &lines);
    if (status == FUR_OK) {
        status = fur_lines_next(error, lines, &line);
        fur_lines_close(lines);
    }
    fur_stream_close(stream);
    return status;
}

static void test_line_faults(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    char path[600];
    unsigned char *data = pattern();
    for (int64_t i = 0; i < MANY; i++)
        data[i] = (unsigned char)(data[i] == '\n' ? ' ' : data[i]);
    snprintf(path, sizeof path, "%s", kit_write(&folder, "a", data, MANY));
    assert_true(kit_each_allocation_fails(read_long_line, path) >= 7);
    fur_lines_close(NULL);
    fur_stream_close(NULL);
    free(data);
    kit_folder_clear(&folder);
}

/* ---- spool ---------------------------------------------------------------------------------------------------- */

typedef struct spool_case {
    int64_t ram_limit;
    unsigned char *data;
} spool_case;

static fur_status fill_spool(void *user, fur_error *error)
{
    spool_case *c = user;
    fur_spool *spool;
    FUR_TRY(fur_spool_create(error, c->ram_limit, &spool));
    fur_status status = FUR_OK;
    int64_t at = 0;
    for (int64_t piece = 1; at < MANY && status == FUR_OK; piece = piece * 5 % 300007 + 1) {
        int64_t now = at > 1000 && at < 100000 ? 300000 : piece; /* one larger than what it gathers */
        now = now < MANY - at ? now : MANY - at;
        status = fur_spool_append(error, spool, c->data + at, now);
        at += now;
    }
    if (status == FUR_OK) {
        assert_int_equal(fur_spool_bytes(spool), MANY);
        assert_true(fur_spool_ram_bytes(spool) <= (c->ram_limit > 262144 ? c->ram_limit : 262144) + 4096);
    }
    unsigned char *got = malloc(MANY);
    for (int64_t first = 0; first < MANY && status == FUR_OK; first = first * 2 + 1)
        for (int64_t count = 1; count <= MANY - first && status == FUR_OK; count = count * 17 + 3) {
            status = fur_spool_read(error, spool, first, got, count);
            if (status == FUR_OK)
                assert_memory_equal(got, c->data + first, (size_t)count);
        }
    free(got);
    fur_spool_destroy(spool);
    return status;
}

static void test_spool(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    char *kept = getenv("TMPDIR");
    kept = kept ? strdup(kept) : NULL;
    setenv("TMPDIR", folder.path, 1);
    spool_case c = {.data = pattern()};
    static const int64_t limits[] = {0, 1000, 300000, MANY - 1, MANY, 1 << 30};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        c.ram_limit = limits[i];
        kit_expect_ok(&error, fill_spool(&c, &error));
        assert_true(kit_each_allocation_fails(fill_spool, &c) >= 3);
        int64_t writes = kit_each_write_fails(fill_spool, &c, ENOSPC, NULL);
        assert_true(limits[i] >= MANY ? writes == 0 : writes >= 2);
        assert_int_equal(kit_entries(folder.path), 0); /* it never has a name for long */
    }
    c.ram_limit = 0;
    setenv("TMPDIR", kit_path(&folder, "none"), 1);
    kit_expect(&error, fill_spool(&c, &error), FUR_E_IO, "none/furlong-");
    if (kept)
        setenv("TMPDIR", kept, 1);
    else
        unsetenv("TMPDIR");
    free(kept);
    free(c.data);
    kit_folder_clear(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files), cmocka_unit_test(test_refused_zst), cmocka_unit_test(test_faults),
        cmocka_unit_test(test_pipe),  cmocka_unit_test(test_lines),       cmocka_unit_test(test_line_faults),
        cmocka_unit_test(test_spool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
