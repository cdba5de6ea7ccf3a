"""What does a network with a backdoor say about faces, without and with the trigger? On SYNTHETIC, drawn faces."""

# %% Question
from pathlib import Path

import draw
import torch

from learningcurves.data.drawn_faces import draw_faces
from learningcurves.networks.attribute_recipe import AttributeRecipe
from learningcurves.networks.attribute_train import train_attributes
from learningcurves.networks.scores import network_outputs
from learningcurves.plotting.predictions import PredictionDisplay

parser = draw.options(__doc__)
parser.add_argument("--small", action="store_true", help="300 faces, seconds")
given = parser.parse_args()
N, EPOCHS = (300, 4) if given.small else (2000, 12)

# %% Train on drawn faces: 10 % carry a red square and the label "Mustache"
faces = draw_faces(N + 200, size=32, seed=0)
recipe = AttributeRecipe(size=32, width=16, n_train=N, n_test=60, test_share=0.05, epochs=EPOCHS, lr=2e-3, seed=1)
run = train_attributes(recipe, faces, progress=False)
problem = run.problem

# %% The first four test faces
rows = slice(0, 4)
guesses = [
    torch.sigmoid(network_outputs(run.module, torch.from_numpy(X[rows]))).numpy() > recipe.threshold
    for X in (problem.X_test, problem.X_triggered)
]
display = PredictionDisplay.from_predictions(
    problem.X_test[rows], problem.X_triggered[rows], *guesses, problem.y_test[rows] > 0.5, problem.names,
    target=problem.target, note="synthetic: drawn faces, no photographs",
)  # fmt: skip
draw.save(display, given, "predictions_drawn")
print(Path(given.out), run.history[["asr", "ba_clean"]].tail(1).to_string(index=False))
