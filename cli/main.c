/* SPDX-License-Identifier: Apache-2.0 */
/* The program: a verb, its options, its exit code. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "help.h"
#include "verb.h"

extern char **environ;

static int (*const runs[CLI_VERBS])(cli_session *) = {
    [CLI_DEMO] = verb_demo,           [CLI_TRAIN] = verb_train,         [CLI_FINETUNE] = verb_finetune,
    [CLI_EVAL] = verb_eval,           [CLI_AUDIT] = verb_audit,         [CLI_GENERATE] = verb_generate,
    [CLI_CHAT] = verb_chat,           [CLI_PLAN] = verb_plan,           [CLI_BENCH] = verb_bench,
    [CLI_CONVERT] = verb_convert,     [CLI_INSPECT] = verb_inspect,     [CLI_DOCTOR] = verb_doctor,
    [CLI_VERSION] = verb_version,     [CLI_LONG_STEP] = verb_long_step, [CLI_FIT_ATTENTION] = verb_fit_attention,
    [CLI_TOKENIZER] = verb_tokenizer,
};

/* Whether this machine has AVX-512, as the library sees it. */
static bool has_avx512(void)
{
    fur_context_settings settings;
    fur_context *context;
    fur_machine machine;
    fur_context_settings_defaults(&settings);
    settings.threads = 1;
    if (fur_context_create(&settings, &context, NULL, 0) != FUR_OK)
        return false;
    bool has = fur_machine_read(context, &machine) == FUR_OK && strstr(machine.isa_available, "avx512") != NULL;
    fur_context_destroy(context);
    return has;
}

/* Two libraries read the environment before main, so main starts over once with what they should find there.
 *
 * Threads of GCC's OpenMP that wait for each other spin for milliseconds by default. On a machine with other work that
 * starves the very thread they wait for: a training run beside a load of 11 on 2 cores made 40 steps in 54 s with short
 * spins and had not finished in 600 s without.
 *
 * OpenBLAS takes processors newer than itself for the last that it knows: 0.3.21 runs its AVX2 kernels on a Zen 5,
 * whose AVX-512 ones make tiles of a fit 1.3 (f32) and 1.5 (f64) times as fast. */
static void start_over(char **argv, const char *verb)
{
    static char spins[] = "GOMP_SPINCOUNT=3000", kernels[] = "OPENBLAS_CORETYPE=SkylakeX";
    char program[4096]; /* by its own path, so that process lists show its name */
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    bool polite = getenv("GOMP_SPINCOUNT") != NULL || getenv("OMP_WAIT_POLICY") != NULL;
    bool fast = strcmp(verb, "fit-attention") != 0 || getenv("OPENBLAS_CORETYPE") != NULL || !has_avx512();
    if (length <= 0 || (polite && fast))
        return;
    program[length] = 0;
    size_t count = 0;
    while (environ[count])
        count++;
    char **environment = cli_resize(NULL, count + 3, sizeof *environment);
    memcpy(environment, environ, count * sizeof *environment);
    if (!polite)
        environment[count++] = spins;
    if (!fast)
        environment[count++] = kernels;
    environment[count] = NULL;
    execve(program, argv, environment);
    cli_free(environment); /* it failed: the run is merely less polite, or slower */
}

/* Everything printed must have arrived: a full disk or a closed pipe behind stdout is a failure, not a success. */
static int close_stdout(int code)
{
    bool failed = ferror(stdout) != 0;
    failed = fflush(stdout) != 0 || failed;
    if (failed && code == CLI_OK) {
        if (errno != EPIPE)
            fprintf(stderr, "furlong: standard output: %s\n", strerror(errno));
        return CLI_FAILED;
    }
    return code;
}

static int print_text(cli_string *text)
{
    fputs(text->text, stdout);
    cli_string_clear(text);
    return close_stdout(CLI_OK);
}

static int print_help(cli_verb verb)
{
    cli_style style;
    cli_string text = {NULL, 0, 0};
    cli_style_of(stdout, &style);
    cli_help(&text, verb, style.columns, &style);
    return print_text(&text);
}

static int unknown_verb(const char *word)
{
    const char *near = cli_verb_nearest(word);
    if (near != NULL)
        fprintf(stderr, "furlong: unknown verb '%s'; did you mean %s?\n", word, near);
    else
        fprintf(stderr, "furlong: unknown verb '%s'; 'furlong help' lists them\n", word);
    return CLI_USAGE;
}

/* "help VERB", "--man VERB": the verb that follows, or CLI_VERBS where none does; -1 where it is unknown. */
static int verb_after(int argc, char **argv)
{
    if (argc < 3)
        return CLI_VERBS;
    cli_verb verb = cli_verb_find(argv[2]);
    return verb == CLI_VERBS ? -1 : (int)verb;
}

/* Words before any verb. Returns an exit code, or -1 where argv[1] is none of them. */
static int general(int argc, char **argv)
{
    const char *word = argv[1];
    cli_string text = {NULL, 0, 0};
    if (strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        int verb = verb_after(argc, argv);
        return verb < 0 ? unknown_verb(argv[2]) : print_help((cli_verb)verb);
    }
    if (strcmp(word, "--man") == 0) {
        int verb = verb_after(argc, argv);
        if (verb < 0)
            return unknown_verb(argv[2]);
        cli_man(&text, (cli_verb)verb);
        return print_text(&text);
    }
    if (strcmp(word, "--completion") == 0) {
        if (argc != 3 || !cli_completion(&text, argv[2])) {
            fprintf(stderr, "furlong: --completion: expected bash, zsh or fish%s%s\n", argc > 2 ? ", got " : "",
                    argc > 2 ? argv[2] : "");
            return CLI_USAGE;
        }
        return print_text(&text);
    }
    return -1;
}

static int run_verb(const char *program, cli_verb verb, int argc, char **argv)
{
    char error[CLI_ERROR];
    cli_options options;
    cli_session session = {.program = program, .options = &options};
    int code = cli_options_parse(&options, verb, argc, argv, error);
    if (code != CLI_OK) {
        fprintf(stderr, "furlong %s: %s\n", cli_verbs[verb].name, error);
    } else if (options.help) {
        code = print_help(verb);
    } else {
        cli_style_of(stdout, &session.out);
        cli_style_of(stderr, &session.err);
        code = close_stdout(runs[verb](&session));
    }
    cli_session_close(&session);
    cli_options_clear(&options);
    return code;
}

int main(int argc, char **argv)
{
    start_over(argv, argc > 1 ? argv[1] : "");
    /* writes then fail with EPIPE or EFBIG, and a checkpoint in progress is not torn */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    if (argc < 2) {
        (void)print_help(CLI_VERBS);
        return CLI_USAGE;
    }
    int code = general(argc, argv);
    if (code >= 0)
        return code;
    if (strcmp(argv[1], "--version") == 0)
        return run_verb(argv[0], CLI_VERSION, argc - 2, argv + 2);
    cli_verb verb = cli_verb_find(argv[1]);
    return verb == CLI_VERBS ? unknown_verb(argv[1]) : run_verb(argv[0], verb, argc - 2, argv + 2);
}
