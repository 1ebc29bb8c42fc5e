# SPDX-License-Identifier: Apache-2.0
"""picture.py REPORT.html ID OUT.svg: one picture of a report as a file of its own, for the README.

Takes the report's colours and rules for what is inside a picture along; the rest of the page stays behind."""
import re
import sys


def main(report, name, out):
    page = open(report, encoding="utf-8").read()
    found = re.search(rf'<svg viewBox="0 0 (\d+) (\d+)" (role="img" aria-labelledby="{re.escape(name)}-title [^>]*)>(.*?)</svg>',
                      page, re.S)
    if not found:
        sys.exit(f"{report}: no picture '{name}'; it has " +
                 ", ".join(re.findall(r'aria-labelledby="(.*?)-title ', page)))
    width, height, attributes, body = int(found[1]), int(found[2]), found[3], found[4]
    style = re.search(r"<style>\n(.*?)</style>", page, re.S)[1]
    colours = [line.replace("color-scheme:light dark;", "").replace(":root", "svg")
               for line in style.splitlines() if line.startswith((":root", "@media (prefers"))]
    inside = re.compile(r"svg text|\.grid-line|\.line|\.area|svg \.|line\.")
    rules = [line for line in style.splitlines() if inside.match(line)]
    with open(out, "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-14 -14 {width + 28} {height + 28}" {attributes}>\n'
                   "<style>\n" + "\n".join(colours + rules) +
                   "\nsvg .note{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}\n</style>\n"
                   f'<rect x="-13" y="-13" width="{width + 26}" height="{height + 26}" rx="10" '
                   f'style="fill:var(--card);stroke:var(--line)"/>\n{body}</svg>\n')


if len(sys.argv) != 4:
    sys.exit(__doc__.splitlines()[0])
main(*sys.argv[1:])
