/* SPDX-License-Identifier: Apache-2.0 */
/* SVG pictures. */
#include "plot.h"

#include <math.h>
#include <string.h>

#include "report_style.h"

#define WIDTH       640.0
#define HEIGHT      330.0
#define MOST_POINTS 600

void cli_append_html(cli_string *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<': cli_append(out, "&lt;"); break;
        case '>': cli_append(out, "&gt;"); break;
        case '&': cli_append(out, "&amp;"); break;
        case '"': cli_append(out, "&quot;"); break;
        case '\'': cli_append(out, "&#39;"); break;
        default: cli_append_bytes(out, text, 1);
        }
    }
}

/* ---- axes --------------------------------------------------------------------------------------------------- */

static double place(const cli_axis *axis, double value)
{
    if (axis->log)
        return (log(value) - log(axis->low)) / (log(axis->high) - log(axis->low));
    return (value - axis->low) / (axis->high - axis->low);
}

static double at_x(const cli_plot *plot, double x)
{
    return plot->left + place(&plot->x, x) * (plot->right - plot->left);
}

static double at_y(const cli_plot *plot, double y)
{
    double at = plot->bottom - place(&plot->y, y) * (plot->bottom - plot->top);
    return at < plot->top - 40 ? plot->top - 40 : at > plot->bottom + 40 ? plot->bottom + 40 : at;
}

/* A round step (1, 2 or 5 times a power of the base) that gives about `wanted` ticks. */
static double round_step(double range, int wanted, cli_unit unit)
{
    static const double clock[] = {1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400};
    double rough = range / wanted, base = 1.0;
    if (unit == CLI_UNIT_SECONDS && rough > 0.5 && rough < 86400.0) {
        int i = 0;
        while (clock[i] < rough)
            i++;
        return clock[i];
    }
    if (unit == CLI_UNIT_BYTES)
        while (rough >= base * 1024.0)
            base *= 1024.0;
    double power = base * pow(10.0, floor(log10(rough / base)));
    double ratio = rough / power;
    return power * (ratio <= 1.0 ? 1.0 : ratio <= 2.0 ? 2.0 : ratio <= 5.0 ? 5.0 : 10.0);
}

static void tick_text(char out[CLI_UNIT], cli_unit unit, double value, double step)
{
    switch (unit) {
    case CLI_UNIT_BYTES: (void)cli_bytes(out, (int64_t)(value + 0.5)); break;
    case CLI_UNIT_TOKENS: (void)cli_count(out, (int64_t)(value + 0.5)); break;
    case CLI_UNIT_COUNT: (void)cli_thousands(out, (int64_t)(value + 0.5)); break;
    case CLI_UNIT_SECONDS:
        if (fmod(step, 86400.0) == 0.0)
            (void)snprintf(out, CLI_UNIT, "%g d", value / 86400.0);
        else if (fmod(step, 3600.0) == 0.0)
            (void)snprintf(out, CLI_UNIT, "%g h", value / 3600.0);
        else if (fmod(step, 60.0) == 0.0)
            (void)snprintf(out, CLI_UNIT, "%g min", value / 60.0);
        else if (value > 0.0 && value < 1.0)
            (void)cli_seconds(out, value);
        else
            (void)snprintf(out, CLI_UNIT, "%g s", value);
        break;
    case CLI_UNIT_POWER: (void)snprintf(out, CLI_UNIT, "%.0e", value); break;
    case CLI_UNIT_PLAIN: (void)snprintf(out, CLI_UNIT, "%.*f", step >= 1.0 ? 0 : step >= 0.1 ? 1 : 2, value); break;
    }
}

static void tick(cli_plot *plot, bool vertical, double value, double step)
{
    char text[CLI_UNIT];
    tick_text(text, vertical ? plot->y.unit : plot->x.unit, value, step);
    if (vertical) {
        double y = at_y(plot, value);
        cli_appendf(plot->out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", plot->left,
                    plot->right, y, y);
        cli_appendf(plot->out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                    plot->left - 8, y + 4, text);
    } else {
        double x = at_x(plot, value);
        cli_appendf(plot->out, "<line class=\"tickmark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x,
                    plot->bottom, plot->bottom + 4);
        cli_appendf(plot->out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", x,
                    plot->bottom + 18, text);
    }
}

static void ticks(cli_plot *plot, bool vertical)
{
    static const double times[] = {1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 60, 600, 3600, 36000, 360000, 3600000};
    const cli_axis *axis = vertical ? &plot->y : &plot->x;
    if (axis->log && axis->unit == CLI_UNIT_SECONDS) {
        for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
            if (times[i] >= axis->low && times[i] <= axis->high)
                tick(plot, vertical, times[i], times[i]);
    } else if (axis->log) {
        /* tokens by powers of two (every second where there are many), everything else by powers of ten */
        double base = axis->unit == CLI_UNIT_TOKENS ? 2.0 : 10.0;
        int first = (int)ceil(log(axis->low) / log(base) - 1e-9);
        int last = (int)floor(log(axis->high) / log(base) + 1e-9);
        int step = last - first > 9 ? 3 : last - first > 5 ? 2 : 1;
        for (int i = first; i <= last; i += step)
            tick(plot, vertical, pow(base, i), 1.0);
    } else {
        double step = round_step(axis->high - axis->low, vertical ? 5 : 6, axis->unit);
        int first = (int)ceil(axis->low / step - 1e-9), last = (int)floor(axis->high / step + 1e-6);
        for (int i = first; i <= last; i++)
            tick(plot, vertical, i * step, step);
    }
}

/* Linear axes end on a round figure. */
static void widen(cli_axis *axis, int wanted)
{
    if (!(axis->high > axis->low))
        axis->high = axis->low + (axis->low > 0.0 ? axis->low : 1.0);
    if (axis->log)
        return;
    double step = round_step(axis->high - axis->low, wanted, axis->unit);
    axis->low = floor(axis->low / step + 1e-9) * step + 0.0; /* + 0.0: no negative zero on the axis */
    axis->high = ceil(axis->high / step - 1e-9) * step;
}

static void open_svg(cli_string *out, const char *id, const char *title, const char *description, double height)
{
    cli_appendf(out,
                "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-labelledby=\"%s-title %s-text\">\n<title "
                "id=\"%s-title\">",
                WIDTH, height, id, id, id);
    cli_append_html(out, title);
    cli_appendf(out, "</title><desc id=\"%s-text\">", id);
    cli_append_html(out, description);
    cli_append(out, "</desc>\n");
}

void cli_plot_begin(cli_plot *plot, cli_string *out, const char *id, const char *title, const char *description,
                    cli_axis x, cli_axis y)
{
    *plot = (cli_plot){out, 74.0, WIDTH - 16.0, 26.0, HEIGHT - 44.0, x, y};
    if (!x.log && !(x.high > x.low))
        plot->x.high = x.low + 1.0;
    widen(&plot->y, 5);
    open_svg(out, id, title, description, HEIGHT);
    ticks(plot, true);
    cli_appendf(out, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", plot->left,
                plot->right, plot->bottom, plot->bottom);
    ticks(plot, false);
    cli_appendf(out, "<text class=\"name\" x=\"%.1f\" y=\"14\">", plot->left - 66);
    cli_append_html(out, y.label);
    cli_appendf(out, "</text><text class=\"name\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", plot->right,
                plot->bottom + 36);
    cli_append_html(out, x.label);
    cli_append(out, "</text>\n");
}

void cli_plot_end(cli_plot *plot)
{
    cli_append(plot->out, "</svg>\n");
}

void cli_plot_alone(cli_string *svg)
{
    cli_string out = {NULL, 0, 0};
    const char *body = svg->text + strlen("<svg"), *inside = strchr(body, '>') + 1;
    cli_append(&out, "<svg xmlns=\"http://www.w3.org/2000/svg\"");
    cli_append_bytes(&out, body, (size_t)(inside - body));
    cli_append(&out, "\n<style>\n");
    cli_append(&out, report_style);
    cli_append(&out, "</style>\n<rect width=\"100%\" height=\"100%\" style=\"fill:var(--card)\"/>");
    cli_append(&out, inside);
    cli_string_clear(svg);
    *svg = out;
}

/* ---- marks -------------------------------------------------------------------------------------------------- */

static void path_points(cli_plot *plot, const double *xs, const double *ys, int64_t count)
{
    int64_t groups = count > MOST_POINTS ? MOST_POINTS : count;
    bool pen_down = false;
    for (int64_t g = 0; g < groups; g++) {
        int64_t from = g * count / groups, to = (g + 1) * count / groups;
        double x = 0.0, y = 0.0;
        for (int64_t i = from; i < to; i++) {
            x += xs[i] / (double)(to - from);
            y += ys[i] / (double)(to - from);
        }
        if (!isfinite(x) || !isfinite(y)) {
            pen_down = false;
            continue;
        }
        cli_appendf(plot->out, "%s%.1f %.1f", pen_down ? "L" : "M", at_x(plot, x), at_y(plot, y));
        pen_down = true;
    }
}

void cli_plot_line(cli_plot *plot, const char *style, const double *xs, const double *ys, int64_t count)
{
    if (count < 2)
        return;
    cli_appendf(plot->out, "<path class=\"line %s\" d=\"", style);
    path_points(plot, xs, ys, count);
    cli_append(plot->out, "\"/>\n");
}

void cli_plot_area(cli_plot *plot, const char *style, const double *xs, const double *ys, int64_t count)
{
    if (count < 2)
        return;
    cli_appendf(plot->out, "<path class=\"area %s\" d=\"", style);
    path_points(plot, xs, ys, count);
    cli_appendf(plot->out, "L%.1f %.1fL%.1f %.1fZ\"/>\n", at_x(plot, xs[count - 1]), plot->bottom, at_x(plot, xs[0]),
                plot->bottom);
}

void cli_plot_points(cli_plot *plot, const char *style, const double *xs, const double *ys, char *const *tips,
                     int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(ys[i]))
            continue;
        cli_appendf(plot->out, "<circle class=\"dot %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>", style,
                    at_x(plot, xs[i]), at_y(plot, ys[i]));
        cli_append_html(plot->out, tips != NULL ? tips[i] : "");
        cli_append(plot->out, "</title></circle>\n");
    }
}

void cli_plot_level(cli_plot *plot, const char *style, double y, const char *label, bool above)
{
    double at = at_y(plot, y);
    cli_appendf(plot->out, "<line class=\"line %s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", style,
                plot->left, plot->right, at, at);
    cli_appendf(plot->out, "<text class=\"note %s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", style, plot->right - 4,
                above ? at - 6 : at + 16);
    cli_append_html(plot->out, label);
    cli_append(plot->out, "</text>\n");
}

void cli_plot_mark(cli_plot *plot, double x, const char *label)
{
    double at = at_x(plot, x);
    bool left = at > plot->right - 60;
    cli_appendf(plot->out, "<line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", at, at, plot->top,
                plot->bottom);
    cli_appendf(plot->out, "<text class=\"note mark\" x=\"%.1f\" y=\"%.1f\"%s>", left ? at - 5 : at + 5, plot->top + 10,
                left ? " text-anchor=\"end\"" : "");
    cli_append_html(plot->out, label);
    cli_append(plot->out, "</text>\n");
}

void cli_plot_label(cli_plot *plot, const char *style, double x, double y, double dx, double dy, const char *anchor,
                    const char *text)
{
    cli_appendf(plot->out, "<text class=\"note %s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", style,
                at_x(plot, x) + dx, at_y(plot, y) + dy, anchor);
    cli_append_html(plot->out, text);
    cli_append(plot->out, "</text>\n");
}

/* ---- bars --------------------------------------------------------------------------------------------------- */

void cli_plot_bars(cli_string *out, const char *id, const char *title, const char *description, const char *axis,
                   char *const *labels, const double *values, int digits, int count)
{
    double high = 0.0;
    for (int i = 0; i < count; i++)
        high = isfinite(values[i]) && values[i] > high ? values[i] : high;
    cli_plot plot = {out,
                     44.0,
                     WIDTH - 16.0,
                     26.0,
                     HEIGHT - 44.0,
                     {0.0, count, false, CLI_UNIT_PLAIN, ""},
                     {0.0, high * 1.05, false, CLI_UNIT_PLAIN, axis}};
    widen(&plot.y, 5);
    open_svg(out, id, title, description, HEIGHT);
    ticks(&plot, true);
    cli_appendf(out, "<text class=\"name\" x=\"8\" y=\"14\">");
    cli_append_html(out, axis);
    cli_append(out, "</text>\n");
    double pitch = (plot.right - plot.left) / (count > 0 ? count : 1);
    double thick = pitch * 0.62 < 76.0 ? pitch * 0.62 : 76.0;
    for (int i = 0; i < count; i++) {
        double middle = plot.left + (i + 0.5) * pitch, y = isfinite(values[i]) ? at_y(&plot, values[i]) : plot.bottom;
        cli_appendf(out, "<rect class=\"bar a\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\"/>",
                    middle - thick / 2, y, thick, plot.bottom - y);
        cli_appendf(out, "<text class=\"value\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.*f</text>", middle,
                    y - 6, digits, values[i]);
        cli_appendf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", middle,
                    plot.bottom + 18);
        cli_append_html(out, labels[i]);
        cli_append(out, "</text>\n");
    }
    cli_appendf(out, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", plot.left, plot.right,
                plot.bottom, plot.bottom);
    cli_appendf(out, "<text class=\"name\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">position in the document</text>",
                plot.right, plot.bottom + 36);
    cli_append(out, "</svg>\n");
}

void cli_plot_byte_bars(cli_string *out, const char *id, const char *title, const char *description,
                        char *const *labels, const double *bytes, const char *const *styles, int count)
{
    const double pitch = 68.0;
    double low = HUGE_VAL, high = 0.0;
    for (int i = 0; i < count; i++) {
        low = bytes[i] > 0.0 && bytes[i] < low ? bytes[i] : low;
        high = bytes[i] > high ? bytes[i] : high;
    }
    if (!(high > 0.0))
        return;
    /* bars on a log axis have no zero: they start at a power of two well below the least, and the page says so */
    cli_axis axis = {exp2(floor(log2(low)) - 2.0), high * 1.05, true, CLI_UNIT_BYTES, ""};
    double left = 8.0, right = WIDTH - 110.0, height = count * pitch + 12.0;
    open_svg(out, id, title, description, height);
    for (int i = 0; i < count; i++) {
        char text[CLI_UNIT];
        double y = 8.0 + i * pitch, width = bytes[i] > 0.0 ? place(&axis, bytes[i]) * (right - left) : 0.0;
        cli_appendf(out, "<text class=\"label\" x=\"%.1f\" y=\"%.1f\">", left, y + 13);
        cli_append_html(out, labels[i]);
        cli_appendf(out, "</text><rect class=\"bar %s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"28\" rx=\"2\"/>",
                    styles[i], left, y + 20, width);
        cli_appendf(out, "<text class=\"value\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", left + width + 8, y + 39,
                    cli_bytes(text, (int64_t)bytes[i]));
    }
    cli_append(out, "</svg>\n");
}
