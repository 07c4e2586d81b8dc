"""Predict with the registered model as a server does, and give it what it can't take.

Usage: python serve.py MODEL
"""

import sys
import traceback

import mlflow
import pandas as pd

from tests.faults.canary import PREDICTED

model = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}@champion")
print(model.predict(pd.DataFrame({"post_id": ["p1"], "text": [PREDICTED]})).to_string())
for wrong in (
    pd.DataFrame({"text": [[PREDICTED]]}),
    pd.DataFrame({"text": [1.5], "post_id": [PREDICTED]}),
    pd.DataFrame({"post": [PREDICTED]}),
    pd.DataFrame({"text": [PREDICTED], "criterion_id": [PREDICTED]}),
    pd.DataFrame({"text": [PREDICTED, PREDICTED[:9]], "post_id": ["p", "p"]}),
    pd.DataFrame({"text": [PREDICTED, ""]}),
    {"text": PREDICTED},
    PREDICTED,
):
    try:
        model.predict(wrong)
        print("NO FAILURE")
    except Exception as error:
        print(f"FAILURE {type(error).__name__}")
        traceback.print_exc()
