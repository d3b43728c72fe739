"""A tokenizer for tests and benchmarks that knows the words of some texts and is the same in every process.

One that `tokenizers` trains is not: it breaks ties between pairs by the order of a hash map.
"""

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer


END = "</w>"
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def word_tokenizer(texts):
    """Return a CLIP tokenizer in which each word of the texts is one token, merged letter by letter from the left."""
    bytes_ = sorted(ByteLevel.alphabet())
    tokens, merges = [*bytes_, *(byte + END for byte in bytes_)], {}
    for word in sorted({word for text in texts for word in _words(text)}):
        left, *others = [*word[:-1], word[-1] + END]
        for right in others:
            merges[left, right] = None
            left += right
            tokens.append(left)
    vocab = {token: number for number, token in enumerate(dict.fromkeys([*tokens, *SPECIAL]))}
    return CLIPTokenizer(vocab=vocab, merges=list(merges))


def _words(text):
    """Return the words of a text as CLIP's own tokenizer splits it, in its alphabet of bytes."""
    plain = CLIPTokenizer().backend_tokenizer
    return [word for word, _ in plain.pre_tokenizer.pre_tokenize_str(plain.normalizer.normalize_str(text))]
