/* SPDX-License-Identifier: Apache-2.0 */
/* A signal handler that runs during a matrix product must find a stack under it: the library's generated kernels use
 * the stack register for other things, and a handler's frame then lands in the heap. The handler looks at where its own
 * frame is; nothing is damaged to find out. */
#include "kit/kit.h"

#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "base/clock.h"
#include "op/matmul/matmul.h"

static volatile sig_atomic_t handled, off_stack;
static volatile uintptr_t stack_top, stack_room;

static void on_alarm(int number)
{
    volatile char here = 0;
    uintptr_t at = (uintptr_t)&here;
    (void)number;
    handled++;
    if (at > stack_top || stack_top - at > stack_room)
        off_stack++;
}

/* Products of the shapes of a small model, one thread, under a timer of 0.2 ms, until 500 signals have come. */
static void test_handler_has_a_stack(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{512, 384, 128}, {128, 384, 512}, {300, 130, 70}, {1024, 256, 128}};
    volatile char here = 0;
    stack_top = (uintptr_t)&here + 65536;
    stack_room = (uintptr_t)16 << 20;
    kit_exec kit;
    kit_exec_init(&kit, kit_best_isa(), 1, 16 << 20);
    float *a = kit_guard_filled(1 << 20, KIT_NORMAL, 1), *b = kit_guard_filled(1 << 20, KIT_NORMAL, 2);
    float *c = kit_guard_f32(1 << 20);

    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    action.sa_flags = SA_RESTART;
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    struct itimerval timer = {{0, 200}, {0, 200}}, off = {{0, 0}, {0, 0}};
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
    double start = fur_clock_seconds();
    for (int round = 0; handled < 500 && fur_clock_seconds() - start < 60; round++) {
        const int64_t *s = sizes[round % 4];
        fur_matmul_args args = {.m = s[0],
                                .n = s[1],
                                .k = s[2],
                                .a = a,
                                .lda = s[2],
                                .b = b,
                                .ldb = s[2],
                                .b_transposed = 1,
                                .c = c,
                                .ldc = s[1]};
        if (fur_matmul(&kit.exec, &args) != FUR_OK)
            fail_msg("%s", kit.error.text);
    }
    assert_int_equal(setitimer(ITIMER_REAL, &off, NULL), 0);
    kit_exec_clear(&kit);
    kit_guard_free_all();
    assert_true(handled >= 500);
    assert_int_equal(off_stack, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_handler_has_a_stack)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
