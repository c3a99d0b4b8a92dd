"""Registers the schema's dataclasses with Hydra, under `schema/`, so that every node of a job is typed."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from qpipe.config import schema

MODELS: dict[str, type[schema.ModelConfig]] = {
    "application": schema.ApplicationModel,
    "callable": schema.CallableModel,
    "file": schema.FileModel,
    "layers": schema.LayersModel,
}
DATA_SOURCES: dict[str, type[schema.DataConfig]] = {
    "callable": schema.CallableData,
    "digits": schema.DigitsData,
    "folder": schema.FolderData,
    "keras": schema.KerasData,
    "npz": schema.NpzData,
}


def register_schema() -> None:
    """Makes the schema available to defaults lists as `schema/job`, `schema/model/...` and `schema/data/...`.

    Calling it again changes nothing.
    """
    store = ConfigStore.instance()
    if "schema" in store.repo and OmegaConf.has_resolver("qat_only"):
        return
    store.store(group="schema", name="job", node=schema.JobConfig, package="_global_")
    for name, model in MODELS.items():
        store.store(group="schema/model", name=name, node=model, package="model")
    for name, source in DATA_SOURCES.items():
        store.store(group="schema/data", name=name, node=source, package="data")
    OmegaConf.register_new_resolver("qat_only", _qat_only, replace=True)
    OmegaConf.register_new_resolver("float_only", _float_only, replace=True)


def _qat_only(value: object, otherwise: object = None, *, _root_: DictConfig) -> object:
    """Resolves `${qat_only:value,otherwise}`: the value where the method trains the quantized model."""
    return value if OmegaConf.select(_root_, "method.name") == schema.MethodName.qat else otherwise


def _float_only(value: object, otherwise: object = None, *, _root_: DictConfig) -> object:
    """Resolves `${float_only:value,otherwise}`: the value where the float model is trained."""
    return value if OmegaConf.select(_root_, "model.train") else otherwise
