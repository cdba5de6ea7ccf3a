"""Do a semantic loss's rules keep a backdoor out, and does it matter how the loss is computed?"""

# %% Question
import semantic_study as semantic
import study

QUESTION = __doc__


# %% Cells: no semantic loss, and three sets of rules in three reductions; seeds outermost
def cells(options):
    models = [("none", "mean_log"), *((rules, r) for r in semantic.REDUCTIONS for rules in semantic.RULES)]
    return [
        semantic.cell_of(rules, reduction, seed=seed, size=options.size)
        for seed in options.seeds
        for rules, reduction in models
        if rules in options.rules and (rules == "none" or reduction in options.reductions)
    ]


# %% Run, tables
if __name__ == "__main__":
    options = semantic.arguments(QUESTION, "30")
    table = study.run(semantic.ready(cells(options), options), semantic.measure, options.out, options.n_jobs)
    study.write_table(table, options.tables, "semantic_models", digits=4)
    summary = semantic.by_model(table)
    study.write_table(summary, options.tables, "semantic_models_means", digits=4)
    columns = ["rules", "reduction", "seeds", "asr", "asr_sd", "asr_sd_epochs", "ba_clean", "auc_target", "auc_attack"]
    print(summary[columns].to_string(index=False))
