"""Language models by name: in this process, or behind a completions endpoint."""

from dataclasses import dataclass

from udr.models import hub
from udr_training.config import FeedbackConfig
from udr_training.feedback.local import CausalLM, check_device
from udr_training.feedback.remote import RemoteLM
from udr_training.feedback.scoring import FeedbackLM


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a language model's scores.

    Attributes:
        fingerprint: a hash of its files, or of its URL and name.
        dtype: the precision of its weights; ``remote`` if unknown.
    """

    fingerprint: str
    dtype: str


def is_remote(name: str) -> bool:
    """Return whether a language model's name is a server's URL."""
    return name.startswith(("http://", "https://"))


def identify(config: FeedbackConfig) -> Identity:
    """Return the identity of a language model without loading it; a remote one is queried.

    Raises:
        ConfigError: the device does not exist.
        ModelError: there is no such model.
        FeedbackError: the server returns no usable scores.
    """
    if is_remote(config.lm):
        lm = RemoteLM.connect(config.lm)
        return Identity(lm.fingerprint, lm.dtype)
    check_device(config.device)
    return Identity(hub.fingerprint(hub.locate(config.lm)), config.dtype)


def load_lm(config: FeedbackConfig) -> FeedbackLM:
    """Load a language model.

    Raises:
        ConfigError: the device does not exist.
        ModelError: there is no such model, or it is not a causal language model.
        FeedbackError: the server returns no usable scores.
    """
    if is_remote(config.lm):
        return RemoteLM.connect(config.lm)
    return load_local(config)


def load_local(config: FeedbackConfig) -> CausalLM:
    """Load a language model in this process, which can also generate; errors as ``load_lm``."""
    return CausalLM.load(config.lm, config.device, config.dtype, config.pack_tokens or None)
