"""Week 1's formulas and week 3's model agree with each other and with PyTorch. Builds small models only; nothing is trained."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from papers.transformer.architecture import TransformerConfig, parameter_count, trace_shapes
from papers.transformer.attention import MultiHeadAttention, causal_mask
from papers.transformer.model import DecoderLayer, Transformer


def configurations(count: int) -> list[TransformerConfig]:
    """Random sizes, small and large, tied and not."""
    draw = random.Random(2017)
    found = []
    for _ in range(count):
        h = draw.randint(1, 9)
        source = draw.randint(2, 3000)
        tied = draw.random() < 0.5
        target = source if tied else draw.randint(2, 3000)
        found.append(
            TransformerConfig(
                draw.randint(1, 7), h * draw.randint(1, 40), h, draw.randint(1, 700), source, target, tied
            )
        )
    return found


def model_of(config: TransformerConfig, **options: bool) -> Transformer:
    return Transformer(
        config.src_vocab, config.tgt_vocab, config.d_model, config.h, config.N, config.d_ff, tied=config.tied, **options
    )


@pytest.fixture
def sentences() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 20, (3, 5), generator=generator), torch.randint(1, 20, (3, 6), generator=generator)


def moved(model: Transformer) -> Transformer:
    """The model with every parameter moved, so that no norm is the identity."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn_like(parameter)
    return model.eval()


@pytest.mark.parametrize(
    "config", [*configurations(40), TransformerConfig(), TransformerConfig(d_model=1024, h=16, d_ff=4096)], ids=str
)
def test_the_formula_counts_the_model_to_the_last_parameter(config: TransformerConfig) -> None:
    with torch.device("meta"):  # sizes without memory
        model = model_of(config)
    assert parameter_count(config) == sum(parameter.numel() for parameter in model.parameters())


def test_pre_norm_has_two_norms_more_than_the_formula_counts() -> None:
    config = TransformerConfig(2, 12, 3, 20, 30, 31, False)
    count = sum(parameter.numel() for parameter in model_of(config, pre_norm=True).parameters())
    assert count == parameter_count(config) + 2 * 2 * config.d_model


def test_tied_weights_need_one_vocabulary_in_the_formula_and_in_the_model() -> None:
    config = TransformerConfig(1, 8, 2, 9, 10, 11, True)
    with pytest.raises(ValueError, match="vocabular"):
        parameter_count(config)
    with pytest.raises(ValueError, match="vocabular"):
        model_of(config)


def test_tied_weights_are_one_parameter_in_three_places_after_a_step_and_a_round_trip(
    sentences: tuple[torch.Tensor, torch.Tensor],
) -> None:
    model = Transformer(20, 20, d_model=8, h=2, N=1, d_ff=9, tied=True)
    assert model.src_embedding.weight is model.tgt_embedding.weight is model.output.weight
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(*sentences).square().mean().backward()
    optimiser.step()
    copy = Transformer(20, 20, d_model=8, h=2, N=1, d_ff=9, tied=True).eval()
    copy.load_state_dict(model.state_dict())
    assert copy.src_embedding.weight is copy.output.weight
    assert torch.equal(copy(*sentences), model.eval()(*sentences))


@pytest.mark.parametrize("config", configurations(6), ids=str)
def test_the_traced_shapes_are_those_of_the_model(config: TransformerConfig) -> None:
    batch, S, T = 2, 5, 7
    model = model_of(config).eval()
    seen: list[tuple[tuple[int, ...], ...]] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
        seen.append((tuple(inputs[0].shape), tuple(inputs[1].shape), tuple(output[1].shape)))

    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            module.register_forward_hook(look)
    shapes = trace_shapes(config, batch, S, T)
    src, tgt = torch.ones(batch, S, dtype=torch.long), torch.ones(batch, T, dtype=torch.long)
    memory = model.encode(src)
    logits = model.decode(tgt, memory, src)
    assert shapes["memory"] == tuple(memory.shape) and shapes["logits"] == tuple(logits.shape)
    encoder, own, cross = seen[0], seen[config.N], seen[config.N + 1]
    assert encoder == (shapes["source vectors"], shapes["source vectors"], shapes["encoder weights"])
    assert own == (shapes["target vectors"], shapes["target vectors"], shapes["decoder weights"])
    assert cross == (shapes["target vectors"], shapes["memory"], shapes["cross weights"])
    assert shapes["cross queries"][1:] == (config.h, T, config.d_model // config.h)


def copy_into_torch(model: Transformer, theirs: nn.Transformer) -> None:
    """Our weights into PyTorch's model, layer by layer."""
    with torch.no_grad():
        for ours, torchs in zip(
            [*model.encoder.layers, *model.decoder.layers],
            [*theirs.encoder.layers, *theirs.decoder.layers],
            strict=True,
        ):
            attentions = [(ours.self_attention, torchs.self_attn)]
            if isinstance(ours, DecoderLayer):
                attentions.append((ours.cross_attention, torchs.multihead_attn))
            for attention, packed in attentions:
                packed.in_proj_weight.copy_(
                    torch.cat([attention.w_q.weight, attention.w_k.weight, attention.w_v.weight])
                )
                packed.in_proj_bias.copy_(torch.cat([attention.w_q.bias, attention.w_k.bias, attention.w_v.bias]))
                packed.out_proj.load_state_dict(attention.w_o.state_dict())
            torchs.linear1.load_state_dict(ours.feed_forward.linear1.state_dict())
            torchs.linear2.load_state_dict(ours.feed_forward.linear2.state_dict())
            for number in range(1, 2 + len(attentions)):
                getattr(torchs, f"norm{number}").load_state_dict(getattr(ours, f"residual{number}").norm.state_dict())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pre_norm", [False, True], ids=["post-norm", "pre-norm"])
def test_the_model_agrees_with_torch_on_copied_weights(
    pre_norm: bool, sentences: tuple[torch.Tensor, torch.Tensor]
) -> None:
    model = moved(Transformer(20, 20, d_model=24, h=4, N=3, d_ff=40, pre_norm=pre_norm))
    theirs = nn.Transformer(24, 4, 3, 3, 40, batch_first=True, norm_first=pre_norm).eval()
    copy_into_torch(model, theirs)
    if pre_norm:
        theirs.encoder.norm.load_state_dict(model.encoder.norm.state_dict())
        theirs.decoder.norm.load_state_dict(model.decoder.norm.state_dict())
    else:
        theirs.encoder.norm = theirs.decoder.norm = None  # the paper's post-norm has no last norm
    src, tgt = sentences
    src[0, 3:], tgt[1, 4:] = 0, 0
    hidden = {"src_key_padding_mask": src == 0, "memory_key_padding_mask": src == 0, "tgt_key_padding_mask": tgt == 0}
    embedded = model.embed(src, model.src_embedding), model.embed(tgt, model.tgt_embedding)
    expected = model.output(theirs(*embedded, tgt_mask=~causal_mask(tgt.size(1)), **hidden))
    torch.testing.assert_close(model(src, tgt)[tgt != 0], expected[tgt != 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("pre_norm", [False, True], ids=["post-norm", "pre-norm"])
def test_nothing_leaks_from_the_future_also_with_dropout(
    training: bool, pre_norm: bool, sentences: tuple[torch.Tensor, torch.Tensor]
) -> None:
    model = moved(Transformer(20, 20, d_model=24, h=3, N=3, d_ff=40, pre_norm=pre_norm)).train(training)
    src, tgt = sentences

    def logits(target: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)  # the same dropout both times
        return model(src, target)

    before = logits(tgt)
    for position in range(1, tgt.size(1)):
        changed = tgt.clone()
        changed[:, position:] = changed[:, position:] % 19 + 1
        after = logits(changed)
        torch.testing.assert_close(after[:, :position], before[:, :position], atol=1e-5, rtol=0)
        assert (after[:, position:] - before[:, position:]).abs().max() > 1e-3
    first = tgt.clone()
    first[:, 0] = first[:, 0] % 19 + 1
    assert (logits(first)[:, -1] - before[:, -1]).abs().max() > 1e-4


@pytest.mark.parametrize("pad_id", [0, 7])
def test_padding_on_either_side_changes_no_logit_at_a_word(
    pad_id: int, sentences: tuple[torch.Tensor, torch.Tensor]
) -> None:
    model = moved(Transformer(20, 20, d_model=24, h=3, N=3, d_ff=40, pad_id=pad_id))
    src, tgt = (torch.where(tokens == pad_id, 8, tokens) for tokens in sentences)
    alone = model(src, tgt)
    padding = torch.full((3, 4), pad_id)
    for source in (torch.cat([src, padding], 1), torch.cat([padding, src], 1)):
        for target in (torch.cat([tgt, padding], 1), torch.cat([padding, tgt], 1)):
            found = model(source, target)[target != pad_id].view(3, 6, 20)
            torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


def test_a_batch_of_mixed_lengths_gives_what_each_pair_gives_alone(
    sentences: tuple[torch.Tensor, torch.Tensor],
) -> None:
    model = moved(Transformer(20, 20, d_model=24, h=3, N=2, d_ff=40))
    src, tgt = sentences
    src[1, 2:], tgt[1, 3:], src[2, :2], tgt[2, :1] = 0, 0, 0, 0
    together = model(src, tgt)
    for row in range(3):
        words, answer = src[row][src[row] != 0], tgt[row][tgt[row] != 0]
        torch.testing.assert_close(
            together[row][tgt[row] != 0], model(words[None], answer[None])[0], atol=1e-5, rtol=1e-5
        )
