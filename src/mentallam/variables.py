"""The environment variables of mentallam, each named once."""

CV_FOLDS = "MENTALLAM_CV_FOLDS"
ARTIFACTS = "MENTALLAM_ARTIFACTS"
BASE_MODELS = "MENTALLAM_BASE_MODELS"
METRICS = "MENTALLAM_METRICS"

VARIABLES = {
    CV_FOLDS: "number of folds, from 2 on; default 5",
    ARTIFACTS: "folder for the artifacts of a new MLflow experiment; default `mlruns/`",
    BASE_MODELS: "folder where a registered model looks for its base model if the recorded folder is missing",
    METRICS: "port, or `HOST:PORT`, at which a served model answers Prometheus; default none",
}
