#!/usr/bin/env python3
"""Makes trainer/tests/fixtures/rouge.json, with what Google's rouge-score and NLTK say.

    python3 -m venv venv && . venv/bin/activate
    pip install rouge-score==0.1.2 nltk==3.10.4
    python scripts/generate_rouge_fixtures.py

Run from the root of the repository. Words and texts are made up; everything is seeded.
"""

import json
import random
from pathlib import Path

from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer

TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
ENDINGS = (
    "s es ies sses ss ed ied eed ing y ly alli ally fulli fully ational tional enci anci izer bli abli entli eli ousli"
    " ization ation ator alism iveness fulness ousness aliti iviti biliti logi ology icate ative alize iciti ical ful"
    " ness al ance ence er ic able ible ant ement ment ent ion sion tion ou ism ate iti ous ive ize e ll lled lling"
).split()
STEMS = "a fl tr rel cond hop tann fall fizz siz agre pl motor conflat vietnam oper toy syzyg b2b rat contr".split()
WORDS = (
    "skies sky dying lying tying news innings inning outings outing cannings canning howe proceed exceed succeed"
    " spied tries dies enjoyment enjoy says yyyy ying by feed bled sing happily apologies geology 1990s x9 oed"
    " generously strings stringed guitarists controlling rolled caresses ponies owed using ied eed ing ed"
).split()
TEXTS = [
    ("The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."),
    ("Holds the guitar well.\nFolds flat, too!", "It folds flat.\nIt holds a guitar very well."),
    ("Élégant naïve films, £5", "elegant films; 5 naive"),
    ("one two\n\n\nthree", "three\none\ntwo"),
    ("same words here", "same words here"),
    ("strings stringing stringed", "string"),
    ("a b c d", "d c b a"),
    ("nothing", "in common"),
    ("\n...\nwords after signs", "... words\nafter signs\n"),
    ("word", ""),
]


def sentences(rng: random.Random) -> str:
    words = "the strings string broke breaking twice and it sounds sounded nice good a of played playing".split()
    lines = [" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(rng.randint(1, 4))]
    return rng.choice(["\n", ". ", ".\n"]).join(lines)


rng = random.Random(1)
texts = TEXTS + [(sentences(rng), sentences(rng)) for _ in range(60)]
scorers = [RougeScorer(TYPES, use_stemmer=stems) for stems in (False, True)]
cases = []
for target, prediction in texts:
    both = [scorer.score(target, prediction) for scorer in scorers]
    scores = [[list(map(float, scores[kind])) for kind in TYPES] for scores in both]
    cases.append({"target": target, "prediction": prediction, "scores": scores})
stemmer = PorterStemmer()
words = sorted(set(WORDS + [stem + ending for stem in STEMS for ending in ENDINGS]))
golden = {"stems": {word: stemmer.stem(word) for word in words}, "texts": cases}
path = Path("trainer/tests/fixtures/rouge.json")
path.parent.mkdir(exist_ok=True)
path.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")).replace('{"target"', '\n{"target"') + "\n")
