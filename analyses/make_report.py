"""Write docs/reproduction.md and the marked place in docs/pitfalls.md from the tables; no number is typed here."""

import argparse
from pathlib import Path

from report_maps import maps
from report_models import beyond, deviation, explanations, features, times
from report_slopes import curves, published, shortcut_text, slopes
from report_tools import DOCS, section

MARKS = ("<!-- our numbers: begin -->", "<!-- our numbers: end -->")
INTRO = """# Reproduction of the study

The study of "Backdoor Learning Curves: Explaining Backdoor Poisoning Beyond Influence Functions" (Cinà et al.), run again
with exact solvers, corrected where its released code is wrong (see [pitfalls](pitfalls.md)), and carried further. This page
is written by `python analyses/make_report.py` from the tables in `analyses/tables`; each section names the commands that
make its tables and figures. With `--small` an analysis runs on built-in digits, without any data.

Words: BK is the share of triggered test samples that get the attacker's label; a negative slope dL/dβ means that the
backdoor is learned; λ is in this package's scaling (ridge: alpha). MNIST is raw pixels, 1500 training and 500 test images
of a pair. CIFAR-10 (1500 and 500 images) and Imagenette (all 1500 and 500 stored pictures of a pair; the pair is our choice) are 1280
features of a frozen MobileNetV2 at 128 pixels (the paper: AlexNet), with the triggers on the image before it. Slopes: seeds 1,
10, 11, 100, 101, or the first of them where a section says so; curves and maps: seed 999. Only MNIST 7-1 was compared with
published numbers; the other pairs were run blind. Where cells of an analysis are missing, the counts in its tables say so;
data sets it was not run on are left out."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, default=DOCS)
    given = parser.parse_args()
    parts = [INTRO, published(), curves(), slopes(), deviation(), explanations(), maps(), beyond(), features(), times()]
    page = given.docs / "reproduction.md"
    page.write_text(section(*parts) + "\n", encoding="utf-8")
    pitfalls = given.docs / "pitfalls.md"
    if pitfalls.exists() and all(m in pitfalls.read_text(encoding="utf-8") for m in MARKS):
        before, rest = pitfalls.read_text(encoding="utf-8").split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        pitfalls.write_text(f"{before}{MARKS[0]}\n\n{shortcut_text()}\n\n{MARKS[1]}{after}", encoding="utf-8")
    print(f"{page}: {len(page.read_text(encoding='utf-8').splitlines())} lines")


if __name__ == "__main__":
    main()
