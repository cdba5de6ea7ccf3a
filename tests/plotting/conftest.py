from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

BETA = np.array([0.0, 0.01, 0.05, 0.1, 0.24, 0.54, 0.81, 1.0])


@pytest.fixture
def curve():
    class Logistic:
        pass

    loss = 0.2 + 4.0 * np.exp(-6 * BETA)
    return SimpleNamespace(
        learner=Logistic(),
        beta=BETA,
        loss_triggered=loss,
        loss_clean=0.03 + 0.01 * BETA,
        bk=0.05 + 0.9 * BETA,
        accuracy_clean=0.99 - 0.01 * BETA,
        slope=-24.0 * np.exp(-6 * BETA),
        bk_floor=0.05,
        status=(),
    )


@pytest.fixture
def curves_frame():
    rows = []
    for reg in (0.01, 1.0, 100.0):
        for fraction in (0.01, 0.1):
            for repeat in range(3):
                speed = (1 + 20 * fraction) * (1 + 0.1 * repeat)
                for beta in BETA:
                    rows.append(
                        {
                            "learner": "logistic",
                            "reg": reg,
                            "fraction": fraction,
                            "repeat": repeat,
                            "beta": beta,
                            "loss_triggered": 0.7 + 3 * np.exp(-speed * beta) / (1 + reg),
                            "loss_clean": 0.05 + 0.02 * beta,
                            "bk": 1 - np.exp(-speed * beta),
                            "accuracy_clean": 0.98,
                            "slope": -3 * speed / (1 + reg),
                            "status": "ok",
                        }
                    )
    return pd.DataFrame(rows)


@pytest.fixture
def slopes_frame():
    rows = []
    for learner, size in (("ridge", 900.0), ("logistic", 200.0), ("rbf_svm", 20.0)):
        for reg in (1e-3, 1e-1, 10.0, 1e3):
            for repeat in range(5):
                row = {"learner": learner, "reg": reg, "repeat": repeat, "slope": -size / reg * (1 + 0.1 * repeat)}
                rows.append(row | {"bk": 1 / (1 + reg), "accuracy_clean": 0.9 + 0.01 / (1 + reg), "status": "ok"})
    return pd.DataFrame(rows)


@pytest.fixture
def map_frame():
    rows = []
    for reg in (1e-2, 1.0, 1e2):
        for gamma in (1e-3, 1e-2, 1e-1, 1.0):
            for repeat in range(2):
                bk = 1 / (1 + reg * gamma)
                rows.append(
                    {
                        "reg": reg,
                        "gamma": gamma,
                        "repeat": repeat,
                        "bk": bk + 0.01 * repeat,
                        "accuracy_clean": 0.95 + 0.01 * gamma,
                        "safe": bk < 0.6,
                        "status": "ok",
                    }
                )
    return pd.DataFrame(rows)
