"""What the tables of the studies besides detection and repair say, in their numbers; one function a table."""


def per_set(said_of):
    """Turn a function of the rows of one set of images into one of a whole table: a bullet for each set."""

    def said(table):
        groups = table.groupby("data", sort=False)
        return "\n".join(f"- **{data}**: {said_of(rows)}." for data, rows in groups)

    return said


@per_set
def neurons(rows):
    """How much more often than by chance each score names the neurons that carry the backdoor."""
    said = []
    for kind, group in rows[rows.threshold == rows.threshold.min()].groupby("kind", sort=False):
        named = ", ".join(
            f"{r.score.replace('_', ' ')} {r.guilty_share:.2f} of the guilty and {r.benign_share:.2f} of the benign "
            f"neurons ({r.chance:.2f} by chance)"
            for r in group.itertuples()
        )
        said.append(f"{kind} ({group.networks_with_guilty.iloc[0]} networks): {named}")
    return f"named at {rows.threshold.min():g} – {'; '.join(said)}"


@per_set
def layers(rows):
    """Where the target is first, layer by layer from the head backwards, and what that costs."""
    said = []
    for kind, group in rows.groupby("kind", sort=False):
        what = "the target first" if kind != "clean" else "flagged"
        column = "target_right" if kind != "clean" else "flagged"
        shares = ", ".join(f"{r.layer} {getattr(r, column):.2f}" for r in group.itertuples())
        said.append(f"{what} in {kind} networks: {shares}")
    seconds = rows.groupby("method", sort=False).seconds.agg(["min", "max"])
    took = ", ".join(f"{method} {r['min']:.2g} to {r['max']:.2g} s" for method, r in seconds.iterrows())
    return f"{'; '.join(said)} (shares of {rows.networks.min()} networks); {took}"


@per_set
def imbalance(rows):
    """Whether the rare class comes first, and whether more networks are flagged, than where it has all of its samples."""
    said = []
    for offset, group in rows.groupby("offset", sort=False):
        most, least = group.loc[group.rare.idxmax()], group.loc[group.rare.idxmin()]
        said.append(
            f"offset {offset}: with {least.rare:.0%} of its samples the class is first in {least.rare_is_first:.2f} of the "
            f"networks (with all {most.rare_is_first:.2f}), flagged {least.flagged:.2f} at 2 (with all {most.flagged:.2f}) "
            f"and {least.flagged_calibrated:.2f} at the calibrated threshold ({most.flagged_calibrated:.2f})"
        )
    return f"{'; '.join(said)}; {rows.networks.min()} networks each"


@per_set
def adaptive(rows):
    """What each weight of the penalty does to the index of the target, and its price."""
    rows = rows[rows.offset == "constant"]
    said = "; ".join(
        f"rho {r.rho:g}: index of the target {r.index_true:.2f}, first in {r.target_right:.2f}, flagged {r.flagged:.2f}, "
        f"ACC {r.acc:.2f}, SR {r.sr:.2f}"
        for r in rows.itertuples()
    )
    return f"{said} (means of {rows.networks.min()} networks)"


@per_set
def rescaling(rows):
    """How far factors that change no output move the index, with each offset."""
    said = []
    for kind, group in rows.groupby("kind", sort=False):
        parts = group.set_index(["offset", "how"])
        column = "target_right" if kind != "clean" else "flagged"
        what = "the target first" if kind != "clean" else "flagged"
        for offset in ("constant", "spread"):
            shares = ", ".join(f"{how} {parts.loc[(offset, how), column]:.2f}" for how in ("none", "all", "one"))
            said.append(f"{what} in {kind} networks, offset {offset}: {shares}")
    return f"{'; '.join(said)}; no output moves by more than {rows.output_change.max():.1e}"
