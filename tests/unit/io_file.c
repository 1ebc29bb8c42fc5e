/* SPDX-License-Identifier: Apache-2.0 */
/* io/file.h and io/folder.h: what is read is what is there, what is written is whole or absent. */
#include "kit/files.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "io/fault.h"
#include "io/file.h"
#include "io/folder.h"
#include "io/hash.h"

/* Root may read and write everything: where the tests run as root, be somebody else for a moment. Returns who we were;
 * stays root where there is nobody else to be. */
static uid_t become_nobody(void)
{
    uid_t self = geteuid();
    if (self == 0 && seteuid(65534) != 0)
        print_message("cannot become another user: permissions not tested\n");
    return self;
}

static void test_read(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    char *text;
    int64_t bytes;
    kit_write(&folder, "a", "line\0two", 8);
    kit_expect_ok(&error, fur_file_read(&error, kit_path(&folder, "a"), 8, &text, &bytes));
    assert_int_equal(bytes, 8);
    assert_memory_equal(text, "line\0two", 9); /* and the NUL after it */
    fur_free(text);
    kit_expect(&error, fur_file_read(&error, kit_path(&folder, "a"), 7, &text, &bytes), FUR_E_FORMAT,
               "8 bytes, expected at most 7");
    kit_expect(&error, fur_file_read(&error, kit_path(&folder, "none"), 7, &text, &bytes), FUR_E_IO,
               "none: cannot open: No such file or directory");
    kit_expect(&error, fur_file_read(&error, folder.path, 7, &text, &bytes), FUR_E_IO, "Is a directory");
    assert_int_equal(mkfifo(kit_path(&folder, "pipe"), 0600), 0);
    kit_expect(&error, fur_file_read(&error, kit_path(&folder, "pipe"), 7, &text, &bytes), FUR_E_IO,
               "pipe: not a regular file");
    assert_int_equal(symlink("loop", kit_path(&folder, "loop")), 0);
    kit_expect(&error, fur_file_read(&error, kit_path(&folder, "loop"), 7, &text, &bytes), FUR_E_IO,
               "Too many levels of symbolic links");
    chmod(kit_path(&folder, "a"), 0);
    uid_t self = become_nobody();
    if (geteuid() != 0)
        kit_expect(&error, fur_file_read(&error, kit_path(&folder, "a"), 8, &text, &bytes), FUR_E_IO,
                   "Permission denied");
    assert_int_equal(seteuid(self), 0);
    kit_folder_clear(&folder);
}

static void test_shrinking_input(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    const char *path = kit_write(&folder, "weights", "0123456789", 10);
    fur_input input;
    kit_expect_ok(&error, fur_input_open(&error, path, &input));
    char part[4];
    kit_expect_ok(&error, fur_input_read(&error, &input, 4, part, 4));
    assert_memory_equal(part, "4567", 4);
    assert_int_equal(truncate(path, 6), 0);
    kit_expect(&error, fur_input_read(&error, &input, 4, part, 4), FUR_E_IO,
               "weights: the file became shorter while it was read: 10 bytes at opening, now 6");
    fur_input_close(&input);
    kit_folder_clear(&folder);
}

static void test_paths(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"a/b", "a"}, {"a", "."},    {"/a", "/"},    {"/", "/"},   {"a/b/", "a"},
        {"", "."},    {"a//b", "a"}, {"/a/b", "/a"}, {"./a", "."}, {"a/b//c///", "a/b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *parent;
        assert_int_equal(fur_path_parent(NULL, cases[i][0], &parent), FUR_OK);
        assert_string_equal(parent, cases[i][1]);
        fur_free(parent);
    }
    assert_string_equal(fur_path_name("a/b.txt"), "b.txt");
    assert_string_equal(fur_path_name("b.txt"), "b.txt");
}

/* 200,000 bytes: past the writer's buffer, so that several writes happen. */
typedef struct write_case {
    const char *path;
    unsigned char data[200000];
} write_case;

static fur_status write_pieces(void *user, fur_error *error)
{
    write_case *c = user;
    fur_output *output;
    FUR_TRY(fur_output_open(error, c->path, &output));
    int64_t piece = 1, at = 0, total = (int64_t)sizeof c->data;
    while (at < total) {
        int64_t now = piece < total - at ? piece : total - at;
        fur_status status = fur_output_write(error, output, c->data + at, now);
        if (status != FUR_OK) {
            fur_output_discard(output);
            return status;
        }
        at += now;
        piece = piece * 7 % 100003;
    }
    return fur_output_commit(error, output);
}

static void check_old_or_new(void *user, int64_t k)
{
    (void)k;
    const write_case *c = user;
    char *text, *parent;
    int64_t bytes;
    assert_int_equal(fur_file_read(NULL, c->path, 1 << 20, &text, &bytes), FUR_OK);
    assert_true((bytes == 3 && memcmp(text, "old", 3) == 0) ||
                (bytes == (int64_t)sizeof c->data && memcmp(text, c->data, sizeof c->data) == 0));
    fur_free(text);
    assert_int_equal(fur_path_parent(NULL, c->path, &parent), FUR_OK);
    assert_int_equal(kit_entries(parent), 1); /* nothing beside it */
    fur_free(parent);
}

static void fill(write_case *c)
{
    for (size_t i = 0; i < sizeof c->data; i++)
        c->data[i] = (unsigned char)(i * 131 + i / 251);
}

static void test_write_faults(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    static write_case c;
    fill(&c);
    c.path = kit_write(&folder, "file", "old", 3);
    int64_t operations = kit_each_write_fails(write_pieces, &c, ENOSPC, check_old_or_new);
    assert_true(operations >= 6); /* create, writes, sync, rename, sync of the folder */
    kit_expect_content(c.path, c.data, sizeof c.data);
    assert_true(kit_each_allocation_fails(write_pieces, &c) >= 3);
    kit_folder_clear(&folder);
}

static int interrupted;
static int interrupt_hook(void *user, fur_io_op op, const char *path)
{
    (void)user, (void)path;
    return (op == FUR_IO_READ || op == FUR_IO_WRITE || op == FUR_IO_SYNC) && ++interrupted % 2 ? EINTR : 0;
}

/* A signal that comes first only delays. */
static void test_interrupted(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    static write_case c;
    fill(&c);
    c.path = kit_path(&folder, "file");
    fur_io_hook_set(interrupt_hook, NULL);
    fur_status status = write_pieces(&c, &error);
    char *text = NULL;
    int64_t bytes = 0;
    if (status == FUR_OK)
        status = fur_file_read(&error, c.path, 1 << 20, &text, &bytes);
    fur_io_hook_set(NULL, NULL);
    kit_expect_ok(&error, status);
    assert_true(interrupted >= 8 && bytes == (int64_t)sizeof c.data && memcmp(text, c.data, sizeof c.data) == 0);
    fur_free(text);
    kit_folder_clear(&folder);
}

static int kill_at;
static int kill_hook(void *user, fur_io_op op, const char *path)
{
    (void)user, (void)path;
    if (op >= FUR_IO_CREATE && --kill_at == 0)
        raise(SIGKILL);
    return 0;
}

/* Ends the process before its k-th file operation, for every k. */
static void test_write_killed(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    static write_case c;
    fill(&c);
    c.path = kit_write(&folder, "file", "old", 3);
    int killed = 0;
    for (int k = 1;; k++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            kill_at = k;
            fur_io_hook_set(kill_hook, NULL);
            _exit(write_pieces(&c, NULL) == FUR_OK ? 0 : 1);
        }
        int ended;
        assert_int_equal(waitpid(child, &ended, 0), child);
        fur_folder_sweep(folder.path);
        check_old_or_new(&c, k);
        if (WIFEXITED(ended)) {
            assert_int_equal(WEXITSTATUS(ended), 0);
            break;
        }
        killed++;
    }
    assert_true(killed >= 6);
    kit_expect_content(c.path, c.data, sizeof c.data);
    kit_folder_clear(&folder);
}

static void test_write_refused(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    static write_case c;
    fill(&c);
    kit_expect(&error, fur_file_write(&error, kit_path(&folder, "no/file"), "x", 1), FUR_E_IO,
               "no/file: cannot create: No such file or directory");
    assert_int_equal(mkdir(kit_path(&folder, "sub"), 0700), 0);
    kit_expect(&error, fur_file_write(&error, kit_path(&folder, "sub"), "x", 1), FUR_E_IO, "Is a directory");
    kit_expect(&error, fur_file_write(&error, "/dev/full/x", "x", 1), FUR_E_IO, "Not a directory");
    /* a limit on file size, met in the middle */
    c.path = kit_path(&folder, "sub/file");
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 100000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    fur_status status = write_pieces(&c, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    kit_expect(&error, status, FUR_E_IO, "sub/file: cannot write: File too large");
    assert_int_equal(kit_entries(kit_path(&folder, "sub")), 0);
    chmod(kit_path(&folder, "sub"), 0500);
    uid_t self = become_nobody();
    if (geteuid() != 0)
        kit_expect(&error, write_pieces(&c, &error), FUR_E_IO, "sub/file: cannot create: Permission denied");
    assert_int_equal(seteuid(self), 0);
    chmod(kit_path(&folder, "sub"), 0700);
    kit_folder_clear(&folder);
}

/* ---- folders -------------------------------------------------------------------------------------------------- */

typedef struct publish_case {
    kit_folder folder;
    const char *content; /* of both files */
} publish_case;

static fur_status publish(void *user, fur_error *error)
{
    publish_case *c = user;
    const char *path = kit_path(&c->folder, "step");
    char *staging, *file = NULL;
    FUR_TRY(fur_folder_begin(error, path, &staging));
    fur_status status = FUR_OK;
    for (int i = 0; i < 2 && status == FUR_OK; i++) {
        status = fur_path_join(error, staging, i ? "b" : "a", &file);
        if (status == FUR_OK) {
            status = fur_file_write(error, file, c->content, (int64_t)strlen(c->content));
            fur_free(file);
        }
    }
    if (status == FUR_OK)
        status = fur_folder_publish(error, staging, path);
    else
        fur_folder_remove(staging);
    fur_free(staging);
    return status;
}

/* Absent, or both files alike. */
static void check_folder_agrees(void *user, int64_t k)
{
    publish_case *c = user;
    (void)k;
    if (kit_entries(c->folder.path) == 0)
        return;
    assert_int_equal(kit_entries(c->folder.path), 1);
    char *a, *b;
    int64_t bytes_a, bytes_b;
    assert_int_equal(fur_file_read(NULL, kit_path(&c->folder, "step/a"), 99, &a, &bytes_a), FUR_OK);
    assert_int_equal(fur_file_read(NULL, kit_path(&c->folder, "step/b"), 99, &b, &bytes_b), FUR_OK);
    assert_string_equal(a, b);
    fur_free(a);
    fur_free(b);
}

static void test_publish(void **state)
{
    (void)state;
    publish_case c = {.content = "one"};
    kit_folder_init(&c.folder);
    fur_error error = {0};
    assert_true(kit_each_write_fails(publish, &c, ENOSPC, check_folder_agrees) >= 10);
    kit_expect_content(kit_path(&c.folder, "step/b"), "one", 3);
    c.content = "another"; /* over one that is there */
    kit_each_write_fails(publish, &c, EDQUOT, check_folder_agrees);
    kit_expect_content(kit_path(&c.folder, "step/b"), "another", 7);
    c.content = "third";
    kit_each_allocation_fails(publish, &c);
    kit_expect_content(kit_path(&c.folder, "step/a"), "third", 5);
    /* a file in the way */
    kit_folder_clear(&c.folder);
    kit_folder_init(&c.folder);
    kit_write(&c.folder, "step", "x", 1);
    kit_expect(&error, publish(&c, &error), FUR_E_IO, "step: cannot rename into place: Not a directory");
    assert_int_equal(kit_entries(c.folder.path), 1);
    kit_folder_clear(&c.folder);
}

static void test_publish_killed(void **state)
{
    (void)state;
    publish_case c = {.content = "old"};
    kit_folder_init(&c.folder);
    assert_int_equal(publish(&c, NULL), FUR_OK);
    c.content = "newer";
    for (int k = 1;; k++) {
        pid_t child = fork();
        if (child == 0) {
            kill_at = k;
            fur_io_hook_set(kill_hook, NULL);
            _exit(publish(&c, NULL) == FUR_OK ? 0 : 1);
        }
        int ended;
        assert_int_equal(waitpid(child, &ended, 0), child);
        fur_folder_sweep(c.folder.path);
        check_folder_agrees(&c, k);
        assert_int_equal(kit_entries(c.folder.path), 1);
        if (WIFEXITED(ended))
            break;
    }
    kit_expect_content(kit_path(&c.folder, "step/a"), "newer", 5);
    kit_folder_clear(&c.folder);
}

static void test_create_and_sweep(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    kit_expect_ok(&error, fur_folder_create(&error, kit_path(&folder, "a//b/c/")));
    kit_expect_ok(&error, fur_folder_create(&error, kit_path(&folder, "a/b/c")));
    assert_int_equal(kit_entries(kit_path(&folder, "a/b/c")), 0);
    kit_write(&folder, "a/file", "x", 1);
    kit_expect(&error, fur_folder_create(&error, kit_path(&folder, "a/file/d/")), FUR_E_IO,
               "a/file: cannot create the folder: Not a directory");
    kit_expect_ok(&error, fur_folder_create(&error, kit_path(&folder, "step.tmp-12/in")));
    kit_write(&folder, "step.tmp-12/in/file", "x", 1);
    kit_write(&folder, "latest.tmp-9", "x", 1);
    kit_write(&folder, "name.tmp-9x", "x", 1);
    kit_write(&folder, "name.tmp-", "x", 1);
    fur_folder_sweep(folder.path);
    assert_int_equal(kit_entries(folder.path), 3); /* a, name.tmp-9x, name.tmp- */
    fur_folder_sweep(kit_path(&folder, "none"));
    fur_folder_remove(kit_path(&folder, "none"));
    kit_folder_clear(&folder);
}

static void test_lock(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    fur_lock *lock, *second;
    kit_expect_ok(&error, fur_lock_acquire(&error, folder.path, &lock));
    char holder[64];
    snprintf(holder, sizeof holder, "another run holds this folder (process %ld)", (long)getpid());
    kit_expect(&error, fur_lock_acquire(&error, folder.path, &second), FUR_E_BUSY, holder);
    assert_non_null(strstr(error.text, folder.path));
    fur_lock_release(lock);
    kit_expect_ok(&error, fur_lock_acquire(&error, folder.path, &second));
    fur_lock_release(second);
    fur_lock_release(NULL);
    kit_expect(&error, fur_lock_acquire(&error, kit_path(&folder, "none"), &lock), FUR_E_IO, "No such file");
    /* a killed holder's lock is gone */
    pid_t child = fork();
    if (child == 0) {
        if (fur_lock_acquire(NULL, folder.path, &lock) != FUR_OK)
            _exit(1);
        raise(SIGKILL);
    }
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFSIGNALED(ended));
    kit_expect_ok(&error, fur_lock_acquire(&error, folder.path, &lock));
    fur_lock_release(lock);
    kit_folder_clear(&folder);
}

static fur_status walk_all(void *user, fur_error *error)
{
    const char *folder = user;
    fur_walk *walk;
    FUR_TRY(fur_walk_open(error, folder, &walk));
    const char *path;
    fur_status status;
    do {
        status = fur_walk_next(error, walk, &path);
    } while (status == FUR_OK && path);
    fur_walk_close(walk);
    return status;
}

static void test_walk(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    kit_expect_ok(&error, fur_folder_create(&error, kit_path(&folder, "b/inner")));
    kit_expect_ok(&error, fur_folder_create(&error, kit_path(&folder, "empty")));
    kit_expect_ok(&error, fur_folder_create(&error, kit_path(&folder, ".hidden")));
    static const char *const names[] = {"a.txt", "b/1", "b/10", "b/2", "b/inner/x", "c.txt", ".hidden/no", ".no"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        kit_write(&folder, names[i], "x", 1);
    assert_int_equal(symlink("..", kit_path(&folder, "b/inner/up")), 0); /* loop */
    assert_int_equal(symlink(".", kit_path(&folder, "b/self")), 0);
    fur_walk *walk;
    const char *path;
    kit_expect_ok(&error, fur_walk_open(&error, folder.path, &walk));
    for (size_t i = 0; i < 6; i++) {
        kit_expect_ok(&error, fur_walk_next(&error, walk, &path));
        assert_non_null(path);
        assert_string_equal(path, kit_path(&folder, names[i]));
    }
    kit_expect_ok(&error, fur_walk_next(&error, walk, &path));
    assert_null(path);
    fur_walk_close(walk);
    assert_true(kit_each_allocation_fails(walk_all, folder.path) > 10);

    assert_int_equal(symlink("nowhere", kit_path(&folder, "d")), 0);
    kit_expect(&error, walk_all(folder.path, &error), FUR_E_IO, "/d: cannot open: No such file");
    unlink(kit_path(&folder, "d"));
    assert_int_equal(mkfifo(kit_path(&folder, "d"), 0600), 0);
    kit_expect(&error, walk_all(folder.path, &error), FUR_E_IO, "/d: neither a file nor a folder");
    unlink(kit_path(&folder, "d"));
    kit_folder_clear(&folder);

    kit_folder_init(&folder); /* 70 levels */
    char deep[140];           /* "d/d/.../d" */
    for (int i = 0; i < 139; i++)
        deep[i] = i % 2 ? '/' : 'd';
    deep[139] = 0;
    kit_expect_ok(&error, fur_folder_create(&error, kit_path(&folder, deep)));
    kit_expect(&error, walk_all(folder.path, &error), FUR_E_IO, "nested deeper than 64");
    for (size_t length = strlen(deep); length > 1; length -= 2, deep[length] = 0)
        rmdir(kit_path(&folder, deep));
    kit_folder_clear(&folder);
}

static void test_hash(void **state)
{
    (void)state;
    /* values of the XXH3 specification's implementation (xxhsum -H3) */
    assert_true(fur_hash_bytes("", 0) == 0x2d06800538d394c2ull);
    unsigned char data[5000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7);
    struct {
        char shift[3]; /* the state finds its own alignment */
        fur_hash hash;
    } at;
    for (int64_t piece = 1; piece < 5000; piece = piece * 3 + 1) {
        fur_hash_begin(&at.hash);
        for (int64_t i = 0; i < 5000; i += piece)
            fur_hash_update(&at.hash, data + i, piece < 5000 - i ? piece : 5000 - i);
        assert_true(fur_hash_end(&at.hash) == fur_hash_bytes(data, 5000));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),           cmocka_unit_test(test_shrinking_input),
        cmocka_unit_test(test_paths),          cmocka_unit_test(test_write_faults),
        cmocka_unit_test(test_write_killed),   cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_write_refused),  cmocka_unit_test(test_publish),
        cmocka_unit_test(test_publish_killed), cmocka_unit_test(test_create_and_sweep),
        cmocka_unit_test(test_lock),           cmocka_unit_test(test_walk),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
