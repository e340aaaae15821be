"""Makes a language model that knows nothing: two layers of random weights and a tokenizer of single bytes, half a
megabyte on the spot. `python tiny_model.py FOLDER`, in the virtual environment of messy_upstream.py."""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|end|>"
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, END is the token 0."""
    words = [END, *ROLES, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytewise = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=bytewise, eos_token=END, pad_token=END, additional_special_tokens=ROLES
    )
    made.chat_template = TEMPLATE
    return made


def model(vocabulary: int) -> LlamaForCausalLM:
    """The same weights every time."""
    torch.manual_seed(7)
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=32_768, bos_token_id=None, eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip
    made.generation_config = GenerationConfig(do_sample=True, eos_token_id=0, pad_token_id=0)
    return made


def main() -> None:
    folder = Path(sys.argv[1])
    words = tokenizer()
    model(len(words)).save_pretrained(folder)
    words.save_pretrained(folder)


if __name__ == "__main__":
    main()
