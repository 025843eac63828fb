"""Stock vision-language models of transformers 5: what they say themselves of their visual tokens, one small file a family.

    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from senna_autoprune import AutoPrune

    name = "llava-hf/llava-1.5-7b-hf"
    processor, model = AutoProcessor.from_pretrained(name), AutoModelForImageTextToText.from_pretrained(name, dtype="auto")
    inputs = processor(images=Image.open("road.jpg"), text="USER: <image> Is the road free? ASSISTANT:", return_tensors="pt")
    with AutoPrune(tokens=64)(model) as trace:  # 64 of 576 visual tokens a layer, on average
        answer = model.generate(**inputs.to(model.device, model.dtype), max_new_tokens=32)
    print(processor.batch_decode(answer, skip_special_tokens=True)[0])
    print(trace[0].tokens_per_layer, trace[0].kept[-1])  # the last layer's survivors, as indices 0..575 of the image's tokens

The lines above are run by a test, on a tiny checkpoint.
"""
