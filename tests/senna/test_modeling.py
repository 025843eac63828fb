"""The model on its own: tiny random weights, no recordings."""

import pytest
import torch
from transformers import LlamaForCausalLM

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna import SennaImageFeatures
from tests.senna.tiny import TOKENS, question, tiny_model, tiny_processor, views


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


def embeds_twin(model, batch, row=0):
    """Text embeddings and visual tokens laid out by a loop: (N, d)."""
    with torch.no_grad():
        tokens = model.get_image_features(batch["pixel_values"]).tokens
        rows, view = [], 0
        for index in batch["input_ids"][row].tolist():
            if index == -200:
                rows.extend(tokens[min(row, len(tokens) - 1), view])
                view += 1
            else:
                rows.append(model.get_input_embeddings().weight[index])
        return torch.stack(rows)


def greedy_twin(model, embeds, steps):
    """Greedy decoding without cache or generate: the whole sequence again for each token."""
    llama = LlamaForCausalLM(model.config.text_config).eval()
    llama.model, llama.lm_head = model.language_model, model.lm_head
    ids = []
    with torch.no_grad():
        for _ in range(steps):
            ids.append(int(llama(inputs_embeds=embeds[None]).logits[0, -1].argmax()))
            embeds = torch.cat([embeds, model.get_input_embeddings().weight[ids[-1]][None]])
    return ids


def new_ids(model, batch, steps=12, **kwargs):
    """The new ids of each row; keywords replace or add to the batch."""
    inputs = {**batch, **kwargs}
    out = model.generate(**inputs, max_new_tokens=steps, do_sample=False)
    return out[:, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("count", [1, 3, 6, 7])
def test_generate_equals_the_loop_for_any_number_of_views(model, processor, count):
    batch = processor(text=question(count), images=views(count))
    assert batch["pixel_values"].shape == (1, count, 3, 32, 32)
    twin = greedy_twin(model, embeds_twin(model, batch), 12)
    assert len(set(twin)) > 2  # the weights are no constant answer
    out = model.generate(**batch, max_new_tokens=12, do_sample=False)
    assert out[0].tolist() == batch["input_ids"][0].tolist() + twin


def test_left_padded_batch_equals_single_questions(model, processor):
    questions = [question(3, text) for text in ("go?", "what is your plan in this scene, please?", "a")]
    scenes = [views(3, seed) for seed in range(3)]
    single = [new_ids(model, processor(text=q, images=v))[0] for q, v in zip(questions, scenes, strict=True)]
    batch = processor(text=questions, images=scenes)
    assert (batch["attention_mask"] == 0).any()
    assert new_ids(model, batch) == single
    assert new_ids(model, batch, use_cache=False) == single
    assert new_ids(model, batch, cache_implementation="static") == single


def test_unknown_token_inside_a_prompt_is_no_padding(model, processor):
    """Pad is ``<unk>``, id 0; without a mask only the leading ones are padding."""
    ids = processor(text=question(1), images=views(1))["input_ids"]
    ids[0, 3] = 0
    batch = {"input_ids": ids, "pixel_values": processor(text=question(1), images=views(1))["pixel_values"]}
    wanted = greedy_twin(model, embeds_twin(model, batch), 8)
    padded = torch.nn.functional.pad(ids, (2, 0))
    assert new_ids(model, batch, 8) == new_ids(model, batch, 8, input_ids=padded) == [wanted]


def test_one_scene_serves_many_questions(model, processor):
    questions = [question(2, "go?"), question(2, "what now?")]
    shared_views = processor(text=questions, images=views(2))
    assert shared_views["pixel_values"].shape[0] == 1
    single = [new_ids(model, processor(text=q, images=views(2)))[0] for q in questions]
    assert new_ids(model, shared_views) == single


@pytest.mark.parametrize("as_tensor", [False, True])
def test_features_can_be_reused(model, processor, as_tensor):
    batch = processor(text=question(3), images=views(3))
    wanted = new_ids(model, batch)
    features = model.get_image_features(batch.pop("pixel_values"))
    assert isinstance(features, SennaImageFeatures)
    given = features.tokens if as_tensor else features
    assert new_ids(model, batch, image_features=given) == wanted
    assert new_ids(model, batch, image_features=given, use_cache=False) == wanted
    assert new_ids(model, batch, image_features=given, num_beams=2)[0]  # beams repeat the features, not the ids only


def test_vision_tower_runs_once_a_scene(model, processor):
    batch = processor(text=question(3), images=views(3))
    calls = []
    hook = model.vision_tower.embeddings.register_forward_hook(lambda *_: calls.append(1))
    try:
        new_ids(model, batch)
        assert len(calls) == 1
        context = model.visual_context(frozenset({"cls_scores"}), **batch)
        assert context.cls_scores is not None
        model(**batch)
        assert len(calls) == 2  # the forward reused what the context computed
        model(**batch)
        assert len(calls) == 3  # and only that forward
    finally:
        hook.remove()


def test_inputs_embeds_prefill(model, processor):
    batch = processor(text=question(2), images=views(2))
    embeds = embeds_twin(model, batch)[None]
    out = model.generate(inputs_embeds=embeds, max_new_tokens=12, do_sample=False)
    assert out.tolist() == new_ids(model, batch)
    with torch.no_grad():
        assert torch.allclose(model(inputs_embeds=embeds).logits, model(**batch).logits, atol=1e-5)


def test_manual_decoding_steps(model, processor):
    batch = processor(text=question(2), images=views(2))
    wanted = new_ids(model, batch, 5)[0]
    with torch.no_grad():
        out = model(**batch, use_cache=True, logits_to_keep=1)
        assert out.logits.shape[1] == 1
        found = [int(out.logits[0, -1].argmax())]
        for _ in range(4):
            out = model(input_ids=torch.tensor([[found[-1]]]), past_key_values=out.past_key_values, use_cache=True)
            found.append(int(out.logits[0, -1].argmax()))
    assert found == wanted


def test_what_the_decoder_is_given(model, processor):
    """Pruning hooks sit on the decoder: 2D mask only where something is padded, and unknown keywords untouched."""
    seen = []
    hook = model.get_decoder().register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    try:
        batch = processor(text=question(2), images=views(2))
        model(**batch, marker="kept")
        model.generate(**batch, max_new_tokens=2)
        padded = processor(text=[question(2), question(2, "longer?")], images=[views(2)] * 2)
        model.generate(**padded, max_new_tokens=2)
    finally:
        hook.remove()
    length = batch["input_ids"].shape[1] + 2 * (TOKENS - 1)
    assert seen[0]["marker"] == "kept"
    assert [call["attention_mask"] for call in seen[:3]] == [None] * 3
    assert seen[0]["inputs_embeds"].shape[1] == length
    assert seen[2]["position_ids"].tolist() == [[length]]  # the second step stands right after the expanded prompt
    width = padded["input_ids"].shape[1] + 2 * (TOKENS - 1)
    assert seen[3]["attention_mask"].shape == (2, width)
    assert seen[4]["attention_mask"].shape == (2, width + 1)
    assert seen[4]["position_ids"].flatten().tolist() == seen[3]["attention_mask"].sum(1).tolist()


def test_visual_mask_and_context(model, processor):
    batch = processor(text=[question(2), question(2, "longer?")], images=[views(2, 0), views(2, 1)])
    mask = model.get_visual_mask(batch["input_ids"], batch["attention_mask"])
    with torch.no_grad():
        features = model.get_image_features(batch["pixel_values"], cls_scores=True, patch_mask=batch["patch_mask"])
        embeds = torch.stack([embeds_twin(model, batch, row) for row in range(2)])
    for row in range(2):
        assert torch.equal(embeds[row][mask[row]], features.tokens[row].flatten(0, 1))
    context = model.visual_context(frozenset({"cls_scores"}), **batch)
    assert torch.equal(context.mask, mask)
    assert context.view_sizes == (TOKENS, TOKENS)
    assert torch.allclose(context.cls_scores, features.cls_scores.flatten(1))
    assert "our rule" in context.notes[0]  # the papers do not say how CLS scores reach an adapter's tokens
    bare = model.visual_context(frozenset(), **batch)
    assert (bare.cls_scores, bare.notes) == (None, ())
    reused = model.visual_context(frozenset({"cls_scores"}), input_ids=batch["input_ids"], image_features=features)
    assert torch.equal(reused.cls_scores, features.cls_scores.flatten(1))
    with pytest.raises(SennaPruneError, match="visual_mask"):
        model.visual_context(frozenset(), inputs_embeds=embeds)
    with pytest.raises(SennaPruneError, match="cls_scores=True"):
        model.visual_context(frozenset({"cls_scores"}), input_ids=batch["input_ids"], image_features=SennaImageFeatures(features.tokens))


def test_labels_train_text_only(processor):
    model = tiny_model(seed=3)
    batch = processor(text=question(2), images=views(2), answers="keep")
    assert (batch["labels"] != -100).sum() == len(processor.encode_chunk("keep")) + 1
    out = model(**batch)
    ids, count = batch["input_ids"][0], int((batch["labels"] != -100).sum())
    logits = out.logits[0, -count - 1 : -1]
    assert out.loss.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, ids[-count:]).item(), rel=1e-5)
    out.loss.backward()
    assert model.img_adapter.adapter[0].weight.grad.abs().sum() > 0


def test_labels_at_visual_positions_are_not_learnt(processor):
    """A caller may give labels of the expanded length; what stands at a visual token's place has no word to predict."""
    model = tiny_model(seed=3)
    batch = processor(text=question(2), images=views(2), answers="keep")
    expansion = model._expand(batch["input_ids"])
    labels = model._fit(batch["labels"], expansion, "labels").clone()  # (1, N)
    labels[expansion.visual_mask] = -100
    clean = model(**{**batch, "labels": labels}).loss
    labels[expansion.visual_mask] = 7
    assert model(**{**batch, "labels": labels}).loss.item() == pytest.approx(clean.item(), rel=1e-6)
    assert model(**batch).loss.item() == pytest.approx(clean.item(), rel=1e-6)


def test_mismatches_are_named(model, processor):
    batch = processor(text=question(3), images=views(3))
    ids, pixels = batch["input_ids"], batch["pixel_values"]
    with pytest.raises(SennaPruneError, match="3 <image> marks but 2 images"):
        model(input_ids=ids, pixel_values=pixels[:, :2])
    with pytest.raises(SennaPruneError, match="3 <image> marks but 0 images"):
        model.generate(input_ids=ids, max_new_tokens=1)
    with pytest.raises(SennaPruneError, match="0 <image> marks but 3 images"):
        model(input_ids=torch.tensor([[1, 5, 6]]), pixel_values=pixels)
    with pytest.raises(SennaPruneError, match="zero views"):
        model(input_ids=ids, pixel_values=pixels[:, :0])
    with pytest.raises(SennaPruneError, match=r"2 scenes .* 3 questions"):
        model(input_ids=ids.repeat(3, 1), pixel_values=pixels.repeat(2, 1, 1, 1, 1))
    with pytest.raises(SennaPruneError, match="image_features must be"):
        model(input_ids=ids, image_features=torch.zeros(1, 3, TOKENS + 1, 32))
    with pytest.raises(SennaPruneError, match="attention_mask"):
        model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones(1, 4))
    with pytest.raises(SennaPruneError, match="exactly one"):
        model()
    with pytest.raises(SennaPruneError, match="not both"):
        model.generate(**batch, inputs_embeds=embeds_twin(model, batch)[None], max_new_tokens=1)


def test_a_filled_cache_cannot_be_continued_across_images(model, processor):
    batch = processor(text=question(1), images=views(1))
    cache = model(**batch, use_cache=True).past_key_values
    with pytest.raises(SennaPruneError, match="filled cache"):
        model.generate(**batch, past_key_values=cache, max_new_tokens=1)


def test_prompt_limit(processor):
    batch = processor(text=question(3), images=views(3))
    length = batch["input_ids"].shape[1] + 3 * (TOKENS - 1)
    assert tiny_model(prompt_max_length=length)(**batch).logits.shape[1] == length
    with pytest.raises(SennaPruneError, match=f"{length} positions .* limit is {length - 1}"):
        tiny_model(prompt_max_length=length - 1)(**batch)


def test_return_tuple(model, processor):
    batch = processor(text=question(1), images=views(1))
    with torch.no_grad():
        assert torch.equal(model(**batch, return_dict=False)[0], model(**batch).logits)
