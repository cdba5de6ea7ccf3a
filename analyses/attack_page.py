"""What the sections of docs/attacks.md share: tables in, Markdown out, the size of a study in words."""

import attack_study as attacks
import pandas as pd
import study

PAGE = study.HERE.parent / "docs" / "attacks.md"
IMAGES = "images/attacks"


def interval(row, name):
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def number(value, digits=3):
    return "" if value != value else f"{value:.{digits}g}"


def markdown(rows):
    frame = pd.DataFrame(rows)
    head = "| " + " | ".join(frame.columns) + " |\n|" + "---|" * len(frame.columns)
    return "\n".join([head, *("| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False))])


def picture(words, name):
    return f"![{words}]({IMAGES}/{name}.png)" if (PAGE.parent / IMAGES / f"{name}.png").exists() else ""


def sizes(data):
    """Return images, network and training of a study in words."""
    size = attacks.SIZES[data]
    n = "all" if size["n"] is None else f"{size['n']:,}"
    of = f" of {len(size['classes'])} classes" if "classes" in size else ""
    network = "ResNet-18" if data.startswith("cifar10") else "`SmallCNN`"
    moved = f", random shifts of up to {size['shift']} pixels and flips" if "shift" in size else ""
    return (
        f"{n} training images{of}, {network} of width {size['width']}, {size['epochs']} epochs{moved}, target class "
        f"{attacks.TARGET}"
    )


def bullets(words):
    return "\n".join(f"- {line}" for line in words)
