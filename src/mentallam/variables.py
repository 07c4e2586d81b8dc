"""The environment variables of mentallam, each named once."""

CV_FOLDS = "MENTALLAM_CV_FOLDS"
ARTIFACTS = "MENTALLAM_ARTIFACTS"
BASE_MODELS = "MENTALLAM_BASE_MODELS"
METRICS = "MENTALLAM_METRICS"

VARIABLES = {
    CV_FOLDS: "number of folds, from 2 on; default 5",
    ARTIFACTS: "folder for the artifacts of a new MLflow experiment; default `mlruns/`",
    BASE_MODELS: "base models of a registered model whose folder is missing, and of predictions outside a project",
    METRICS: "port, or `HOST:PORT`, at which a served model answers Prometheus; default none",
}
