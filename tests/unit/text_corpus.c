/* SPDX-License-Identifier: Apache-2.0 */
/* The corpus: what the files hold is what it gives, wherever it is kept; what they do not hold is refused by name. */
#include "kit/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/context.h"
#include "io/fault.h"
#include "io/folder.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

typedef struct open_case {
    fur_corpus_settings settings;
    const char *paths[4];
    fur_corpus_limits limits;
    fur_corpus *corpus;
} open_case;

static open_case with_paths(const char *first, const char *second)
{
    open_case c = {.limits = FUR_CORPUS_LIMITS, .paths = {first, second}};
    fur_corpus_settings_defaults(&c.settings);
    c.settings.path_count = second ? 2 : 1;
    return c;
}

/* Opens into c->corpus. */
static fur_status open_corpus(open_case *c, fur_error *error)
{
    fur_tokenizer *tokenizer;
    c->settings.paths = c->paths;
    FUR_TRY(fur_tokenizer_make(error, "bytes", &tokenizer));
    fur_status status = fur_corpus_make(error, &c->settings, tokenizer, c->limits, &c->corpus);
    fur_tokenizer_close(tokenizer);
    return status;
}

static fur_status open_and_close(void *user, fur_error *error)
{
    open_case *c = user;
    FUR_TRY(open_corpus(c, error));
    fur_corpus_close(c->corpus);
    return FUR_OK;
}

static void expect_refused(open_case c, fur_status status, const char *part)
{
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    kit_expect(&error, open_corpus(&c, &error), status, part);
    assert_int_equal(fur_alloc_live(), live);
}

/* The document holds exactly these bytes. */
static void expect_document(const fur_corpus *corpus, int64_t document, const void *bytes, int64_t count)
{
    fur_error error = {0};
    assert_int_equal(fur_corpus_document_tokens(corpus, document), count);
    int32_t *ids = malloc((size_t)(count + 1) * sizeof *ids);
    kit_expect_ok(&error, fur_corpus_ids(&error, corpus, document, 0, count, ids));
    for (int64_t i = 0; i < count; i++)
        assert_int_equal(ids[i], ((const unsigned char *)bytes)[i]);
    free(ids);
}

static void expect_text(const fur_corpus *corpus, int64_t document, const char *text)
{
    expect_document(corpus, document, text, (int64_t)strlen(text));
}

/* ---- text ----------------------------------------------------------------------------------------------------- */

static void test_text(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    open_case c = with_paths(kit_write(&folder, "a.txt", "all\r\nbytes \0\xff kept", 18), NULL);
    kit_expect_ok(&error, open_corpus(&c, &error));
    expect_document(c.corpus, 0, "all\r\nbytes \0\xff kept", 18);
    fur_corpus_info info;
    fur_corpus_info_read(c.corpus, &info);
    assert_true(info.documents == 1 && info.tokens == 18 && info.features == 0 && info.vocabulary == 256);
    assert_true(info.skipped_lines == 0 && info.empty_documents == 0 && info.bytes_held < 1000);
    int32_t ids[18];
    kit_expect_ok(&error, fur_corpus_ids(&error, c.corpus, 0, 3, 2, ids));
    assert_true(ids[0] == '\r' && ids[1] == '\n');
    kit_expect_ok(&error, fur_corpus_ids(&error, c.corpus, 0, 18, 0, ids));
    kit_expect(&error, fur_corpus_ids(&error, c.corpus, 0, 17, 2, ids), FUR_E_ARGUMENT,
               "2 positions from 17 on of document 0, which has 18");
    kit_expect(&error, fur_corpus_ids(&error, c.corpus, 0, -1, 2, ids), FUR_E_ARGUMENT, "2 positions from -1");
    kit_expect(&error, fur_corpus_ids(&error, c.corpus, 0, 2, -1, ids), FUR_E_ARGUMENT, "-1 positions from 2");
    kit_expect(&error, fur_corpus_ids(&error, c.corpus, 0, INT64_MAX, 1, ids), FUR_E_ARGUMENT, "of document 0");
    kit_expect(&error, fur_corpus_ids(&error, c.corpus, 1, 0, 1, ids), FUR_E_ARGUMENT, "document 1, expected 0 to 0");
    kit_expect(&error, fur_corpus_vectors(&error, c.corpus, 0, 0, 1, NULL), FUR_E_ARGUMENT,
               "holds token ids, expected real vectors");
    assert_int_equal(fur_corpus_document_tokens(c.corpus, 1), -1);
    assert_int_equal(fur_corpus_document_tokens(c.corpus, -1), -1);
    fur_corpus_close(c.corpus);
    fur_corpus_close(NULL);
    kit_folder_clear(&folder);
}

static void test_folder(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    kit_expect_ok(&error, fur_folder_create(&error, kit_path(&folder, "data/sub")));
    kit_write(&folder, "data/b.txt", "second", -1);
    kit_write(&folder, "data/a.jsonl", "{\"text\": \"first\"}\n{\"text\": \"\"}\n", -1);
    kit_write(&folder, "data/.hidden", "never", -1);
    kit_write(&folder, "data/empty", "", 0);
    kit_write_zst(&folder, "data/sub/c.txt.zst", "third", 5, 0);
    assert_int_equal(symlink("..", kit_path(&folder, "data/sub/loop")), 0);
    kit_write(&folder, "last", "fourth", -1);
    open_case c = with_paths(kit_path(&folder, "data"), kit_path(&folder, "last"));
    kit_expect_ok(&error, open_corpus(&c, &error));
    assert_int_equal(c.corpus->info.documents, 4);
    assert_int_equal(c.corpus->info.empty_documents, 2);
    expect_text(c.corpus, 0, "first");
    expect_text(c.corpus, 1, "second");
    expect_text(c.corpus, 2, "third");
    expect_text(c.corpus, 3, "fourth");
    fur_corpus_close(c.corpus);
    assert_true(kit_each_allocation_fails(open_and_close, &c) > 40);
    kit_folder_clear(&folder);
}

static void test_refused_paths(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    expect_refused(with_paths(kit_path(&folder, "none"), NULL), FUR_E_IO, "none: cannot open: No such file");
    expect_refused(with_paths(kit_write(&folder, "a", "", 0), NULL), FUR_E_FORMAT, "/a: empty, expected at least one");
    expect_refused(with_paths(kit_write(&folder, "a.jsonl", "\n \n", -1), NULL), FUR_E_FORMAT, "/a.jsonl: empty");
    mkdir(kit_path(&folder, "sub"), 0700);
    expect_refused(with_paths(kit_path(&folder, "sub"), NULL), FUR_E_FORMAT, "/sub: no files in it");
    assert_int_equal(symlink("self", kit_path(&folder, "self")), 0);
    expect_refused(with_paths(kit_path(&folder, "self"), NULL), FUR_E_IO, "Too many levels of symbolic links");
    open_case c = with_paths("a", NULL);
    c.settings.path_count = 0;
    expect_refused(c, FUR_E_ARGUMENT, "no input files");
    c = with_paths("a", NULL);
    c.settings.vocabulary = -1;
    expect_refused(c, FUR_E_ARGUMENT, "vocabulary -1");
    c.settings.struct_size = 3;
    expect_refused(c, FUR_E_ARGUMENT, "corpus settings of 3 bytes");
    c = with_paths(kit_write(&folder, "a", "abc\xc8", -1), NULL);
    c.settings.vocabulary = 128;
    expect_refused(c, FUR_E_FORMAT, "/a: token id 200 at position 3, expected 0 to 127");
    kit_folder_clear(&folder);
}

static int truncate_at;
static int truncate_hook(void *user, fur_io_op op, const char *path)
{
    (void)user;
    if (op == FUR_IO_READ && --truncate_at == 0)
        assert_int_equal(truncate(path, 100), 0);
    return 0;
}

static void test_truncated_while_read(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    static const char *const names[] = {"a.txt", "a.jsonl"};
    char *text = malloc(300000);
    memset(text, ' ', 300000);
    for (int i = 0; i < 2; i++) {
        open_case c = with_paths(kit_write(&folder, names[i], text, 300000), NULL);
        truncate_at = 3;
        fur_io_hook_set(truncate_hook, NULL);
        expect_refused(c, FUR_E_IO, "the file became shorter while it was read: 300000 bytes at opening, now");
        fur_io_hook_set(NULL, NULL);
    }
    free(text);
    kit_folder_clear(&folder);
}

/* ---- JSONL ---------------------------------------------------------------------------------------------------- */

static void test_jsonl(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    open_case c = with_paths(kit_write(&folder, "a.jsonl",
                                       "{\"text\": \"one\", \"id\": 1, \"meta\": {\"x\": [1, 2]}}\r\n"
                                       "\n   \r\n"
                                       "{\"text\": \"t\\u0000w\\n\\u00f6 \\ud83d\\ude00\"}\n"
                                       "{\"text\": \"\"}\n"
                                       "{\"text\": \"last\"}",
                                       -1),
                             NULL);
    kit_expect_ok(&error, open_corpus(&c, &error));
    assert_int_equal(c.corpus->info.documents, 3);
    assert_int_equal(c.corpus->info.empty_documents, 1);
    expect_text(c.corpus, 0, "one");
    expect_document(c.corpus, 1, "t\0w\n\xc3\xb6 \xf0\x9f\x98\x80", 11);
    expect_text(c.corpus, 2, "last");
    fur_corpus_close(c.corpus);
    assert_true(kit_each_allocation_fails(open_and_close, &c) > 40);
    kit_folder_clear(&folder);
}

static void test_bad_lines(void **state)
{
    (void)state;
    static const struct {
        const char *line, *part;
    } cases[] = {
        {"nonsense", "/a.jsonl:3: line 1, column"},
        {"{\"text\": \"cut", "/a.jsonl:3: line 1, column"},
        {"{\"text\": \"a\"} {\"text\": \"b\"}", "/a.jsonl:3: line 1, column 15: not valid JSON: end of file expected"},
        {"{\"text\": \"a\", \"text\": \"b\"}", "/a.jsonl:3: line 1, column 20: not valid JSON: duplicate object key"},
        {"{\"text\": \"\xff\"}", "/a.jsonl:3: line 1"},
        {"{\"text\": \"\\ud800\"}", "/a.jsonl:3: line 1"},
        {"[\"text\"]", "/a.jsonl:3: expected a JSON object with \"text\""},
        {"17", "/a.jsonl:3: expected a JSON object with \"text\""},
        {"{}", "/a.jsonl:3: \"text\" is missing, expected a string"},
        {"{\"text\": 1}", "/a.jsonl:3: \"text\" is not a string"},
        {"{\"text\": null}", "/a.jsonl:3: \"text\" is not a string"},
        {"{\"text\": [\"a\"]}", "/a.jsonl:3: \"text\" is not a string"},
        {"{\"text\": \"a\", \"messages\": []}", "/a.jsonl:3: \"messages\" beside \"text\""},
        {"{\"text\": \"a\", \"completion\": \"b\"}", "/a.jsonl:3: \"completion\" beside \"text\""},
        {"{\"messages\": []}", "/a.jsonl:3: \"messages\", and the tokenizer has no chat template"},
        {"{\"prompt\": \"a\"}", "/a.jsonl:3: \"completion\" is missing, expected a string"},
        {"{\"completion\": \"a\"}", "/a.jsonl:3: \"prompt\" is missing, expected a string"},
        {"{\"prompt\": 3, \"completion\": \"b\"}", "/a.jsonl:3: \"prompt\" is not a string"},
        {"{\"prompt\": \"a\", \"completion\": \"\"}", "/a.jsonl:3: \"completion\" is empty"},
        {"\xef\xbb\xbf{\"text\": \"a\"}", "/a.jsonl:3: starts with a byte order mark"},
        {"{\"text\": \"a\", \"x\": "
         "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"
         "]]]]]]]]]]]]]}",
         "nested deeper than 64"},
    };
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[600];
        snprintf(text, sizeof text, "{\"text\": \"one\"}\n\n%s\n{\"text\": \"four\"}\n", cases[i].line);
        open_case c = with_paths(kit_write(&folder, "a.jsonl", text, -1), NULL);
        expect_refused(c, FUR_E_FORMAT, cases[i].part);
        c.settings.skip_bad = true;
        kit_expect_ok(&error, open_corpus(&c, &error));
        assert_int_equal(c.corpus->info.skipped_lines, 1);
        assert_int_equal(c.corpus->info.documents, 2);
        expect_text(c.corpus, 0, "one");
        expect_text(c.corpus, 1, "four");
        fur_corpus_close(c.corpus);
    }
    open_case c = with_paths(kit_write(&folder, "a.jsonl", "x\ny\n", -1), NULL);
    c.settings.skip_bad = true;
    expect_refused(c, FUR_E_FORMAT, "no documents: 2 lines skipped");
    /* longer than a line may be */
    c = with_paths(
        kit_write(&folder, "a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"longer\"}\n{\"text\": \"two\"}\n", -1), NULL);
    c.limits.line_bytes = 15;
    expect_refused(c, FUR_E_FORMAT, "/a.jsonl:2: line of more than 15 bytes");
    c.settings.skip_bad = true;
    kit_expect_ok(&error, open_corpus(&c, &error));
    assert_true(c.corpus->info.skipped_lines == 1 && c.corpus->info.documents == 2);
    fur_corpus_close(c.corpus);
    /* skipping is for lines, not for a file that cannot be read */
    c = with_paths(kit_write_zst(&folder, "a.jsonl.zst", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n", 32, 3), NULL);
    c.settings.skip_bad = true;
    expect_refused(c, FUR_E_FORMAT, "a.jsonl.zst: ends within a compressed frame");
    kit_folder_clear(&folder);
}

/* ---- npy ------------------------------------------------------------------------------------------------------ */

static const char *write_ids(const kit_folder *folder, const char *name, const int32_t *ids, int count)
{
    char header[96];
    snprintf(header, sizeof header, "{'descr': '<i4', 'fortran_order': False, 'shape': (%d,), }\n", count);
    return kit_write_npy(folder, name, header, ids, 4 * (int64_t)count);
}

static void expect_ids(const fur_corpus *corpus, int64_t document, const int32_t *want, int count)
{
    fur_error error = {0};
    int32_t got[16];
    assert_int_equal(fur_corpus_document_tokens(corpus, document), count);
    kit_expect_ok(&error, fur_corpus_ids(&error, corpus, document, 0, count, got));
    assert_memory_equal(got, want, (size_t)count * sizeof *got);
}

static void test_npy_ids(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    static const int32_t small[] = {0, 255, 7}, middle[] = {65535, 1, 256}, large[] = {2147483647, 65536, 3};
    open_case c = with_paths(write_ids(&folder, "a.npy", small, 3), NULL);
    kit_expect_ok(&error, open_corpus(&c, &error));
    assert_int_equal(c.corpus->info.vocabulary, 256);
    assert_int_equal(c.corpus->element_bytes, 1);
    fur_corpus_close(c.corpus);
    /* each file needs wider ids than the one before: all stay what they were, in RAM and on disk */
    for (int64_t limit = 0; limit <= 100; limit += 100) {
        c = with_paths(kit_path(&folder, "a.npy"), write_ids(&folder, "b.npy", middle, 3));
        c.limits.ram_bytes = limit;
        kit_expect_ok(&error, open_corpus(&c, &error));
        assert_int_equal(c.corpus->info.vocabulary, 65536);
        assert_int_equal(c.corpus->element_bytes, 2);
        fur_corpus_close(c.corpus);
        c.paths[2] = write_ids(&folder, "c.npy", large, 3);
        c.settings.path_count = 3;
        kit_expect_ok(&error, open_corpus(&c, &error));
        assert_true(c.corpus->info.vocabulary == (int64_t)1 << 31);
        assert_int_equal(c.corpus->element_bytes, 4);
        expect_ids(c.corpus, 0, small, 3);
        expect_ids(c.corpus, 1, middle, 3);
        expect_ids(c.corpus, 2, large, 3);
        fur_corpus_close(c.corpus);
        assert_true(kit_each_allocation_fails(open_and_close, &c) > 20);
        assert_true((kit_each_write_fails(open_and_close, &c, ENOSPC, NULL) > 0) == (limit == 0));
    }
    c.settings.vocabulary = 50257;
    expect_refused(c, FUR_E_FORMAT, "b.npy: token id 65535 at position 0, expected 0 to 50256");
    /* text beside ids must share one vocabulary */
    c = with_paths(kit_path(&folder, "a.npy"), kit_write(&folder, "t", "text", -1));
    kit_expect_ok(&error, open_corpus(&c, &error));
    assert_int_equal(c.corpus->info.vocabulary, 256);
    fur_corpus_close(c.corpus);
    expect_refused(with_paths(kit_path(&folder, "b.npy"), kit_path(&folder, "t")), FUR_E_FORMAT,
                   "token id 65535 in a .npy file, expected below 256");
    static const char square[] = "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 3), }\n";
    expect_refused(with_paths(kit_write_npy(&folder, "d.npy", square, small, 12), NULL), FUR_E_FORMAT,
                   "d.npy: integers of shape (1, 3), expected token ids of one dimension");
    static const char short_header[] = "{'descr': '<i4', 'fortran_order': False, 'shape': (4,), }\n";
    expect_refused(with_paths(kit_write_npy(&folder, "d.npy", short_header, small, 12), NULL), FUR_E_FORMAT,
                   "d.npy: ends after 3 of 4 .npy values");
    expect_refused(with_paths(write_ids(&folder, "d.npy", small, 0), NULL), FUR_E_FORMAT, "d.npy: empty");
    kit_folder_clear(&folder);
}

static void test_npy_vectors(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    enum { ROWS = 30000, COLUMNS = 3 };
    float *x = malloc(sizeof(float) * ROWS * COLUMNS), *got = malloc(sizeof(float) * ROWS * COLUMNS);
    kit_fill_f32(x, ROWS * COLUMNS, KIT_NORMAL, 5);
    static const char header[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (30000, 3), }\n";
    static const char line[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
    const char *path = kit_write_npy(&folder, "x.npy", header, x, (int64_t)sizeof(float) * ROWS * COLUMNS);
    uint64_t hash = 0;
    for (int on_disk = 0; on_disk < 2; on_disk++) {
        open_case c = with_paths(path, path);
        c.limits.ram_bytes = on_disk ? 100000 : FUR_CORPUS_LIMITS.ram_bytes;
        kit_expect_ok(&error, open_corpus(&c, &error));
        fur_corpus_info info;
        fur_corpus_info_read(c.corpus, &info);
        assert_true(info.documents == 2 && info.tokens == 2 * ROWS && info.features == COLUMNS && info.vocabulary == 0);
        assert_true(on_disk ? info.hash == hash : info.hash != 0);
        assert_true(on_disk ? info.bytes_held < 300000 : info.bytes_held > 2 * ROWS * COLUMNS * 4);
        hash = info.hash;
        kit_expect_ok(&error, fur_corpus_vectors(&error, c.corpus, 1, 0, ROWS, got));
        kit_check_same_bits("vectors", got, x, sizeof(float) * ROWS * COLUMNS);
        kit_expect_ok(&error, fur_corpus_vectors(&error, c.corpus, 0, 29999, 1, got));
        kit_check_same_bits("last row", got, x + 29999 * COLUMNS, sizeof(float) * COLUMNS);
        kit_expect(&error, fur_corpus_vectors(&error, c.corpus, 0, 29999, 2, got), FUR_E_ARGUMENT, "which has 30000");
        kit_expect(&error, fur_corpus_ids(&error, c.corpus, 0, 0, 1, NULL), FUR_E_ARGUMENT,
                   "holds real vectors, expected token ids");
        fur_corpus_close(c.corpus);
    }
    static const char none[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (7, 0), }\n";
    expect_refused(with_paths(kit_write_npy(&folder, "z.npy", none, x, 0), NULL), FUR_E_FORMAT,
                   "z.npy: vectors of 0 features, expected 1 to 1048576");
    const char *text = kit_write(&folder, "t", "text", -1);
    expect_refused(with_paths(path, text), FUR_E_FORMAT, "/t: tokens, the files before hold real vectors");
    expect_refused(with_paths(text, path), FUR_E_FORMAT, "/x.npy: real vectors, the files before hold tokens");
    expect_refused(with_paths(path, kit_write_npy(&folder, "y.npy", line, x, 8)), FUR_E_FORMAT,
                   "y.npy: vectors of 1 features, the files before have 3");
    ((uint32_t *)(void *)x)[3 * 777 + 1] = 0x7fc00000u;
    path = kit_write_npy(&folder, "x.npy", header, x, (int64_t)sizeof(float) * ROWS * COLUMNS);
    expect_refused(with_paths(path, NULL), FUR_E_NONFINITE, "x.npy: row 777, column 1 is nan");
    free(x);
    free(got);
    kit_folder_clear(&folder);
}

/* ---- places and hash ------------------------------------------------------------------------------------------ */

/* RAM or disk, one file or compressed, from a pipe or a path: the same corpus. */
static void test_places(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    enum { BYTES = 1000003 };
    unsigned char *data = malloc(BYTES);
    for (int64_t i = 0; i < BYTES; i++)
        data[i] = (unsigned char)(i * i >> 7);
    const char *plain = kit_write(&folder, "a", data, BYTES);
    const char *packed = kit_write_zst(&folder, "a.zst", data, BYTES, 0);
    int kept = dup(STDIN_FILENO), fd = open(plain, O_RDONLY);
    dup2(fd, STDIN_FILENO);
    const struct {
        const char *path;
        int64_t ram_limit;
    } cases[] = {{plain, FUR_CORPUS_LIMITS.ram_bytes}, {plain, 0}, {plain, 500000}, {packed, 70000}, {"-", 1 << 20}};
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_case c = with_paths(cases[i].path, NULL);
        c.limits.ram_bytes = cases[i].ram_limit;
        kit_expect_ok(&error, open_corpus(&c, &error));
        expect_document(c.corpus, 0, data, BYTES);
        assert_true(i == 0 || c.corpus->info.hash == hash);
        assert_true(c.corpus->info.bytes_held <= (c.limits.ram_bytes < 262144 ? 262144 : c.limits.ram_bytes) + 8192);
        hash = c.corpus->info.hash;
        fur_corpus_close(c.corpus);
    }
    dup2(kept, STDIN_FILENO);
    close(kept);
    close(fd);
    free(data);
    kit_folder_clear(&folder);
}

static uint64_t hash_of(open_case c)
{
    fur_error error = {0};
    kit_expect_ok(&error, open_corpus(&c, &error));
    uint64_t hash = c.corpus->info.hash;
    fur_corpus_close(c.corpus);
    return hash;
}

static void test_hash(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    uint64_t two = hash_of(with_paths(kit_write(&folder, "a", "ab", 2), kit_write(&folder, "b", "c", 1)));
    uint64_t other = hash_of(with_paths(kit_write(&folder, "c", "a", 1), kit_write(&folder, "d", "bc", 2)));
    uint64_t one = hash_of(with_paths(kit_write(&folder, "e", "abc", 3), NULL));
    assert_true(two != other && other != one && one != two); /* where documents end counts */
    uint64_t lines =
        hash_of(with_paths(kit_write(&folder, "f.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"c\"}\n", -1), NULL));
    assert_true(lines == two); /* where they come from does not */
    kit_folder_clear(&folder);
}

/* Many short documents: their table leaves RAM too. */
static void test_many_documents(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    enum { COUNT = 60000 };
    char *text = malloc(COUNT * 24);
    size_t at = 0;
    for (int i = 0; i < COUNT; i++)
        at += (size_t)snprintf(text + at, 24, "{\"text\": \"%d\"}\n", i);
    open_case c = with_paths(kit_write(&folder, "a.jsonl", text, (int64_t)at), NULL);
    c.limits.ram_bytes = 100000;
    kit_expect_ok(&error, open_corpus(&c, &error));
    assert_int_equal(c.corpus->info.documents, COUNT);
    assert_true(c.corpus->info.bytes_held < 2 * 262144 + 8192);
    for (int i = 0; i < COUNT; i += i < 100 ? 1 : 997) {
        snprintf(text, 24, "%d", i);
        expect_text(c.corpus, i, text);
    }
    fur_corpus_close(c.corpus);
    free(text);
    kit_folder_clear(&folder);
}

/* ---- a tokenizer that cannot be cut everywhere ---------------------------------------------------------------- */

/* Words: the id is the length of a run between spaces, at most 200,000. A run must not be cut. */
static int64_t words_vocabulary(const fur_tokenizer *tokenizer)
{
    (void)tokenizer;
    return 200001;
}

static fur_status words_encode(fur_error *error, const fur_tokenizer *tokenizer, const fur_encoding *input,
                               fur_ids *out, int64_t *used)
{
    (void)tokenizer;
    *used = input->bytes;
    while (!input->ends && *used > 0 && input->text[*used - 1] != ' ')
        --*used;
    for (int64_t i = 0; i < *used;) {
        const char *space = memchr(input->text + i, ' ', (size_t)(*used - i));
        int64_t end = space ? space - input->text : *used;
        FUR_TRY(fur_ids_add(error, out, (int32_t)(end - i)));
        i = end + 1;
    }
    return FUR_OK;
}

static void test_cutting(void **state)
{
    (void)state;
    static const fur_tokenizer_kind kind = {.name = "words", .vocabulary = words_vocabulary, .encode = words_encode};
    const fur_tokenizer words = {.kind = &kind};
    static const int32_t lengths[] = {3, 65535, 65536, 65537, 1, 150000, 70000, 0, 5};
    enum { COUNT = sizeof lengths / sizeof lengths[0] };
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    char *text = malloc(500000);
    size_t at = (size_t)snprintf(text, 500000, "{\"text\": \"");
    size_t start = at;
    for (int i = 0; i < COUNT; i++) {
        memset(text + at, 'x', (size_t)lengths[i]);
        at += (size_t)lengths[i];
        text[at++] = ' ';
    }
    open_case c = with_paths(kit_write(&folder, "a.txt", text + start, (int64_t)(at - start)), NULL);
    at += (size_t)snprintf(text + at, 500000 - at, "\"}");
    c.paths[1] = kit_write(&folder, "a.jsonl", text, (int64_t)at);
    c.settings.path_count = 2;
    c.settings.paths = c.paths;
    kit_expect_ok(&error, fur_corpus_make(&error, &c.settings, &words, FUR_CORPUS_LIMITS, &c.corpus));
    assert_int_equal(c.corpus->info.vocabulary, 200001);
    expect_ids(c.corpus, 0, lengths, COUNT);
    expect_ids(c.corpus, 1, lengths, COUNT);
    fur_corpus_close(c.corpus);
    free(text);
    kit_folder_clear(&folder);
}

/* ---- public --------------------------------------------------------------------------------------------------- */

static char logged[200];
static void log_line(void *user, fur_log_level level, const char *line)
{
    (void)user, (void)level;
    snprintf(logged + strlen(logged), sizeof logged - strlen(logged), "%s; ", line);
}

static void test_public(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    static struct fur_context context;
    context.log = log_line;
    const char *path = kit_write(&folder, "a.jsonl", "{\"text\": \"one\"}\nbad\n{\"text\": \"\"}\n", -1);
    fur_corpus_settings settings;
    fur_corpus_settings_defaults(&settings);
    settings.paths = &path;
    settings.path_count = 1;
    fur_corpus *corpus;
    kit_expect(&context.error, fur_corpus_open(&context, &settings, &corpus), FUR_E_FORMAT, "a.jsonl:2: line 1");
    assert_null(corpus);
    settings.skip_bad = true;
    kit_expect_ok(&context.error, fur_corpus_open(&context, &settings, &corpus));
    assert_string_equal(logged, "1 lines that do not parse were skipped; 1 empty documents were left out; ");
    int32_t ids[3];
    kit_expect_ok(&context.error, fur_corpus_read_ids(&context, corpus, 0, 0, 3, ids));
    assert_true(ids[0] == 'o' && ids[1] == 'n' && ids[2] == 'e');
    kit_expect(&context.error, fur_corpus_read_vectors(&context, corpus, 0, 0, 3, NULL), FUR_E_ARGUMENT, "token ids");
    fur_corpus_close(corpus);
    settings.tokenizer = NULL;
    kit_expect(&context.error, fur_corpus_open(&context, &settings, &corpus), FUR_E_ARGUMENT, "no tokenizer named");
    kit_folder_clear(&folder);
}

/* Prompts are read and not predicted, wherever a read begins or ends. */
static void prompts_are_no_targets(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    open_case c = with_paths(kit_write(&folder, "a.jsonl",
                                       "{\"text\": \"plain\"}\n{\"prompt\": \"ask\", \"completion\": \"yes!\"}\n"
                                       "{\"prompt\": \"\", \"completion\": \"none\"}\n{\"prompt\": \"q\", "
                                       "\"completion\": \"a\"}\n",
                                       -1),
                             NULL);
    kit_expect_ok(&error, open_corpus(&c, &error));
    static const char *const texts[] = {"plain", "askyes!", "none", "qa"};
    static const int64_t prompts[] = {0, 3, 0, 1};
    assert_int_equal(c.corpus->info.prompt_tokens, 4);
    for (int64_t d = 0; d < 4; d++) {
        int64_t length = (int64_t)strlen(texts[d]);
        expect_text(c.corpus, d, texts[d]);
        for (int64_t first = 0; first <= length; first++)
            for (int64_t count = 0; first + count <= length; count++) {
                int32_t target[8];
                kit_expect_ok(&error, fur_corpus_targets(&error, c.corpus, d, first, count, target));
                for (int64_t i = 0; i < count; i++)
                    assert_int_equal(target[i], first + i < prompts[d] ? -1 : texts[d][first + i]);
            }
    }
    fur_corpus_close(c.corpus);
    kit_folder_clear(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_are_no_targets),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_refused_paths),
        cmocka_unit_test(test_truncated_while_read),
        cmocka_unit_test(test_jsonl),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_npy_ids),
        cmocka_unit_test(test_npy_vectors),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_many_documents),
        cmocka_unit_test(test_cutting),
        cmocka_unit_test(test_public),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
