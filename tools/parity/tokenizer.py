#!/usr/bin/env python3
"""Goldens for the tokenizer: ids that transformers' CLIPTokenizer gives to 1,000 odd strings.

    tools/parity/tokenizer.py [--clip FOLDER]

writes crates/sd-core/tests/goldens/tokenizer/:
    vocab.json, merges.txt   a small vocabulary of our own, built here, with the structure of CLIP's
    texts.json               the strings
    small.json               the settings files of several kinds of folder, and the ids with each of them
    clip.json                the ids with CLIP's own vocabulary (only with --clip: a folder with vocab.json and merges.txt)

Needs transformers 5.23.0.
"""

import argparse
import collections
import json
import logging
import random
import shutil
import tempfile
from pathlib import Path

import transformers
from transformers import CLIPTokenizer

GOLDENS = Path(__file__).resolve().parents[2] / "crates/sd-core/tests/goldens/tokenizer"
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
COUNT = 1000

CORPUS = """
a photo of a cat sitting on the table. the red balloon and the small brown dog are standing in the garden.
an oil painting of the tower by night, in the style of an old master; a portrait of the woman with the yellow hat.
it's raining, don't you think? we've seen it, they're here, i'm sure he'll come and she'd stay. the polar bear is swimming.
a photograph of an astronaut riding a horse on the moon, highly detailed, digital art, sharp focus, 4k resolution.
three apples, seven books, twelve candles and one hundred windows, over the mountains and under the bridge.
un café très élégant à la plage, ein schöner großer garten mit blumen, una niña pequeña en españa, straße, été, naïve.
снег на улице города, кот и собака, το σπίτι στη θάλασσα. 猫 と 犬, 東京 の 夜, 北京 天安门. 안녕 하세요.
"""


def byte_letters():
    """The letter that stands for each byte (GPT-2's table: printable ones stand for themselves, the rest follow from U+0100)."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {byte: chr(byte) for byte in own}
    rest = (byte for byte in range(256) if byte not in table)
    table.update({byte: chr(256 + index) for index, byte in enumerate(rest)})
    return table


def train(merges):
    """The first `merges` merges of byte pairs over the corpus, the most frequent first, ties in the order of letters."""
    table = byte_letters()
    words = collections.Counter(CORPUS.split())
    cut = {}
    for word, count in words.items():
        letters = [table[byte] for byte in word.encode()]
        letters[-1] += "</w>"
        cut[tuple(letters)] = cut.get(tuple(letters), 0) + count
    found = []
    for _ in range(merges):
        pairs = collections.Counter()
        for word, count in cut.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        cut = {merge(word, best): count for word, count in cut.items()}
    letters = list(table.values())
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in found] + [BEGIN, END]
    return {token: index for index, token in enumerate(tokens)}, found


def merge(word, pair):
    joined, index = [], 0
    while index < len(word):
        if word[index : index + 2] == pair:
            joined.append("".join(pair))
            index += 2
        else:
            joined.append(word[index])
            index += 1
    return tuple(joined)


HANDMADE = [
    "", " ", "\t", "\n", "   \t\n  ", "\u00a0", "\u3000", "\u200b", "\ufeff", "\x00", "\x00a\x00", "\x1b[31mred\x1b[0m", "\x7f", "\x85",
    "a photo of a cat", "A PHOTO OF A CAT", "a  photo   of\ta\ncat", " leading", "trailing ", "tabs\tand\nnewlines\r\nhere",
    "it's", "It'S", "IT'S", "don't", "we've they're i'm he'll she'd", "'s", "s'", "''s", "'S'T'RE", "rock'n'roll", "o'clock", "’s", "don’t",
    "`quoted'", "''''", "'", "\"double\"", "l'été", "d'une", "'tis", "'ll", "'lll", "'d'd",
    "é", "e\u0301", "\u0301", "a\u0301\u0302\u0303", "A\u030a", "\u212b", "ﬁ", "ǆ", "İ", "I\u0307", "ı", "ß", "ẞ", "ΑΣ", "ΣΑΣ Σ", "ŉ", "ŀ",
    "½", "²", "①", "Ⅳ", "ⅳ", "٣", "१२३", "๑๒", "𝟘𝟙", "１２３", "1st 2nd 3rd", "007", "3.14159", "1,000,000", "1e-5", "0x1F", "2024-01-31",
    "👍", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷🇩🇪", "❤️", "❤", "☺️☺", "a👍b", "👍👍👍", "🧑🏿‍🚀 on the moon", "©®™", "🫠🫡", "🪿", "1️⃣",
    "猫", "猫と犬", "東京 タワー", "天安门广场", "안녕하세요", "각", "\u1100\u1161\u11a8", "ｶﾞ", "が", "か\u3099", "葛\U000e0100", "𠮷野家", "、。「」",
    "שלום עולם", "مرحبا بالعالم", "السَّلَامُ", "\u202bאבג\u202c", "abc\u200fאבג\u200e", "नमस्ते", "क्षि", "ภาษาไทย", "ខ្មែរ", "தமிழ்", "မြန်မာ", "ᏣᎳᎩ", "ꭰ", "ᲀ",
    "Привет, мир", "ЁЖ", "Ελλάδα", "ǅ", "Ꭓ", "Ⴀ", "Ა", "𐐀𐐨", "𞤀", "𝓗𝓮𝓵𝓵𝓸", "ＦＵＬＬ　ＷＩＤＴＨ", "ʰʷ", "ª º", "ˈstres", "ʻokina", "Ⓐ", "🅰", "℃", "Å", "Ω", "ﷺ", "ﬀ",
    "a\u00adb", "a\u200bb", "a\u200db", "a\u2060b", "a\ufeffb", "a\u180eb", "a\u2028b", "a\u2029b", "a\u0085b", "a\u1680b", "a\u205fb", "a\u202fb", "a\x0bb", "a\x0cb", "a\x1cb", "a\x1fb",
    "\ue000", "\ufffd", "\uffff", "\U0010ffff", "\U0001f9ff", "\u0378", "\u2065", "\U000e0041", "\ud7ff", "\ufdd0",
    BEGIN, END, BEGIN + END, "a" + END + "b", f"a {END} b", f"{BEGIN} a {END}", "<|ENDOFTEXT|>", "<|StartOfText|>", "<|endoftext|", "|endoftext|>", "<|endoftext|>" * 3,
    "< |endoftext|>", f"cat{END}", f"{END}'s", f" {BEGIN} ", "<|pad|>", "</w>", "a</w>", "<w>", "#version: 0.2", "Ġ", "ĠĠ", "Ċ", "âĢĻ",
    "!", "!!", "!!!!", "hi!", "!hi", "hi ! there", "a!b", "wow!!1!", "?!", "¡hola!", "！", "#!/bin/sh", "!=", "(!)",
    "(a:1.2)", "[cat|dog]", "((masterpiece))", "a_b", "snake_case_name", "__init__", "a-b", "a–b—c", "...", "…", ". . .", "a.b.c", "u.s.a.", "e-mail@site.org", "https://site.org/a?b=c&d=%20",
    "C:\\path\\file", "a/b", "a|b", "a\\nb", "{}", "$100", "100%", "5€", "£5", "#tag", "@user", "a+b=c", "2×2", "x²", "½ cup", "5'11\"", "12:30", "a;b", "<b>bold</b>", "&amp;", "~~", "^^", "*_*", ":-)", "¯\\_(ツ)_/¯", "(╯°□°)╯︵ ┻━┻", "►", "→", "∀x∈ℝ", "∑∫√", "─│┌", "░▒▓", "♠♥♦♣", "♪♫",
    "supercalifragilisticexpialidocious", "pneumonoultramicroscopicsilicovolcanoconiosis", "Donaudampfschifffahrtsgesellschaftskapitän", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a" * 300, "ab" * 200, "猫" * 120, "👍" * 90, "é" * 150, "!" * 100, "1" * 100, "' " * 60, "a " * 100, "the " * 74, "the " * 75, "the " * 76, "the " * 77, "x" * 5000, "word " * 1000,
    "Z̷̢a̸l̶g̵o̴", "t̸̨͔̋h̵e̶", "e\u0301\u0323", "e\u0323\u0301", "\u0344", "\u0958", "\u0f43", "\u2126", "\uf900", "\U0002f800", "\u1e9b\u0323",
    "CamelCaseWord", "iPhone15Pro", "mp3", "4K", "H2O", "a1b2c3", "1a", "x86_64", "v1.5", "SD2.1", "RGB(255,0,0)", "50mm f/1.8", "8k uhd dslr", "trending on artstation",
]

ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", " ", " ", "  ", "\t\n\r", "'", "'s't're", ".,;:!?-_()[]{}", "éèêëàâäöüßñçøåæœ", "ÉÈÀÖÜÇØÅÆ",
    "\u0301\u0300\u0308\u0327\u0323", "абвгдеёжз", "ΑΒΓαβγσς", "日本語中文字猫犬", "ひらがなカタカナ", "한국어글자", "אבגדהו", "ابتثجح", "नमस्ते", "ไทยภาษา",
    "😀👍🏽❤️\u200d🚀🧑🎉", "\u200b\u200c\u200e\u00a0\u3000\u2009", "\x00\x01\x07\x1b\x7f\x85", "©®™€£¥§¶", "∀∂∈∑√∞≤≥", "½¾²³①②", "ﬁﬂﬀ", "𝒜𝓫𝟘", "İıǅ",
]


def texts():
    """1,000 strings, none twice: those above, words of the corpus disturbed, and random mixtures."""
    draw = random.Random(7)
    found = dict.fromkeys(HANDMADE)
    words = CORPUS.split()
    while len(found) < 600:
        chosen = [draw.choice(words) for _ in range(draw.randint(1, 14))]
        spot = draw.randrange(len(chosen))
        chosen[spot] = draw.choice([str.upper, str.title, lambda w: w + "!", lambda w: w[::-1], lambda w: w * 3, lambda w: "'" + w])(chosen[spot])
        found[draw.choice([" ", "  ", ", ", "-", "\t", " ' "]).join(chosen)] = None
    while len(found) < 900:
        parts = (draw.choice(draw.choice(ALPHABETS)) for _ in range(draw.randint(1, 40)))
        found["".join(parts)] = None
    while len(found) < COUNT:
        points = (draw.randrange(0x110000) if draw.random() < 0.3 else draw.randrange(0x3000) for _ in range(draw.randint(1, 12)))
        found["".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)] = None
    assert len(found) == COUNT, len(found)
    return list(found)


def token(content, **flags):
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False, **flags}


def folders():
    """Settings files of folders as they are met with: name → file → content."""
    special = {"bos_token": token(BEGIN), "eos_token": token(END), "unk_token": token(END)}
    config = {
        "add_prefix_space": False, "bos_token": {"__type": "AddedToken", **token(BEGIN)}, "do_lower_case": True,
        "eos_token": {"__type": "AddedToken", **token(END)}, "errors": "replace", "model_max_length": 77, "pad_token": END,
        "tokenizer_class": "CLIPTokenizer", "unk_token": {"__type": "AddedToken", **token(END)},
    }
    listed = {"512": token("a!", normalized=False, special=True), "40": token("I", normalized=True, special=False, single_word=True)}
    return {
        "sd1": {"special_tokens_map.json": {**special, "pad_token": END}, "tokenizer_config.json": config},
        "sd2": {"special_tokens_map.json": {**special, "pad_token": "!"}, "tokenizer_config.json": config},
        "bare": {},
        "config": {"tokenizer_config.json": config},
        "dollar": {"tokenizer_config.json": {**config, "added_tokens_decoder": listed, "pad_token": "$", "model_max_length": 20}},
        "added": {"special_tokens_map.json": special, "added_tokens.json": {"<cat-toy>": None, "the dog": None}},
    }


def write(folder, settings):
    for name, content in settings.items():
        (folder / name).write_text(json.dumps(content))


def encode(tokenizer, texts):
    """The ids of each text with begin and end, without padding, cut to the tokenizer's length."""
    length = tokenizer.model_max_length if tokenizer.model_max_length < 10**6 else 77
    return tokenizer(texts, truncation=True, max_length=length)["input_ids"]


def lines(ids):
    return [" ".join(map(str, row)) for row in ids]


def small(vocabulary, merges, texts):
    """The ids with our vocabulary in each kind of folder; those that equal the first kind's are left out."""
    found, first = {}, None
    for name, settings in folders().items():
        if "added_tokens.json" in settings:
            tokens = settings["added_tokens.json"]
            settings["added_tokens.json"] = {token: len(vocabulary) + index for index, token in enumerate(tokens)}
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            shutil.copy(GOLDENS / "vocab.json", folder)
            shutil.copy(GOLDENS / "merges.txt", folder)
            write(folder, settings)
            tokenizer = CLIPTokenizer.from_pretrained(folder)
            rows = lines(encode(tokenizer, texts))
            first = first or rows
            found[name] = entry(tokenizer, settings, rows, first)
            if name in ("sd2", "added"):
                found[name + "-saved"] = saved(tokenizer, texts, first)
    return found


def entry(tokenizer, settings, rows, first):
    differ = {str(index): row for index, row in enumerate(rows) if row != first[index]}
    return {"files": settings, "pad": tokenizer.pad_token_id, "ids": rows if rows is first else differ}


def saved(tokenizer, texts, first):
    """A folder as transformers writes it: tokenizer.json, whose vocabulary and merges the test puts in again."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        settings = {path.name: json.loads(path.read_text()) for path in Path(folder).iterdir() if path.suffix == ".json"}
        again = CLIPTokenizer.from_pretrained(folder)
    settings["tokenizer.json"]["model"].pop("vocab")
    settings["tokenizer.json"]["model"].pop("merges")
    return entry(again, settings, lines(encode(again, texts)), first)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="folder with CLIP's vocab.json and merges.txt")
    clip = parser.parse_args().clip
    assert transformers.__version__ == "5.23.0", transformers.__version__
    logging.getLogger("transformers").setLevel(logging.ERROR)
    GOLDENS.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = train(320)
    (GOLDENS / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (GOLDENS / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    strings = texts()
    dump("texts.json", strings)
    dump("small.json", small(vocabulary, merges, strings))
    if clip:
        with tempfile.TemporaryDirectory() as folder:
            for name in ("vocab.json", "merges.txt"):
                shutil.copy(clip / name, folder)
            write(Path(folder), folders()["sd1"])
            dump("clip.json", lines(encode(CLIPTokenizer.from_pretrained(folder), strings)))


def dump(name, content):
    text = json.dumps(content, indent=0, ensure_ascii=True)
    (GOLDENS / name).write_text(text + "\n")
    print(f"{name}: {len(text)} bytes")


if __name__ == "__main__":
    main()
