"""Summarization: ROUGE as the package computes it, the grammar's parts, untidy files, and the real data sets' form."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

from papers.datasets import SUMMARY_DOMAINS, real_summaries, texts_with_summaries, untidy_json_lines
from papers.transformer.summarization import build_dataset, clean, lead_k, rouge, train_tokenizer, words

NAMES = ["rouge1", "rouge2", "rougeL"]
VOCABULARY = [
    "a",
    "the",
    "The",
    "cat",
    "cats",
    "sat",
    "running",
    "3.5",
    "e-mail",
    "Zoë",
    "№5",
    "it's",
    "\u00a0",
    "...",
    "IT",
    "snake_case",
]


def test_rouge_is_that_of_the_package_on_random_sentences() -> None:
    draw = random.Random(1)
    scorer = RougeScorer(NAMES, use_stemmer=False)
    for _ in range(300):
        pairs = [
            tuple(" ".join(draw.choices(VOCABULARY, k=draw.randint(0, 25))) for _ in "pr")
            for _ in range(draw.randint(1, 4))
        ]
        theirs = [scorer.score(reference, prediction) for prediction, reference in pairs]
        ours = rouge([prediction for prediction, _ in pairs], [reference for _, reference in pairs])
        assert list(ours) == NAMES
        for name in NAMES:
            assert ours[name] == pytest.approx(sum(score[name].fmeasure for score in theirs) / len(pairs), abs=1e-12)


def test_a_stemmer_would_change_rouge() -> None:
    stemmed = RougeScorer(["rouge1"], use_stemmer=True).score("the singer sang songs", "the singers sang song")
    assert rouge(["the singers sang song"], ["the singer sang songs"])["rouge1"] < stemmed["rouge1"].fmeasure


@pytest.mark.parametrize("domain", SUMMARY_DOMAINS)
def test_the_grammar_writes_the_same_texts_for_a_seed_and_others_for_another(domain: str) -> None:
    some = texts_with_summaries(domain, 50, "train", 3)
    assert some == texts_with_summaries(domain, 50, "train", 3)
    assert some[:20] == texts_with_summaries(domain, 20, "train", 3)
    assert not {r["text"] for r in some} & {r["text"] for r in texts_with_summaries(domain, 50, "train", 4)}
    assert len({r["text"] for r in some}) == 50


def test_the_grammar_is_the_same_everywhere() -> None:
    assert (
        texts_with_summaries("news", 1)[0]["summary"] == "Ada Torres gave money to a hospital in Thornton on Tuesday."
    )
    assert (
        texts_with_summaries("chats", 1, "test")[0]["summary"]
        == "Rosa and Simon will dance together in Northgate on Wednesday."
    )


@pytest.mark.parametrize("domain", SUMMARY_DOMAINS)
def test_no_pair_of_names_and_no_pair_of_event_and_place_is_in_both_parts(domain: str) -> None:
    def pairs(part: str) -> tuple[set[tuple[str, ...]], set[tuple[str, str]]]:
        people, events = set(), set()
        for record in texts_with_summaries(domain, 3000, part):
            said = record["summary"].removesuffix(".").split()
            people.add((said[0], said[2] if domain == "chats" else said[1]))
            events.add((" ".join(said[2 if domain == "news" else 4 : -4]), said[-3]))
        return people, events

    (people, events), (held_people, held_events) = pairs("train"), pairs("test")
    assert len(people) > 200 and len(held_people) > 50 and len(events) > 200 and len(held_events) > 50
    assert not people & held_people and not events & held_events
    assert {name for pair in held_people for name in pair} <= {name for pair in people for name in pair}


@pytest.mark.parametrize("domain", SUMMARY_DOMAINS)
def test_every_fact_of_a_summary_stands_in_the_text_and_no_three_sentences_hold_them_all_as_a_rule(domain: str) -> None:
    records = texts_with_summaries(domain, 300, "test")
    held = 0
    for record in records:
        facts = {word for word in record["summary"].removesuffix(".").split() if word[0].isupper()}
        assert all(fact in record["text"] for fact in facts)
        held += all(fact in lead_k(record["text"]) for fact in facts)
    assert held / len(records) < 0.3
    lead = rouge([lead_k(r["text"]) for r in records], [r["summary"] for r in records])
    assert 0.2 < lead["rouge1"] < 0.5


def test_an_unknown_domain_or_part_is_refused() -> None:
    with pytest.raises(ValueError, match="news, chats"):
        texts_with_summaries("poems", 1)
    with pytest.raises(ValueError, match="train, test"):
        texts_with_summaries("news", 1, "validation")


def test_untidy_lines_give_back_every_record_and_each_other_line_is_reported() -> None:
    records = texts_with_summaries("news", 400)
    lines = untidy_json_lines(records)
    assert lines == untidy_json_lines(records) and len(lines) > 420
    cleaned, problems = clean(lines)
    assert cleaned == records
    assert set(problems.values()) == {"not JSON", "field missing", "empty", "duplicate"}
    assert len(cleaned) + len(problems) + sum(not line.strip() for line in lines) == len(lines)


def test_a_learners_own_file_with_broken_lines_goes_all_the_way_to_a_dataset(tmp_path: Path) -> None:
    good = [
        {"id": i, "text": f"Record {i} &amp; its  text.\n It has two sentences.", "summary": f"Record {i}."}
        for i in range(30)
    ]
    lines = [json.dumps(record) for record in good]
    lines[4], lines[9] = lines[4][:-7], json.dumps({"text": "no summary"})
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        records, problems = clean(file)
    assert problems == {5: "not JSON", 10: "field missing"} and len(records) == 28
    assert records[0] == {"text": "Record 0 & its text. It has two sentences.", "summary": "Record 0."}
    tokenizer = train_tokenizer((text for record in records for text in record.values()), 120)
    dataset = build_dataset(records, lambda text: tokenizer.encode(text).ids, 10, 6)
    assert len(dataset) == 28 and all(len(source) <= 10 and len(target) <= 6 for source, target in dataset)
    assert all(source[-1] == 2 and target[0] == 1 and target[-1] == 2 for source, target in dataset)


def test_a_tokenizer_gives_back_what_it_was_given_and_leaves_special_tokens_out() -> None:
    texts = [record[field] for record in texts_with_summaries("chats", 200) for field in record]
    tokenizer = train_tokenizer(texts, 500)
    assert [tokenizer.token_to_id(token) for token in ("<pad>", "<bos>", "<eos>", "<unk>")] == [0, 1, 2, 3]
    assert tokenizer.get_vocab_size() <= 500
    for text in texts[:100]:
        assert tokenizer.decode([1, *tokenizer.encode(text).ids, 2, 0, 0]) == text
    assert tokenizer.get_vocab() == train_tokenizer(texts, 500).get_vocab()


@pytest.mark.parametrize(("name", "row", "field"), [
    ("samsum", {"dialogue": "A: hi", "summary": "Hi."}, "samsum/test.json"),
    ("scitldr", {"source": ["One.", "Two."], "target": ["T.", "U."]}, "scitldr/test.jsonl"),
])  # fmt: skip
def test_real_data_are_read_as_published(name: str, row: dict[str, object], field: str, tmp_path: Path) -> None:
    path = tmp_path / field
    path.parent.mkdir()
    path.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n", encoding="utf-8")
    expected = {"text": "A: hi", "summary": "Hi."} if name == "samsum" else {"text": "One. Two.", "summary": "T."}
    assert real_summaries(name, "test", tmp_path) == [expected] * 2
    assert real_summaries(name, "test", tmp_path, limit=1) == [expected]
    with pytest.raises(FileNotFoundError, match="lacks this part"):
        real_summaries(name, "train", tmp_path)


def test_words_are_what_rouge_score_splits() -> None:
    from rouge_score.tokenizers import DefaultTokenizer

    text = " ".join(VOCABULARY)
    assert words(text) == DefaultTokenizer(use_stemmer=False).tokenize(text)
