from .pack import (
    Likelihoods as Likelihoods, Pack as Pack, Prompt as Prompt, Tokens as Tokens, pack as pack, plan as plan,
)
