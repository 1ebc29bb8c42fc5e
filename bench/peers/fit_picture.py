# SPDX-License-Identifier: Apache-2.0
"""fit_picture.py OUT [NAME OURS PEERS]...: loss by seconds, both axes logarithmic, of Furlong (dots: its steps) and the
peers, a panel a case, as SVG."""
import math
import sys

from fit_table import ours_as_row, rows

WIDTH, HEIGHT, LEFT, TOP, GAP = 360, 260, 52, 34, 62
HIGHEST, LOWEST = 0, -11  # decades of the loss
FIRST, LAST = -2, 2  # decades of seconds
COLOURS = ("#9a5fc0", "#3b7dd8", "#d8903b", "#4aa564", "#c0605f", "#777777", "#5fb0c0", "#b09a3b", "#8a6a50")


def spot(left, seconds, loss):
    x = (math.log10(max(seconds, 10.0 ** FIRST)) - FIRST) / (LAST - FIRST)
    y = (HIGHEST - math.log10(max(loss, 10.0 ** LOWEST))) / (HIGHEST - LOWEST)
    return left + WIDTH * min(1.0, x), TOP + HEIGHT * y


def curve(left, row, colour, width):
    least, spots = float("inf"), []
    for _, _, seconds, loss in row["trace"]:
        if loss < least:
            least = loss
            spots.append(spot(left, seconds, loss))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>', spots


def panel(left, name, ours, peers):
    out = [f'<text x="{left}" y="{TOP - 12}" font-weight="bold">{name}</text>']
    for decade in range(LOWEST, HIGHEST + 1, 2):
        y = spot(left, 1, 10.0 ** decade)[1]
        out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + WIDTH}" y2="{y:.1f}" stroke="#ddd"/>'
                   f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">1e{decade}</text>')
    for decade in range(FIRST, LAST + 1):
        x = spot(left, 10.0 ** decade, 1)[0]
        out.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{TOP + HEIGHT}" stroke="#ddd"/>'
                   f'<text x="{x:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{10.0 ** decade:g} s</text>')
    for row, colour in zip(peers, COLOURS):
        out.append(curve(left, row, colour, 1.4)[0])
    line, spots = curve(left, ours, "#111", 2.4)
    return out + [line] + [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>' for x, y in spots]


def main(path, cases):
    body, names, left = [], [], LEFT
    for name, ours, peers in zip(cases[::3], cases[1::3], cases[2::3]):
        table = rows(peers)
        names = [row["method"] for row in table]
        body += panel(left, name, min(map(ours_as_row, rows(ours)), key=lambda row: row["seconds"]), table)
        left += WIDTH + GAP
    width, y = left, TOP + HEIGHT + 44
    for at, (name, colour) in enumerate(zip(["furlong (dots: steps)"] + names, ("#111",) + COLOURS)):
        x = LEFT + at % 3 * 270
        body.append(f'<line x1="{x}" y1="{y - 4 + at // 3 * 18}" x2="{x + 22}" y2="{y - 4 + at // 3 * 18}" stroke="{colour}" '
                    f'stroke-width="3"/><text x="{x + 28}" y="{y + at // 3 * 18}">{name}</text>')
    height = y + len(names) // 3 * 18 + 14
    with open(path, "w", encoding="utf-8") as out:
        out.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
                  f'font-size="12"><title>Relative loss by seconds</title><rect width="{width}" height="{height}" '
                  'fill="#fff"/>' + "".join(body) + "</svg>\n")


main(sys.argv[1], sys.argv[2:])
