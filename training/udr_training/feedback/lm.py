"""Which language model a name stands for: one in this process, or one behind a completions endpoint."""

from dataclasses import dataclass

from udr.models import hub
from udr_training.config import FeedbackConfig
from udr_training.feedback.local import CausalLM, check_device
from udr_training.feedback.remote import RemoteLM
from udr_training.feedback.scoring import FeedbackLM


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose scores a language model's are.

    Attributes:
        fingerprint: of its files, or of its address and name.
        dtype: of its weights, as text; ``remote`` where they are not ours to know.
    """

    fingerprint: str
    dtype: str


def is_remote(name: str) -> bool:
    """Say whether a language model's name is the address of a server."""
    return name.startswith(("http://", "https://"))


def identify(config: FeedbackConfig) -> Identity:
    """Return whose scores a language model's will be, without loading it; a remote one is asked.

    Raises:
        ConfigError: there is no such device.
        ModelError: the name leads nowhere.
        FeedbackError: the server gives no usable numbers.
    """
    if is_remote(config.lm):
        lm = RemoteLM.connect(config.lm)
        return Identity(lm.fingerprint, lm.dtype)
    check_device(config.device)
    return Identity(hub.fingerprint(hub.locate(config.lm)), config.dtype)


def load_lm(config: FeedbackConfig) -> FeedbackLM:
    """Return the language model, ready to score.

    Raises:
        ConfigError: there is no such device.
        ModelError: the name leads nowhere, or not to a causal language model.
        FeedbackError: the server gives no usable numbers.
    """
    if is_remote(config.lm):
        return RemoteLM.connect(config.lm)
    return load_local(config)


def load_local(config: FeedbackConfig) -> CausalLM:
    """Return the language model of this process, which also answers; errors as ``load_lm``."""
    return CausalLM.load(config.lm, config.device, config.dtype, config.pack_tokens or None)
