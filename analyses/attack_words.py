"""What docs/attacks.md says around its tables."""

COUNTS_WORDS = """
The question of a learning curve asked in whole poisons. Beside each attack stands what the *clean* network of the same seed
says before any poisoned training: the slope of its last layer (softmax on standardised features, lambda = 1, negative: learned),
and the backdoor accuracy of that layer refitted with the poisons at full weight.
""".strip()
CLEAN_WORDS = """
80 % of the target class is perturbed by PGD on a clean network, stamped with the checkerboard and keeps its label. Then test
samples of other classes are shown with the trigger alone, with noise of the same size and no trigger, with their own PGD
perturbation and no trigger, and with trigger and noise: the share that is called the target, with Wilson's interval.
""".strip()
DEFENCE_WORDS = """
Each defence has 500 clean samples of the training set, as published, a fifth of them held out from it (the network has seen them all). *anp* chooses among the published thresholds at two points of held-out
accuracy; *anp by number* cuts the smallest masks one share of the neurons after the other, at ten points (what
BackdoorBench's selection allows, which looks at triggered data besides; here it does not). The ten points were set after the first
results on CIFAR-10 had been seen, triggered ones among them: the choice at other tolerances stands beside.

*Slope* and *slope / loss* are those of the last layer on the network's own features (lambda = 1),
*BK, head on clean* is the backdoor accuracy when only the last layer is fitted anew, on clean samples alone: what of the backdoor
sits in the features. *Poisons to re-learn*: the smallest number tried from which ASR stays at one half or more after five epochs
on the 500 clean samples and so many poisons; "never attacked" is the clean network. A slope is to be read beside the loss that
is left to lose: a network that has the backdoor loses little, because there is little left.
""".strip()
CIFAR_WORDS = """
On the small set 5 % of the candidates are poisoned (clean-label: 80 % of the target class, which are 16 % of all images), on the larger ones 5 %
(clean-label: 5 % of all). Clean-label poisons are moved by PGD on a clean network, eps 16/255, 20 steps, and stamped in the four corners. Beside
the rates, with Wilson's intervals over test samples, stand those of a report on BadNets, Blend, Clean-Label and ANP on
all of CIFAR-10 (ResNet-18 of width 64, 50 epochs): another size, to be compared in direction only. *Least, most* are single networks.
*Pruned at 0.25*: ANP at that report's threshold and alpha 0.2; *by clean accuracy*: the threshold that a defender can choose, from held-out
clean samples.

The small set was run on one of two shared cores of a virtual machine (AMD EPYC), in one thread, with fewer iterations of ANP and smaller batches than
published (`STUDIED` in `analyses/defence_study.py`). BadNets has a random patch of 8 x 8 pixels there in place of 3 x 3, which networks of
this size do not learn with random shifts and flips; clean-label takes more poisons than reported, and even so not in every network: the
pooled rate is a mean of all and nothing, and the network in which it fails learned the perturbation as its shortcut (the section above). An attack whose ASR is not far above its no-trigger rate has failed, and nothing can be said
about a defence against it.
""".strip()
TRIAL_WORDS = """
Settings of the small set were chosen from these trials (`analyses/14_cifar_trials.py`), by ASR and before any defence: one network each, on
images, start and batches that the other studies do not use. The slope of the clean network's last layer does not foresee these: poisons that
PGD has moved on that very network pull its last layer far without teaching the trigger, and without shifts and flips, where the network fits its
samples closely, all slopes are larger.
""".strip()
MISSING_WORDS = """
Committed as commands, with their sizes in `analyses/attack_study.py`; they resume where they stopped. *Done* counts cells (an attack,
a count or eps or defence, a seed) in the tables above. The CIFAR-10 runs with `--device cuda` are planned for a GPU; none has been run.
What is there was run on one of two shared cores of a virtual machine (AMD EPYC).
""".strip()
