/* SPDX-License-Identifier: Apache-2.0 */
/* What must be the same bits, and what must be close.
 *
 * Same bits: 1, 2, 3 threads; keeping nothing, everything, or what the plan likes; the same call again, on the same run
 * or another. Close: superblocks of any size, and instruction sets. Each of these differs from the truth by at most
 * 2e-6 of the gradient (tests/unit/model_gradient.c holds it to that), so two of them differ by at most twice as much.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit/files.h"
#include "kit/model.h"

#define CLOSE 4e-6

static char program[4096];

/* Everything that a training and an evaluation call give for a row. */
typedef struct answer {
    kit_gradient gradient;
    double loss; /* without gradient */
    int64_t tokens, outputs;
    float *y, *nll;
} answer;

static void answer_of(kit_run *run, const kit_row *row, answer *out)
{
    const fur_model_config *c = fur_model_config_of(run->model);
    kit_gradient_create(run, row, NULL, 1.0, &out->gradient);
    out->tokens = row->tokens;
    out->outputs = c->features ? c->outputs : c->vocabulary;
    out->y = calloc((size_t)(out->tokens * out->outputs), sizeof *out->y);
    out->nll = calloc((size_t)out->tokens, sizeof *out->nll);
    assert_true(out->y && out->nll);
    kit_ok(run->context, fur_model_loss(run->run, &row->row, NULL, &out->loss, out->nll));
    kit_ok(run->context, fur_model_outputs(run->run, &row->row, out->y));
}

static void answer_clear(answer *a)
{
    kit_gradient_destroy(&a->gradient);
    free(a->y);
    free(a->nll);
}

static void check_same(const char *name, const char *what, const answer *a, const answer *b)
{
    char text[160];
    snprintf(text, sizeof text, "%s: %s", name, what);
    kit_check_same_bits(text, &a->loss, &b->loss, sizeof a->loss);
    kit_check_same_bits(text, &a->gradient.loss, &b->gradient.loss, sizeof a->loss);
    kit_check_same_bits(text, a->gradient.all, b->gradient.all, (size_t)a->gradient.count * sizeof(float));
    kit_check_same_bits(text, a->gradient.dx, b->gradient.dx, (size_t)a->gradient.dx_count * sizeof(float));
    kit_check_same_bits(text, a->y, b->y, (size_t)(a->tokens * a->outputs) * sizeof(float));
    kit_check_same_bits(text, a->nll, b->nll, (size_t)a->tokens * sizeof(float));
}

/* scaled: documents that many times longer */
static void answer_of_scaled(const kit_model_case *at, int64_t scaled, int threads, int64_t superblock, fur_keep keep,
                             answer *out)
{
    fur_context *context = kit_context(threads);
    fur_model_config config = kit_config_for(&at->config, 512 * scaled);
    fur_model *model = kit_model(context, &config, 31);
    kit_row row;
    kit_row_create(&config, at->lengths, scaled, 32, &row);
    kit_run run;
    kit_run_create(context, model, &row, superblock, keep, &run);
    answer_of(&run, &row, out);
    kit_run_destroy(&run);
    kit_row_destroy(&row);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

static void answer_from_scratch(const kit_model_case *at, int threads, int64_t superblock, fur_keep keep, answer *out)
{
    answer_of_scaled(at, 1, threads, superblock, keep, out);
}

/* ---- same bits --------------------------------------------------------------------------------------------------- */

static void model_bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++) {
        const kit_model_case *at = &kit_model_cases[i];
        for (int64_t superblock = 0; superblock <= 64; superblock += 64) {
            answer one, other;
            answer_from_scratch(at, 1, superblock, FUR_KEEP_NOTHING, &one);
            for (int threads = 2; threads <= 3; threads++) {
                answer_from_scratch(at, threads, superblock, FUR_KEEP_NOTHING, &other);
                check_same(at->name, "threads", &one, &other);
                answer_clear(&other);
            }
            answer_clear(&one);
        }
    }
    static const int gpt_and_llama[] = {0, 3};
    for (int i = 0; i < 2; i++) {
        const kit_model_case *at = &kit_model_cases[gpt_and_llama[i]];
        answer one, other;
        answer_of_scaled(at, 5, 1, 300, FUR_KEEP_AUTO, &one);
        for (int threads = 2; threads <= 3; threads++) {
            answer_of_scaled(at, 5, threads, 300, FUR_KEEP_AUTO, &other);
            check_same(at->name, "threads at 1,000 tokens", &one, &other);
            answer_clear(&other);
        }
        answer_clear(&one);
    }
    print_message("%d shapes, 200 and 1,000 tokens: the same bits for 1, 2 and 3 threads\n", kit_model_case_count);
}

static void model_bits_do_not_depend_on_what_is_kept(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++) {
        const kit_model_case *at = &kit_model_cases[i];
        answer nothing, other;
        answer_from_scratch(at, 2, 64, FUR_KEEP_NOTHING, &nothing);
        answer_from_scratch(at, 2, 64, FUR_KEEP_ALL, &other);
        check_same(at->name, "keep nothing, keep all", &nothing, &other);
        answer_clear(&other);
        answer_from_scratch(at, 2, 64, FUR_KEEP_AUTO, &other);
        check_same(at->name, "keep nothing, as the plan likes", &nothing, &other);
        answer_clear(&other);
        answer_clear(&nothing);
    }
    print_message("%d shapes: the same bits whatever is kept\n", kit_model_case_count);
}

/* Every way to keep, one by one: attention only is between the plan's two ends, reached by a memory limit. */
static void model_bits_with_attention_alone_kept(void **state)
{
    (void)state;
    const kit_model_case *at = &kit_model_cases[3];
    fur_context *context = kit_context(2);
    fur_model *model = kit_model(context, &at->config, 31);
    kit_row row;
    kit_row_create(&at->config, at->lengths, 1, 32, &row);
    kit_run nothing, all, between;
    kit_run_create(context, model, &row, 64, FUR_KEEP_NOTHING, &nothing);
    answer a, b;
    answer_of(&nothing, &row, &a);
    kit_run_destroy(&nothing);
    kit_run_create(context, model, &row, 64, FUR_KEEP_ALL, &all);
    between = all;
    fur_run_destroy(all.run);
    between.request.keep = FUR_KEEP_AUTO;
    between.request.memory_bytes = all.plan.peak_bytes - 1;
    kit_ok(context, fur_plan_make(context, &at->config, &between.request, &between.plan));
    assert_true(between.plan.fits && between.plan.keep_attention && !between.plan.keep_hidden);
    assert_int_equal(between.plan.loss_tile, all.plan.loss_tile);
    kit_ok(context, fur_run_create(context, model, &between.plan, &between.request, &between.run));
    answer_of(&between, &row, &b);
    check_same(at->name, "attention alone kept", &a, &b);
    answer_clear(&a);
    answer_clear(&b);
    kit_run_destroy(&between);
    kit_row_destroy(&row);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

static void model_bits_twice(void **state)
{
    (void)state;
    const kit_model_case *at = &kit_model_cases[0];
    fur_context *context = kit_context(2);
    fur_model *model = kit_model(context, &at->config, 31);
    kit_row row, between;
    kit_row_create(&at->config, at->lengths, 1, 32, &row);
    kit_row_create(&at->config, (int64_t[]){3, 90, 0}, 1, 33, &between);
    kit_run run;
    kit_run_create(context, model, &row, 37, FUR_KEEP_ALL, &run);
    answer first, other, again;
    answer_of(&run, &row, &first);
    answer_of(&run, &between, &other); /* leaves its marks in the arena */
    answer_of(&run, &row, &again);
    check_same(at->name, "the same run again", &first, &again);
    answer_clear(&again);
    answer_from_scratch(at, 2, 37, FUR_KEEP_ALL, &again);
    check_same(at->name, "another run", &first, &again);
    answer_clear(&again);
    answer_clear(&first);
    answer_clear(&other);
    kit_run_destroy(&run);
    kit_row_destroy(&row);
    kit_row_destroy(&between);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

/* ---- close ------------------------------------------------------------------------------------------------------- */

static double difference(int64_t count, const float *a, const float *b)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)a[i] * (double)a[i];
    }
    return sqrt(error / size);
}

static double check_close(const char *name, const char *what, const answer *a, const answer *b)
{
    double gradient = difference(a->gradient.count, a->gradient.all, b->gradient.all);
    double dx = difference(a->gradient.dx_count, a->gradient.dx, b->gradient.dx);
    double y = difference(a->tokens * a->outputs, a->y, b->y);
    double loss = fabs(a->gradient.loss - b->gradient.loss) / fabs(a->gradient.loss);
    if (!(gradient <= CLOSE && dx <= CLOSE && y <= CLOSE && loss <= CLOSE))
        fail_msg("%s: %s: gradient %.3g, input gradient %.3g, outputs %.3g, loss %.3g apart", name, what, gradient, dx,
                 y, loss);
    return fmax(fmax(gradient, dx), fmax(y, loss));
}

static void model_superblocks_of_any_size_are_close(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 7, 31, 64, 65, 128, 199, 200, 4096};
    for (int i = 0; i < kit_model_case_count; i++) {
        const kit_model_case *at = &kit_model_cases[i];
        double worst = 0;
        answer reference, other;
        answer_from_scratch(at, 1, 37, FUR_KEEP_NOTHING, &reference);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            answer_from_scratch(at, 1, sizes[s], FUR_KEEP_NOTHING, &other);
            worst = fmax(worst, check_close(at->name, "superblocks", &reference, &other));
            answer_clear(&other);
        }
        print_message("%-50s superblocks of 1 to 4096: %.1e apart at most (bound %.0e)\n", at->name, worst, CLOSE);
        answer_clear(&reference);
    }
}

/* ---- instruction sets, each in a process of its own -------------------------------------------------------------- */

static void write_all(FILE *file, void *data, size_t bytes)
{
    if (fwrite(data, 1, bytes, file) != bytes)
        fail_msg("cannot write an answer");
}

static void read_all(FILE *file, void *data, size_t bytes)
{
    if (fread(data, 1, bytes, file) != bytes)
        fail_msg("an answer is short");
}

static void answer_through(FILE *file, answer *a, void (*through)(FILE *, void *, size_t))
{
    through(file, &a->gradient.loss, sizeof a->loss);
    through(file, a->gradient.all, (size_t)a->gradient.count * sizeof(float));
    through(file, a->gradient.dx, (size_t)a->gradient.dx_count * sizeof(float));
    through(file, a->y, (size_t)(a->tokens * a->outputs) * sizeof(float));
}

/* What the child does: all shapes' answers into a file. */
static int dump(const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        return 1;
    for (int i = 0; i < kit_model_case_count; i++) {
        answer a;
        answer_from_scratch(&kit_model_cases[i], 1, 64, FUR_KEEP_NOTHING, &a);
        answer_through(file, &a, write_all);
        answer_clear(&a);
    }
    return fclose(file) != 0;
}

/* Runs this program as `program --dump path` on one instruction set. Returns its exit code. */
static int run_child(const char *isa, const char *path)
{
    pid_t child = fork();
    if (child < 0)
        fail_msg("fork failed");
    if (child == 0) {
        setenv("FURLONG_ISA", isa, 1);
        execl(program, program, "--dump", path, (char *)NULL);
        _exit(127);
    }
    int status;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
        fail_msg("the child for %s did not exit", isa);
    return WEXITSTATUS(status);
}

static void model_instruction_sets_are_close(void **state)
{
    (void)state;
    static const char *const isas[] = {"ref", "avx2", "avx512"};
    kit_folder folder;
    kit_folder_init(&folder);
    for (int isa = 0; isa < 3; isa++) {
        const char *path = kit_path(&folder, isas[isa]);
        int code = run_child(isas[isa], path);
        if (code == 77) {
            print_message("%s: not on this machine\n", isas[isa]);
            continue;
        }
        assert_int_equal(code, 0);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        double worst = 0;
        for (int i = 0; i < kit_model_case_count; i++) {
            answer here, there;
            answer_from_scratch(&kit_model_cases[i], 1, 64, FUR_KEEP_NOTHING, &here);
            answer_from_scratch(&kit_model_cases[i], 1, 64, FUR_KEEP_NOTHING, &there);
            answer_through(file, &there, read_all);
            worst = fmax(worst, check_close(kit_model_cases[i].name, isas[isa], &here, &there));
            answer_clear(&here);
            answer_clear(&there);
        }
        fclose(file);
        fur_context *context = kit_context(1);
        print_message("%s against %s: %.1e apart at most (bound %.0e)\n", fur_context_isa(context), isas[isa], worst,
                      CLOSE);
        fur_context_destroy(context);
    }
    kit_folder_clear(&folder);
}

/* Rates that a model's file carries change nothing until the caller says what their draws depend on. */
static void dropout_waits_for_its_seed(void **state)
{
    (void)state;
    const kit_model_case *at = &kit_model_cases[3];
    fur_context *context = kit_context(1);
    kit_gradient plain, without, with, again;
    kit_row row;
    kit_run run;
    kit_row_create(&at->config, at->lengths, 1, 32, &row);
    for (int dropping = 0; dropping < 2; dropping++) {
        fur_model_config config = at->config;
        config.dropout = config.attention_dropout = dropping ? 0.3 : 0;
        fur_model *model = kit_model(context, &config, 31);
        kit_run_create(context, model, &row, 64, FUR_KEEP_NOTHING, &run);
        kit_gradient_create(&run, &row, NULL, 1.0, dropping ? &without : &plain);
        if (dropping) {
            fur_run_set_random(run.run, 0, 0);
            kit_gradient_create(&run, &row, NULL, 1.0, &with);
            fur_run_set_random(run.run, 0, 1);
            kit_gradient_create(&run, &row, NULL, 1.0, &again);
        }
        kit_run_destroy(&run);
        fur_model_destroy(model);
    }
    kit_check_same_bits("before fur_run_set_random", plain.all, without.all, (size_t)plain.count * sizeof(float));
    assert_true(plain.loss != with.loss && with.loss != again.loss);
    kit_gradient_destroy(&plain);
    kit_gradient_destroy(&without);
    kit_gradient_destroy(&with);
    kit_gradient_destroy(&again);
    kit_row_destroy(&row);
    fur_context_destroy(context);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--dump") == 0)
        return dump(argv[2]);
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_bits_do_not_depend_on_threads),
        cmocka_unit_test(model_bits_do_not_depend_on_what_is_kept),
        cmocka_unit_test(model_bits_with_attention_alone_kept),
        cmocka_unit_test(model_bits_twice),
        cmocka_unit_test(dropout_waits_for_its_seed),
        cmocka_unit_test(model_superblocks_of_any_size_are_close),
        cmocka_unit_test(model_instruction_sets_are_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
