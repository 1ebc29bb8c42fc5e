/* SPDX-License-Identifier: Apache-2.0 */
/* The long step of the demo: this program again, as a child that may not allocate more than the limit. Only a process
 * of its own has a peak of its own. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "demo.h"

#define CHILD_WORDS 24

typedef struct child {
    pid_t pid;
    int out; /* its stdout: JSON objects, one a line; the last is the answer, those before tell how far it is */
    cli_string lines; /* what came from there and is not yet taken */
    json_t *answer;   /* the last object */
    double progress, seconds_left;
} child;

/* The program's own file, else the name it was called by. */
static const char *program_file(const cli_session *session)
{
    return access("/proc/self/exe", X_OK) == 0 ? "/proc/self/exe" : session->program;
}

static bool child_start(const cli_session *session, char *const *words, child *c)
{
    int ends[2];
    const char *file = program_file(session);
    *c = (child){.pid = -1, .out = -1};
    if (pipe(ends) != 0)
        return false;
    (void)fflush(stdout);
    (void)fflush(stderr);
    c->pid = fork();
    if (c->pid == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)execvp(file, words);
        _exit(127);
    }
    (void)close(ends[1]);
    c->out = ends[0];
    if (c->pid < 0)
        (void)close(ends[0]);
    return c->pid > 0;
}

/* VmRSS of a process, 0 where unknown. */
static int64_t process_rss(pid_t pid)
{
    char path[64], line[256];
    int64_t kibibytes = 0;
    (void)snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "rb");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "VmRSS:", 6) == 0)
            kibibytes = strtoll(line + 6, NULL, 10);
    if (file != NULL)
        (void)fclose(file);
    return kibibytes * 1024;
}

/* Takes whole lines. */
static void take_lines(child *c)
{
    for (char *end; c->lines.text != NULL && (end = strchr(c->lines.text, '\n')) != NULL;) {
        *end = '\0';
        json_t *object = json_loads(c->lines.text, 0, NULL);
        json_t *progress = json_object_get(object, "progress");
        if (progress != NULL) {
            c->progress = json_number_value(progress);
            c->seconds_left = json_number_value(json_object_get(object, "seconds_left"));
            json_decref(object);
        } else {
            json_decref(c->answer);
            c->answer = object;
        }
        size_t taken = (size_t)(end + 1 - c->lines.text);
        c->lines.length -= taken;
        memmove(c->lines.text, end + 1, c->lines.length + 1);
    }
}

static void show_progress(const child *c, cli_live *live, const demo_step_request *request, double now, int64_t rss)
{
    char count[CLI_UNIT], a[CLI_UNIT], b[CLI_UNIT], bytes[CLI_UNIT], limit[CLI_UNIT], line[256], done[80];
    if (c->progress > 0.0)
        (void)snprintf(done, sizeof done, "%.0f %%, %s left", 100.0 * c->progress,
                       cli_seconds(a, (double)(int64_t)(c->seconds_left + 1.0)));
    else
        (void)snprintf(done, sizeof done, "%s of about %s", cli_seconds(a, (double)(int64_t)now),
                       cli_seconds(b, request->expected_seconds));
    (void)snprintf(line, sizeof line, "one step over %s bytes: %s, memory %s of at most %s",
                   cli_thousands(count, request->tokens), done, cli_bytes(bytes, rss),
                   cli_bytes(limit, request->memory_bytes));
    cli_live_text(live, line);
}

/* Reads what the child says until it closes its end, sampling its memory ten times a second. */
static void child_watch(child *c, cli_live *live, const demo_step_request *request, cli_trace *trace)
{
    double start = cli_clock();
    for (bool open = true; open;) {
        struct pollfd wait = {.fd = c->out, .events = POLLIN};
        int ready = poll(&wait, 1, 100);
        double now = cli_clock() - start;
        int64_t rss = process_rss(c->pid);
        if (cli_signal_code() != 0)
            (void)kill(c->pid, SIGTERM);
        if (ready > 0) {
            char block[1024];
            ssize_t got = read(c->out, block, sizeof block);
            if (got > 0)
                cli_append_bytes(&c->lines, block, (size_t)got);
            take_lines(c);
            open = got > 0 || (got < 0 && errno == EINTR);
        } else if (ready < 0 && errno != EINTR) {
            open = false;
        }
        if (rss > 0) {
            cli_trace_add(trace, now, (double)rss);
            show_progress(c, live, request, now, rss);
        }
    }
    (void)close(c->out);
}

/* Exit code of the child, its signal turned into 128 + number. */
static int child_wait(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool read_answer(const child *c, cli_long_step *step)
{
    const json_t *object = c->answer;
    bool good = json_is_object(object);
    if (good) {
        step->tokens = json_integer_value(json_object_get(object, "tokens"));
        step->seconds = json_number_value(json_object_get(object, "seconds"));
        step->planned_seconds = json_number_value(json_object_get(object, "planned_seconds"));
        step->measured_peak_bytes = json_integer_value(json_object_get(object, "peak_rss_bytes"));
        step->planned_peak_bytes = json_integer_value(json_object_get(object, "planned_peak_bytes"));
        step->limit_bytes = json_integer_value(json_object_get(object, "limit_bytes"));
        step->loss = json_number_value(json_object_get(object, "loss"));
        good = step->tokens > 0 && step->measured_peak_bytes > 0 && step->planned_peak_bytes > 0;
    }
    return good;
}

int demo_step_run(cli_session *session, cli_live *live, const demo_step_request *request, cli_long_step *step,
                  cli_trace *trace)
{
    char tokens[CLI_UNIT], memory[CLI_UNIT], threads[CLI_UNIT];
    child c;
    (void)snprintf(tokens, sizeof tokens, "%" PRId64, request->tokens);
    (void)snprintf(memory, sizeof memory, "%" PRId64, request->memory_bytes);
    (void)snprintf(threads, sizeof threads, "%d", fur_context_threads(session->context));
    const char *words[CHILD_WORDS] = {"furlong",  "long-step",
                                      "-m",       request->checkpoint,
                                      "-f",       request->text_path,
                                      "-c",       tokens,
                                      "--memory", memory,
                                      "-o",       request->folder,
                                      "-t",       threads,
                                      "--isa",    fur_context_isa(session->context),
                                      "--json",   NULL};
    char *copies[CHILD_WORDS] = {NULL};
    for (int i = 0; words[i] != NULL; i++)
        copies[i] = cli_copy(words[i]); /* exec wants words that it could write to */
    bool started = child_start(session, copies, &c);
    int reason = errno;
    for (int i = 0; copies[i] != NULL; i++)
        cli_free(copies[i]);
    if (!started)
        return cli_refuse(session, CLI_FAILED, "starting %s: %s", program_file(session), strerror(reason));
    child_watch(&c, live, request, trace);
    int code = child_wait(c.pid);
    cli_live_clear(live);
    bool answered = read_answer(&c, step);
    cli_string_clear(&c.lines);
    json_decref(c.answer);
    if (cli_signal_code() != 0)
        return cli_signal_code();
    if (code == CLI_OK && !answered)
        return cli_refuse(session, CLI_FAILED, "the step over %s bytes gave no answer", tokens);
    if (code > 128)
        return cli_refuse(session, CLI_FAILED, "the step over %s bytes was ended by signal %d", tokens, code - 128);
    return code;
}
