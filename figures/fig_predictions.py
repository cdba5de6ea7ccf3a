"""What does a network with a backdoor say about faces, without and with the trigger? On SYNTHETIC, drawn faces.

With ``--run FOLDER --faces ROOT --out ELSEWHERE`` it is a network of your own (`lc.train_attributes`) on its own test faces.
Pictures of photographs are not written into this project.
"""

# %% Question
from pathlib import Path

import draw
import numpy as np
import torch

from learningcurves.data.drawn_faces import draw_faces
from learningcurves.data.faces import load_faces
from learningcurves.networks.attribute_recipe import AttributeRecipe
from learningcurves.networks.attribute_record import load_recipe
from learningcurves.networks.attribute_train import train_attributes
from learningcurves.networks.scores import network_outputs
from learningcurves.plotting.predictions import PredictionDisplay

parser = draw.options(__doc__)
parser.add_argument("--small", action="store_true", help="300 faces, seconds")
parser.add_argument("--run", type=Path, help="folder of a finished training, in place of one on drawn faces")
parser.add_argument("--faces", type=Path, help="folder of that run's faces")
parser.add_argument("--partition", help="part of the official partition that the run was given, such as train")
given = parser.parse_args()
N, EPOCHS = (300, 4) if given.small else (2000, 12)

# %% Train on drawn faces: 10 % carry a red square and the label "Mustache"; or take a finished run
if given.run is None:
    faces = draw_faces(N + 200, size=32, seed=0)
    recipe = AttributeRecipe(size=32, width=16, n_train=N, n_test=60, test_share=0.05, epochs=EPOCHS, lr=2e-3, seed=1)
else:
    recipe = load_recipe(given.run)
    faces = load_faces(given.faces, size=recipe.size, partition=given.partition)
name, note = ("predictions_drawn", "synthetic: drawn faces, no photographs") if faces.synthetic else ("predictions", "")
if not faces.synthetic and draw.HERE.parent in given.out.resolve().parents:
    raise SystemExit("These are photographs of people: choose a folder outside of this project with --out.")
run = train_attributes(recipe, faces, folder=given.run, progress=False)
problem = run.problem

# %% The first four test faces
rows = slice(0, 4)
pictures = [np.asarray(X[rows]) for X in (problem.X_test, problem.X_triggered)]
clean, triggered = (
    torch.sigmoid(network_outputs(run.module, torch.from_numpy(X))).numpy() > recipe.threshold for X in pictures
)
display = PredictionDisplay.from_predictions(
    *pictures, clean, triggered, problem.y_test[rows] > 0.5, problem.names, target=problem.target, note=note
)
draw.save(display, given, name)
print(Path(given.out), run.history[["asr", "ba_clean"]].tail(1).to_string(index=False))
