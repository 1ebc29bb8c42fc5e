/* SPDX-License-Identifier: Apache-2.0 */
/* A document whose rows are spread over processes: the exchange of almost-linear layers, two and three processes with
 * pipes between, against one process. Bytes sent do not depend on the number of tokens. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attention/far_fit.h"
#include "attention/kind.h"
#include "base/random.h"
#include "kit/kit.h"

enum {
    MOST_RANKS = 3,
    HEADS = 4,
    KEY_HEADS = 2,
    DIM = 16,
    CHUNK = 32,
    WIDTH = HEADS * DIM,
    KEY_WIDTH = KEY_HEADS * DIM
};

/* pipe[a][b]: from rank a to rank b. */
typedef struct pipes {
    int pipe[MOST_RANKS][MOST_RANKS][2], rank;
    int64_t sent, messages;
} pipes;

static fur_status move_all(fur_error *error, int file, char *data, int64_t bytes, int writing)
{
    while (bytes > 0) {
        ssize_t done = writing ? write(file, data, (size_t)bytes) : read(file, data, (size_t)bytes);
        if (done <= 0)
            return fur_error_set(error, FUR_E_IO, "pipe: %s", strerror(errno));
        data += done;
        bytes -= done;
    }
    return FUR_OK;
}

static fur_status pipe_send(void *user, fur_error *error, int to, const void *data, int64_t bytes)
{
    pipes *p = user;
    p->sent += bytes;
    p->messages++;
    return move_all(error, p->pipe[p->rank][to][1], (char *)(uintptr_t)data, bytes, 1);
}

static fur_status pipe_receive(void *user, fur_error *error, int from, void *data, int64_t bytes)
{
    pipes *p = user;
    return move_all(error, p->pipe[from][p->rank][0], data, bytes, 0);
}

/* Arrays of so many rows, in one piece. */
typedef struct rows {
    float *q, *d_o, *o, *dq, *lse, *k, *v, *dk, *dv, *dbias, *all;
    int64_t floats;
} rows;

static rows rows_create(int64_t count)
{
    rows r = {.floats = count * (4 * WIDTH + HEADS + 4 * KEY_WIDTH) + HEADS};
    r.all = calloc((size_t)r.floats, sizeof *r.all);
    float *at = r.all;
    float **of_q[] = {&r.q, &r.d_o, &r.o, &r.dq}, **of_k[] = {&r.k, &r.v, &r.dk, &r.dv};
    for (int i = 0; i < 4; i++, at += count * WIDTH)
        *of_q[i] = at;
    for (int i = 0; i < 4; i++, at += count * KEY_WIDTH)
        *of_k[i] = at;
    r.lse = at;
    r.dbias = at + count * HEADS;
    return r;
}

/* Rows first.. of the whole. */
static void fill(rows *r, int64_t total, int64_t first, int64_t count)
{
    rows whole = rows_create(total);
    fur_random_normal(1, 1, 1, whole.q, total * WIDTH);
    fur_random_normal(1, 2, 1, whole.d_o, total * WIDTH);
    fur_random_normal(1, 3, 1, whole.k, total * KEY_WIDTH);
    fur_random_normal(1, 4, 1, whole.v, total * KEY_WIDTH);
    memcpy(r->q, whole.q + first * WIDTH, (size_t)(count * WIDTH) * sizeof(float));
    memcpy(r->d_o, whole.d_o + first * WIDTH, (size_t)(count * WIDTH) * sizeof(float));
    memcpy(r->k, whole.k + first * KEY_WIDTH, (size_t)(count * KEY_WIDTH) * sizeof(float));
    memcpy(r->v, whole.v + first * KEY_WIDTH, (size_t)(count * KEY_WIDTH) * sizeof(float));
    free(whole.all);
}

/* Both phases of a layer over these rows, in blocks of 96. */
static void run_layer(const fur_comm *comm, int64_t count, rows *r)
{
    static float mean[KEY_WIDTH], coefficient[KEY_HEADS * 4], bias[HEADS] = {0.5f, -0.5f, 0, 1};
    const fur_attention_kind *kind = &fur_attention_almost_linear;
    const int64_t offsets[2] = {0, count}, block = 96;
    fur_documents documents = {1, offsets};
    fur_attention_state state;
    fur_arena arena;
    kit_exec kit;
    for (int h = 0; h < KEY_HEADS; h++)
        fur_far_fit_normal(0.3, 2, 3, coefficient + 4 * h);
    fur_attention_shape s = {.heads = HEADS,
                             .kv_heads = KEY_HEADS,
                             .head_dim = DIM,
                             .scale = 0.25f,
                             .causal = 1,
                             .hold_all = comm == NULL, /* one process too keeps all rows */
                             .chunk = CHUNK,
                             .comm = comm,
                             .dbias_H = r->dbias};
    s.far = (fur_far){.heads = HEADS,
                      .kv_heads = KEY_HEADS,
                      .head_dim = DIM,
                      .value_dim = DIM,
                      .degree = 3,
                      .bound = 1.5f,
                      .query_mean_KD = mean,
                      .key_mean_KD = mean,
                      .coefficient_KP = coefficient,
                      .bias_H = bias};
    kit_exec_init(&kit, kit_best_isa(), 1, (int64_t)32 << 20);
    const fur_exec *x = &kit.exec;
    assert_int_equal(fur_arena_create(&kit.error, (int64_t)128 << 20, &arena), FUR_OK);
    kind->reserve(&s, count, block, 1, &arena, &state);
    for (int64_t first = 0; first < count; first += block) {
        int64_t n = count - first < block ? count - first : block;
        float *k = NULL, *v = NULL;
        kind->key_rows(&s, &state, first, &k, &v);
        memcpy(k, r->k + first * KEY_WIDTH, (size_t)(n * KEY_WIDTH) * sizeof(float));
        memcpy(v, r->v + first * KEY_WIDTH, (size_t)(n * KEY_WIDTH) * sizeof(float));
        assert_int_equal(kind->absorb(x, &s, &state, &documents, first, n, k, v), FUR_OK);
        kind->begin_backward(x, &s, &state, first, n);
    }
    if (kind->exchange(x, &s, &state, &documents) != FUR_OK)
        fail_msg("%s", kit.error.text);
    for (int64_t first = 0; first < count; first += block) {
        int64_t n = count - first < block ? count - first : block;
        assert_int_equal(kind->query(x, &s, &state, &documents, first, n, r->q + first * WIDTH, r->o + first * WIDTH,
                                     r->lse + first * HEADS),
                         FUR_OK);
    }
    for (int64_t first = 0; first < count; first += block)
        assert_int_equal(kind->rebuild(x, &s, &state, &documents, first, count - first < block ? count - first : block),
                         FUR_OK);
    for (int64_t first = (count - 1) / block * block; first >= 0; first -= block) {
        int64_t n = count - first < block ? count - first : block;
        assert_int_equal(kind->query_backward(x, &s, &state, &documents, first, n, r->q + first * WIDTH,
                                              r->o + first * WIDTH, r->lse + first * HEADS, r->d_o + first * WIDTH,
                                              r->dq + first * WIDTH),
                         FUR_OK);
    }
    assert_int_equal(kind->keys_ready_at_once(&s), comm == NULL);
    if (kind->exchange_backward(x, &s, &state, &documents) != FUR_OK)
        fail_msg("%s", kit.error.text);
    for (int64_t first = 0; first < count; first += block) {
        int64_t n = count - first < block ? count - first : block;
        float *dk, *dv;
        assert_int_equal(kind->key_gradients(x, &s, &state, first, n, &dk, &dv), FUR_OK);
        memcpy(r->dk + first * KEY_WIDTH, dk, (size_t)(n * KEY_WIDTH) * sizeof(float));
        memcpy(r->dv + first * KEY_WIDTH, dv, (size_t)(n * KEY_WIDTH) * sizeof(float));
    }
    fur_arena_destroy(&arena);
    kit_exec_clear(&kit);
}

static void compare(const char *what, const float *got, const float *want, int64_t count)
{
    double off = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        off += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        size += (double)want[i] * (double)want[i];
    }
    if (!(sqrt(off / size) <= 2e-6))
        fail_msg("%s: off by %.2g from one process", what, sqrt(off / size));
}

/* Rank `rank` of `ranks`, each with `each` rows. Returns bytes sent. */
static int64_t run_rank(pipes *p, int rank, int ranks, int64_t each, rows *r)
{
    p->rank = rank;
    p->sent = p->messages = 0;
    fur_comm comm = {rank, ranks, p, pipe_send, pipe_receive};
    *r = rows_create(each);
    fill(r, each * ranks, rank * each, each);
    run_layer(&comm, each, r);
    int64_t neighbours = (rank > 0) + (rank < ranks - 1);
    assert_int_equal(p->messages, KEY_HEADS * neighbours);
    return p->sent;
}

static int64_t spread(int ranks, int64_t each)
{
    pipes p;
    pid_t child[MOST_RANKS];
    rows got[MOST_RANKS];
    for (int a = 0; a < ranks; a++)
        for (int b = 0; b < ranks; b++)
            assert_int_equal(pipe(p.pipe[a][b]), 0);
    for (int rank = 1; rank < ranks; rank++) {
        child[rank] = fork();
        assert_true(child[rank] >= 0);
        if (child[rank] == 0) { /* its own pipe to itself carries nothing: the way home */
            rows mine;
            fur_error error;
            (void)run_rank(&p, rank, ranks, each, &mine);
            _exit(move_all(&error, p.pipe[rank][rank][1], (char *)mine.all, mine.floats * 4, 1) != FUR_OK);
        }
    }
    int64_t sent = run_rank(&p, 0, ranks, each, &got[0]);
    rows whole = rows_create(each * ranks);
    for (int rank = 1; rank < ranks; rank++) {
        int status;
        fur_error error;
        got[rank] = rows_create(each);
        assert_int_equal(move_all(&error, p.pipe[rank][rank][0], (char *)got[rank].all, got[rank].floats * 4, 0),
                         FUR_OK);
        assert_int_equal(waitpid(child[rank], &status, 0), child[rank]);
        assert_int_equal(status, 0);
    }
    fill(&whole, each * ranks, 0, each * ranks);
    run_layer(NULL, each * ranks, &whole);
    for (int rank = 0; rank < ranks; rank++) {
        int64_t first = rank * each;
        compare("o", got[rank].o, whole.o + first * WIDTH, each * WIDTH);
        compare("lse", got[rank].lse, whole.lse + first * HEADS, each * HEADS);
        compare("dq", got[rank].dq, whole.dq + first * WIDTH, each * WIDTH);
        compare("dk", got[rank].dk, whole.dk + first * KEY_WIDTH, each * KEY_WIDTH);
        compare("dv", got[rank].dv, whole.dv + first * KEY_WIDTH, each * KEY_WIDTH);
    }
    for (int h = 0; h < HEADS; h++) {
        float sum = 0;
        for (int rank = 0; rank < ranks; rank++)
            sum += got[rank].dbias[h];
        assert_true(fabsf(sum - whole.dbias[h]) <= 1e-4f * fabsf(whole.dbias[h]) + 1e-4f);
    }
    for (int rank = 0; rank < ranks; rank++)
        free(got[rank].all);
    free(whole.all);
    for (int a = 0; a < ranks; a++)
        for (int b = 0; b < ranks; b++)
            for (int end = 0; end < 2; end++)
                (void)close(p.pipe[a][b][end]);
    return sent;
}

static void test_ranks(void **state)
{
    (void)state;
    int64_t small = spread(2, 6 * CHUNK), large = spread(2, 40 * CHUNK), three = spread(3, 9 * CHUNK);
    print_message("rank 0 sends %d bytes for 384 tokens, %d for 2,560, %d among three ranks\n", (int)small, (int)large,
                  (int)three);
    assert_int_equal(small, large);
    assert_int_equal(small, three);
}

/* What the seam does not do over ranks is refused. */
static void test_refused(void **state)
{
    (void)state;
    fur_comm comm = {0, 2, NULL, pipe_send, pipe_receive};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, 1 << 20);
    fur_attention_shape s = {.heads = 1, .kv_heads = 1, .head_dim = 8, .causal = 1, .comm = &comm};
    assert_int_equal(fur_attention_exact.exchange(&kit.exec, &s, NULL, NULL), FUR_E_UNSUPPORTED);
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranks), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
