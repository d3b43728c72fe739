"""What a plain CLIPModel answers with weights that were interpolated by hand."""

import torch
from transformers import CLIPModel, CLIPProcessor


def probabilities(theta_0, theta_1, alpha, picture, words, template="a photo of a {}."):
    """The probability of each word, with the models in two folders mixed in float64."""
    model, other = (CLIPModel.from_pretrained(folder, dtype=torch.float64) for folder in (theta_0, theta_1))
    ends = model.state_dict(), other.state_dict()
    model.load_state_dict({name: (1 - alpha) * x + alpha * ends[1][name] for name, x in ends[0].items()})
    texts = [template.replace("{}", word) for word in words]
    processor = CLIPProcessor.from_pretrained(theta_0, backend="pil")
    inputs = processor(text=texts, images=picture, return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model.eval()(**inputs | {"pixel_values": inputs["pixel_values"].double()}).logits_per_image
    return logits.softmax(dim=-1)[0].tolist()
