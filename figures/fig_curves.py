"""How does the triggered loss fall as the backdoor samples gain weight, and what does lambda change?"""

# %% Question and table
import draw

from learningcurves.plotting import CurveDisplay, SlopeDisplay

parser = draw.options(__doc__)
parser.add_argument("--learners", nargs="+", default=["logistic", "rbf_svm"], help="one picture each")
given = parser.parse_args()


# %% One panel a lambda, one colour a fraction; solid is triggered, dotted is clean
def panels(part):
    """Return at most four lambda, two decades apart."""
    reg = sorted(part.reg.unique())
    return reg[:: max(1, len(reg) // 4)][:4]


for kind in given.data:
    table = draw.table(given, f"curves_{kind}")
    if table is None:
        continue
    for learner in given.learners:
        part = table[(table.pair == table.pair.iloc[0]) & (table.learner == learner)]
        part = part[part.trigger == part.trigger.iloc[-1]]
        if learner == "rbf_svm":
            part = part[part.gamma == part.gamma.max()]
        part = part[part.reg.isin(panels(part))].drop(columns=["gamma", "pair", "trigger", "bound"])
        display = CurveDisplay.from_frame(part, group="fraction", panel="reg", accuracy=True, xscale="symlog")
        draw.save(display, given, f"curves_{kind}_{learner}")

    # %% The end of every curve: backdoor accuracy over lambda, all pairs as repeats of one experiment
    last = draw.named(table[(table.beta == 1) & (table.fraction == 0.1)])
    size = last.trigger.iloc[0]
    display = SlopeDisplay.from_frame(
        last[last.trigger == size][["model", "reg", "bk", "status"]], y="bk", group="model"
    )
    draw.save(display, given, f"bk_over_reg_{kind}")

    # %% Finding
    learned = last[last.bk > 0.5].groupby("model").reg.max()
    print(f"{kind}: BK passes one half up to lambda = " + ", ".join(f"{r:g} ({m})" for m, r in learned.items()))
