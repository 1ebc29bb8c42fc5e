/* SPDX-License-Identifier: Apache-2.0 */
#include "op/matmul/matmul_dnnl.h"

#if FUR_HAVE_DNNL

#    include <dnnl.h>
#    include <omp.h>
#    include <pthread.h>
#    include <signal.h>
#    include <string.h>

#    include "base/alloc.h"

/* Three quarters are used, about 18 KB each: base/context.c plans for them. Rows of ever new lengths fill the cache
 * with shapes that do not come back; the common ones came first, and the rest is made for each call (0.3 ms). */
#    define CACHE_SLOTS 512

typedef struct product_key {
    int64_t m, n, k, lda, ldb, ldc;
    int64_t flags; /* bit 0: A transposed, 1: B transposed, 2: accumulate, 3: bias */
} product_key;

struct fur_dnnl_product {
    product_key key;
    int cached; /* owned by the cache, else by the caller */
    dnnl_memory_desc_t a, b, c, bias, scratch;
    dnnl_primitive_t primitive;
};

static struct {
    pthread_mutex_t lock;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    fur_dnnl_product *slots[CACHE_SLOTS];
    int count;
    int isa_cap; /* -1: not yet set */
} library = {.lock = PTHREAD_MUTEX_INITIALIZER, .isa_cap = -1};

static product_key key_of(const fur_matmul_args *t)
{
    product_key key;
    memset(&key, 0, sizeof key); /* compared as bytes */
    key = (product_key){t->m,
                        t->n,
                        t->k,
                        t->lda,
                        t->ldb,
                        t->ldc,
                        (t->a_transposed ? 1 : 0) | (t->b_transposed ? 2 : 0) | (t->accumulate ? 4 : 0) |
                            (t->bias_N ? 8 : 0)};
    return key;
}

static uint64_t hash_of(const product_key *key)
{
    const int64_t *words = (const int64_t *)key;
    uint64_t hash = 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < sizeof *key / sizeof *words; i++)
        hash = (hash ^ (uint64_t)words[i]) * 0xD1342543DE82EF95u ^ hash >> 29;
    return hash ^ hash >> 32;
}

static dnnl_status_t describe(dnnl_memory_desc_t *out, int64_t rows, int64_t columns, int64_t ld, int transposed)
{
    dnnl_dims_t dims = {rows, columns};
    dnnl_dims_t strides = {transposed ? 1 : ld, transposed ? ld : 1};
    return dnnl_memory_desc_init_by_strides(out, 2, dims, dnnl_f32, strides);
}

static dnnl_status_t make_descriptor(fur_dnnl_product *p, const fur_matmul_args *t, dnnl_primitive_attr_t attributes,
                                     dnnl_primitive_desc_t *out)
{
    dnnl_matmul_desc_t desc;
    dnnl_status_t s = describe(&p->a, t->m, t->k, t->lda, t->a_transposed);
    s = s ? s : describe(&p->b, t->k, t->n, t->ldb, t->b_transposed);
    s = s ? s : describe(&p->c, t->m, t->n, t->ldc, 0);
    s = s ? s : describe(&p->bias, 1, t->n, t->n, 0);
    s = s ? s : dnnl_matmul_desc_init(&desc, &p->a, &p->b, t->bias_N ? &p->bias : NULL, &p->c);
    s = s ? s : dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (s == dnnl_success && t->accumulate) {
        dnnl_post_ops_t post;
        s = dnnl_post_ops_create(&post);
        if (s == dnnl_success) {
            s = dnnl_post_ops_append_sum(post, 1.0f);
            s = s ? s : dnnl_primitive_attr_set_post_ops(attributes, post);
            dnnl_post_ops_destroy(post);
        }
    }
    return s ? s : dnnl_primitive_desc_create(out, &desc, attributes, library.engine, NULL);
}

/* The primitive keeps the thread count of its creation; one, so that tiles can run side by side. */
static dnnl_status_t make_primitive(fur_dnnl_product *p, const fur_matmul_args *t)
{
    dnnl_primitive_attr_t attributes;
    dnnl_status_t s = dnnl_primitive_attr_create(&attributes);
    if (s != dnnl_success)
        return s;
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    dnnl_primitive_desc_t desc;
    s = make_descriptor(p, t, attributes, &desc);
    if (s == dnnl_success) {
        p->scratch = *dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
        s = dnnl_primitive_create(&p->primitive, desc);
        dnnl_primitive_desc_destroy(desc);
    }
    omp_set_num_threads(threads);
    dnnl_primitive_attr_destroy(attributes);
    return s;
}

static fur_status acquire_locked(fur_error *error, const fur_matmul_args *t, fur_dnnl_product **out)
{
    dnnl_status_t s = dnnl_success;
    if (!library.engine) {
        s = dnnl_engine_create(&library.engine, dnnl_cpu, 0);
        s = s ? s : dnnl_stream_create(&library.stream, library.engine, dnnl_stream_default_flags);
    }
    product_key key = key_of(t);
    size_t slot = hash_of(&key) % CACHE_SLOTS;
    for (; library.slots[slot]; slot = (slot + 1) % CACHE_SLOTS)
        if (memcmp(&library.slots[slot]->key, &key, sizeof key) == 0) {
            *out = library.slots[slot];
            return FUR_OK;
        }
    fur_dnnl_product *p = fur_calloc(1, sizeof *p);
    if (!p)
        return fur_error_set(error, FUR_E_MEMORY, "matmul: no memory for a primitive");
    p->key = key;
    s = s ? s : make_primitive(p, t);
    if (s != dnnl_success || (int64_t)dnnl_memory_desc_get_size(&p->scratch) > FUR_DNNL_SCRATCH_BYTES) {
        fur_status status = fur_error_set(error, s == dnnl_out_of_memory ? FUR_E_MEMORY : FUR_E_INTERNAL,
                                          "matmul: oneDNN status %d, scratch %zu, for tile [%lld,%lld,%lld]", (int)s,
                                          s ? (size_t)0 : dnnl_memory_desc_get_size(&p->scratch), (long long)t->m,
                                          (long long)t->n, (long long)t->k);
        if (p->primitive)
            dnnl_primitive_destroy(p->primitive);
        fur_free(p);
        return status;
    }
    if (library.count < CACHE_SLOTS * 3 / 4) { /* a full cache hands primitives to the caller instead */
        p->cached = 1;
        library.slots[slot] = p;
        library.count++;
    }
    *out = p;
    return FUR_OK;
}

fur_status fur_dnnl_product_acquire(fur_error *error, const fur_matmul_args *tile, fur_dnnl_product **out)
{
    pthread_mutex_lock(&library.lock);
    fur_status status = acquire_locked(error, tile, out);
    pthread_mutex_unlock(&library.lock);
    return status;
}

void fur_dnnl_product_release(fur_dnnl_product *p)
{
    if (!p || p->cached)
        return;
    dnnl_primitive_destroy(p->primitive);
    fur_free(p);
}

/* oneDNN's generated f32 kernels (seen in 2.6.3) point the stack register into a buffer on the heap while they
 * run: a signal handler's frame would be written below that buffer, over whatever lies there. So no handler runs on a
 * thread inside a product; those of a fault of the thread itself stay as they are. Costs two system calls a tile. */
static void block_signals(sigset_t *before)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        sigdelset(&set, faults[i]);
    pthread_sigmask(SIG_SETMASK, &set, before);
}

int fur_dnnl_product_run(const fur_dnnl_product *p, const fur_matmul_args *t, void *scratch)
{
    enum { A, B, C, SCRATCH, BIAS, COUNT };
    const dnnl_memory_desc_t *desc[COUNT] = {&p->a, &p->b, &p->c, &p->scratch, &p->bias};
    /* oneDNN takes all handles as void *; the inputs are only read */
    const void *data[COUNT] = {t->a, t->b, t->c, scratch, t->bias_N};
    static const int names[COUNT] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD, DNNL_ARG_BIAS};
    dnnl_exec_arg_t arguments[COUNT];
    dnnl_memory_t memory[COUNT] = {NULL};
    int count = t->bias_N ? COUNT : COUNT - 1;
    dnnl_status_t s = dnnl_success;
    for (int i = 0; i < count && s == dnnl_success; i++) {
        s = dnnl_memory_create(&memory[i], desc[i], library.engine, (void *)(uintptr_t)data[i]);
        arguments[i] = (dnnl_exec_arg_t){names[i], memory[i]};
    }
    sigset_t before;
    block_signals(&before);
    s = s ? s : dnnl_primitive_execute(p->primitive, library.stream, count, arguments);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (int i = 0; i < count; i++)
        if (memory[i])
            dnnl_memory_destroy(memory[i]);
    return s != dnnl_success;
}

fur_status fur_matmul_limit_isa(fur_error *error, fur_isa isa)
{
    pthread_mutex_lock(&library.lock);
    fur_status status = FUR_OK;
    isa = isa > FUR_ISA_AVX512 ? FUR_ISA_AVX512 : isa; /* its products are f32 */
    if (isa != FUR_ISA_REF && (int)isa != library.isa_cap) {
        dnnl_cpu_isa_t cap = isa >= FUR_ISA_AVX512 ? dnnl_cpu_isa_avx512_core : dnnl_cpu_isa_avx2;
        if (library.engine || dnnl_set_max_cpu_isa(cap) != dnnl_success)
            status =
                fur_error_set(error, FUR_E_UNSUPPORTED,
                              "one process uses one instruction set for matrix products: start another for this one");
        else
            library.isa_cap = (int)isa;
    }
    pthread_mutex_unlock(&library.lock);
    return status;
}

void fur_matmul_cache_clear(void)
{
    pthread_mutex_lock(&library.lock);
    for (int i = 0; i < CACHE_SLOTS; i++)
        if (library.slots[i]) {
            library.slots[i]->cached = 0;
            fur_dnnl_product_release(library.slots[i]);
            library.slots[i] = NULL;
        }
    library.count = 0;
    pthread_mutex_unlock(&library.lock);
}

#else

fur_status fur_dnnl_product_acquire(fur_error *error, const fur_matmul_args *tile, fur_dnnl_product **out)
{
    (void)tile;
    *out = NULL;
    return fur_error_set(error, FUR_E_INTERNAL, "this build has no oneDNN");
}

void fur_dnnl_product_release(fur_dnnl_product *p)
{
    (void)p;
}

int fur_dnnl_product_run(const fur_dnnl_product *p, const fur_matmul_args *t, void *scratch)
{
    (void)p;
    (void)t;
    (void)scratch;
    return 1;
}

fur_status fur_matmul_limit_isa(fur_error *error, fur_isa isa)
{
    (void)error;
    (void)isa;
    return FUR_OK;
}

void fur_matmul_cache_clear(void) {}

#endif
