import pytest
from mlflow import MlflowClient

from qpipe.config.schema import TrackingConfig
from qpipe.tracking import start_run


@pytest.fixture(scope="session")
def runs_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def start(runs_dir):
    def start_in_runs_dir(**options):
        arguments = {"name": "test", "parameters": {}, "tags": {}, **options}
        config = arguments.pop("config", TrackingConfig())
        return start_run(config, runs_dir=arguments.pop("runs_dir", runs_dir), **arguments)

    return start_in_runs_dir


@pytest.fixture(scope="session")
def client(runs_dir):
    with start_run(TrackingConfig(), runs_dir=runs_dir, name="first", parameters={}, tags={}) as run:
        uri = run.tracking_uri
    return MlflowClient(tracking_uri=uri)
