"""Models of the ``transformers`` library, small and random, built from their configurations: nothing is downloaded.

f, module, x = TRANSFORMERS["gpt2"](n)
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers as hf

TRANSFORMERS = {}

SMALL = {"vocab_size": 23, "hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 24}


def model(make):
    """Registers a function that returns a module, a function of it and x, and how x is drawn."""

    def made(n, seed=0):
        torch.manual_seed(1)
        module, f, draw = make()
        with torch.no_grad():
            for parameter in module.parameters():  # initial zeros and ones would hide mistakes
                parameter.add_(0.1 * torch.randn(parameter.shape))
        torch.manual_seed(seed)
        return in_float64(f), module.double().eval(), draw(n)

    TRANSFORMERS[make.__name__] = made
    return made


def tokens(length=6, vocabulary=23):
    return lambda n: torch.randint(0, vocabulary, (n, length))


class Keep64(torch.overrides.TorchFunctionMode):
    """Norm layers here compute in float32 whatever comes, which hides what float64 could tell; now they do not."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.Tensor.to, torch.Tensor.float, torch.nn.functional.softmax, torch.softmax):
            args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
            kwargs = {key: torch.float64 if value is torch.float32 else value for key, value in kwargs.items()}
            if func is torch.Tensor.float:
                return args[0].double()
        return func(*args, **kwargs)


def in_float64(f):
    def kept(module, x):
        with Keep64():
            return f(module, x)

    return kept


def last_logits(module, x):
    return module(x, use_cache=False).logits[:, -1, :5]


def image(size, channels=3):
    return lambda n: torch.randn(n, channels, size, size, dtype=torch.float64)


def padded(n):
    """Tokens with masks of several lengths, all examples at least two tokens long."""
    lengths = 2 + torch.arange(n) % 4
    return {"input_ids": tokens()(n), "attention_mask": (torch.arange(6) < lengths[:, None]).long()}


def _gpt2(attention):
    config = hf.GPT2Config(
        vocab_size=23,
        n_positions=8,
        n_embd=16,
        n_layer=2,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation=attention,
    )
    return hf.GPT2LMHeadModel(config), last_logits, tokens()


@model
def gpt2():
    return _gpt2("sdpa")


@model
def gpt2_eager():
    return _gpt2("eager")


@model
def bert():
    config = hf.BertConfig(**SMALL, max_position_embeddings=8)
    return hf.BertModel(config), lambda module, x: module(**x).pooler_output[:, :5], padded


@model
def llama():
    config = hf.LlamaConfig(**SMALL, num_key_value_heads=2)
    return hf.LlamaForCausalLM(config), last_logits, tokens()


@model
def vit():
    config = hf.ViTConfig(
        hidden_size=16, num_attention_heads=4, num_hidden_layers=2, intermediate_size=24, image_size=8, patch_size=4
    )
    return hf.ViTModel(config), lambda module, x: module(x).pooler_output[:, :5], image(8)


@model
def t5():
    config = hf.T5Config(
        vocab_size=23, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, decoder_start_token_id=0,
        relative_attention_num_buckets=8, relative_attention_max_distance=16,
    )  # fmt: skip

    def f(module, x):
        return module(input_ids=x, decoder_input_ids=x[:, :3], use_cache=False).logits[:, -1, :5]

    return hf.T5ForConditionalGeneration(config), f, tokens()


@model
def mamba():
    config = hf.MambaConfig(vocab_size=23, hidden_size=8, state_size=4, num_hidden_layers=2, use_mambapy=False)
    return hf.MambaForCausalLM(config), last_logits, tokens(5)


@model
def mixtral():
    config = hf.MixtralConfig(
        **SMALL, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, experts_implementation="eager"
    )
    return hf.MixtralForCausalLM(config), last_logits, tokens()


@model
def albert():
    config = hf.AlbertConfig(**SMALL, embedding_size=8, max_position_embeddings=8)
    return hf.AlbertModel(config), lambda module, x: module(x).pooler_output[:, :5], tokens()


@model
def convnext():
    config = hf.ConvNextConfig(hidden_sizes=[6, 8], depths=[1, 1], num_stages=2, patch_size=2, num_labels=3)
    return hf.ConvNextForImageClassification(config), lambda module, x: module(x).logits, image(8)


@model
def resnet():
    config = hf.ResNetConfig(
        embedding_size=6, hidden_sizes=[8, 12], depths=[1, 1], layer_type="bottleneck", num_labels=3
    )
    module = hf.ResNetForImageClassification(config)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 2)
    return module, lambda module, x: module(x).logits, image(16)
