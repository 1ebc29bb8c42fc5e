/* SPDX-License-Identifier: Apache-2.0 */
/* Small SVG pictures for the report: two axes, lines, areas, points, bars. Colours come from classes of the page, so
 * that light and dark need no second picture; each has a title and a description for those who cannot see it. */
#ifndef FUR_CLI_PLOT_H
#define FUR_CLI_PLOT_H

#include "text.h"

typedef enum cli_unit {
    CLI_UNIT_PLAIN,
    CLI_UNIT_BYTES,
    CLI_UNIT_SECONDS,
    CLI_UNIT_TOKENS,
    CLI_UNIT_COUNT,
    CLI_UNIT_POWER
} cli_unit;

typedef struct cli_axis {
    double low, high;
    bool log;
    cli_unit unit;
    const char *label;
} cli_axis;

typedef struct cli_plot {
    cli_string *out;
    double left, right, top, bottom; /* edges of the plotting area in SVG units */
    cli_axis x, y;
} cli_plot;

/* Opens <svg>, draws grid and axes. `id` is unique in the page. Linear axes are widened to round figures. */
void cli_plot_begin(cli_plot *plot, cli_string *out, const char *id, const char *title, const char *description,
                    cli_axis x, cli_axis y);
void cli_plot_end(cli_plot *plot);
/* The picture that `svg` holds, from its <svg> on, as a file of its own: with the report's colours and rules. */
void cli_plot_alone(cli_string *svg);

/* `style` is a class: a, b, c (series), faint, dashed, limit. More than 600 points are drawn as means of as many. */
void cli_plot_line(cli_plot *plot, const char *style, const double *xs, const double *ys, int64_t count);
/* Area between the line and the bottom. */
void cli_plot_area(cli_plot *plot, const char *style, const double *xs, const double *ys, int64_t count);
/* Circles; tips[i] is said when pointed at. */
void cli_plot_points(cli_plot *plot, const char *style, const double *xs, const double *ys, char *const *tips,
                     int64_t count);
/* Horizontal line over the whole width with its label at the right end, above or below it. */
void cli_plot_level(cli_plot *plot, const char *style, double y, const char *label, bool above);
/* Vertical line with its label at the top. */
void cli_plot_mark(cli_plot *plot, double x, const char *label);
/* Text beside a point. anchor: "start", "middle", "end". */
void cli_plot_label(cli_plot *plot, const char *style, double x, double y, double dx, double dy, const char *anchor,
                    const char *text);

/* Vertical bars from zero, each with a label below and its value, to so many digits, above. */
void cli_plot_bars(cli_string *out, const char *id, const char *title, const char *description, const char *axis,
                   char *const *labels, const double *values, int digits, int count);
/* Horizontal bars on a log axis of bytes. styles[i] is a class. */
void cli_plot_byte_bars(cli_string *out, const char *id, const char *title, const char *description,
                        char *const *labels, const double *bytes, const char *const *styles, int count);

/* Text for HTML: <, >, & and quotes. */
void cli_append_html(cli_string *out, const char *text);

#endif
