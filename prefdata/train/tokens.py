"""Token ids: the prompt once, each response apart, one end of turn.

Nothing is inferred from token ids: what is trained is known from where each text begins and ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from prefdata.lm import Row
from prefdata.lm.packing import tree_size
from prefdata.train.conversation import (
    ASSISTANT,
    RATIONALE_TEMPLATE,
    Draft,
    Piece,
    check_rationale_template,
    draft,
    rationale_draft,
)
from prefdata.train.data import PreferenceData
from prefdata.train.encoder import Encoder, Ids
from prefdata.train.errors import TrainError
from prefdata.train.needs import check_needs, says_nothing
from prefdata.train.preferences import PreferenceList, Response, TokenList
from prefdata.train.rows_lists import RANKED

__all__ = ["Encoder", "Tokenised", "tokenise"]


@dataclass(frozen=True, slots=True)
class Tokenised:
    """Lists as token ids, those to train on and those held out.

    Attributes:
        training: in the order of the file.
        held_out: in the order of the file.
        left_out: how many lists, by reason.
        truncated: how many lists had a response or a rationale cut.
    """

    training: list[TokenList]
    held_out: list[TokenList]
    left_out: Counter[str]
    truncated: int


@dataclass(frozen=True, slots=True)
class _Drafts:
    """A list as texts: for each response what the policy and what the reference reads, and its rationales."""

    source: PreferenceList
    policy: list[Draft]
    reference: list[Draft]
    rationales: list[Draft]
    rationale_of: tuple[int, ...]

    def texts(self, anchor: str) -> Iterator[str]:
        for one in (*self.policy, *self.reference, *self.rationales):
            yield from one.texts(anchor)


def tokenise(
    data: PreferenceData,
    encoder: Encoder,
    needed: Collection[str],
    *,
    max_length: int,
    overlong: str,
    rationale_template: str | None = None,
) -> Tokenised:
    """All lists that can be trained on, as token ids; the others are counted by reason.

    Args:
        data: the file.
        encoder: of the policy.
        needed: what the loss cannot do without, as `LossSpec.needed` says: with `prompt_tokens` the prompt is scored
            too (from its second token on), with `rationales` the rationales of the edges are rows of their own.
        max_length: tokens of the longest row.
        overlong: drop a longer list; truncate its responses, all at the same length, the prompt whole; or error.
        rationale_template: asks for a rationale, with {prompt}, {first} and {second}; null: the built-in one.

    Raises:
        TrainError: the file lacks what the loss reads; the chat template refuses a prompt or rewrites it; a list is too
            long and `overlong` is error; nothing remains to be trained on.
    """
    template = RATIONALE_TEMPLATE if rationale_template is None else rationale_template
    if "rationales" in needed:
        check_rationale_template(template)
    if encoder.joins and data.templated:
        raise TrainError(
            f"{data.path} holds texts that were rendered with a chat template when they were exported, and `template: "
            "none` says that they were not: leave it out, or export without --template"
        )
    check_needs(data, needed)
    left_out: Counter[str] = Counter(data.left_out)
    drafts: list[_Drafts] = []
    for source in data.lists:
        reason = says_nothing(source, needed)
        if reason:
            left_out[reason] += 1
            continue
        try:
            drafts.append(_draft(source, encoder, template if "rationales" in needed else None))
        except TrainError as error:
            raise TrainError(f"{data.where(source.row)}: {error}") from None
    encoder.learn(text for one in drafts for text in one.texts(encoder.anchor))
    training: list[TokenList] = []
    held_out: list[TokenList] = []
    truncated = 0
    for one in drafts:
        made = _encode(one, encoder, score_prompt="prompt_tokens" in needed)
        if isinstance(made, TokenList) and _longest(made) > max_length:
            made = _shortened(data, made, max_length, overlong)
        made = made if isinstance(made, str) else _settled(made)
        if isinstance(made, str):
            left_out[made] += 1
        else:
            truncated += made.truncated
            (held_out if made.source.held_out else training).append(made)
    if not training:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in left_out.most_common()) or "no row was left out"
        held = f"; {len(held_out)} rows are held out (split valid)" if held_out else ""
        raise TrainError(f"{data.path} has nothing to train on: {reasons}{held}")
    return Tokenised(training, held_out, left_out, truncated)


def _draft(source: PreferenceList, encoder: Encoder, template: str | None) -> _Drafts:
    opened = {
        number: None if isinstance(prompt.turns, str) or encoder.joins else encoder.render(prompt.turns, prompt.tools)
        for number, prompt in enumerate(source.prompts)
    }

    def read(response: Response, number: int) -> Draft:
        return draft(encoder, source.prompts[number], response, opened[number])

    policy = [read(response, response.prompt) for response in source.responses]
    reference = [
        own if response.ref_prompt == response.prompt else read(response, response.ref_prompt)
        for response, own in zip(source.responses, policy, strict=True)
    ]
    if template is None:
        return _Drafts(source, policy, reference, [], (-1,) * len(source.edges))
    rows: list[Draft] = []
    place_of: dict[frozenset[int], int] = {}
    for rationale in source.rationales:
        pair = frozenset(rationale.of)
        if len(pair) != 2 or pair in place_of:
            continue
        first, second = (source.responses[place] for place in rationale.of)
        place_of[pair] = len(rows)
        prompt = source.prompts[first.prompt]
        rows.append(rationale_draft(encoder, template, prompt, first.text, second.text, rationale.text))
    of = tuple(place_of.get(frozenset((edge.winner, edge.loser)), -1) for edge in source.edges)
    return _Drafts(source, policy, reference, rows, of)


def _encode(drafts: _Drafts, encoder: Encoder, *, score_prompt: bool) -> TokenList | str:
    """A list as token ids, or why it cannot be trained on."""
    rows: list[Row] = []
    starts: list[int] = []
    reference: list[Row] = []
    for own, other in zip(drafts.policy, drafts.reference, strict=True):
        made = _row(own, encoder, score_prompt=score_prompt)
        if isinstance(made, str):
            return made
        read = made if other is own else _row(other, encoder, score_prompt=score_prompt)
        if isinstance(read, str):
            return read
        rows.append(made[0])
        starts.append(made[1])
        reference.append(read[0])
    said = [_row(one, encoder, score_prompt=False) for one in drafts.rationales]
    made_list = TokenList(
        source=drafts.source,
        rows=tuple(rows),
        reference=tuple(reference),
        starts=tuple(starts),
        rationale_of=drafts.rationale_of,
    )
    return _with_rationales(made_list, [None if isinstance(one, str) else one[0] for one in said])


def _with_rationales(made: TokenList, rationales: Sequence[Row | None]) -> TokenList:
    """The list with those rationales that something is left of; what an edge says is numbered anew."""
    kept = [number for number, row in enumerate(rationales) if row is not None and row.scored]
    place_of = {number: place for place, number in enumerate(kept)}
    return replace(
        made,
        rationales=tuple(row for number in kept if (row := rationales[number]) is not None),
        rationale_of=tuple(place_of.get(number, -1) for number in made.rationale_of),
    )


def _row(one: Draft, encoder: Encoder, *, score_prompt: bool) -> tuple[Row, int] | str:
    """A row and where its response begins, or why it cannot be trained on."""
    prompt = encoder.start(one.prompt, rendered=one.rendered)
    if not prompt:
        return "empty prompt"
    end = encoder.end_after(one.turns, prompt)
    plain = end is not None and not one.rendered
    tokens = [*prompt, *_ids(one.prefix, encoder, plain=plain)]
    start = len(tokens)
    scored = list(range(1, len(prompt))) if score_prompt else []
    for piece in one.pieces:
        ids, trained = _piece(piece, encoder, plain=plain)
        if end is None:
            ids = encoder.without_rest(ids)
            trained = trained[: len(ids)]
        if piece.trained and end is not None and end in ids[:-1]:
            return "the end-of-turn token stands inside a response"
        if piece.ends and end is not None and ids[-1:] != (end,):
            ids = (*ids, end)
            trained = [*trained, _closes_trained(piece)]
        scored += [len(tokens) + place for place, wanted in enumerate(trained) if wanted]
        tokens += ids
    if len(tokens) == start:
        return "empty response"
    if encoder.starts_twice(tuple(tokens)):
        return "the start token stands inside a text"
    return Row(tuple(tokens), tuple(scored)), start


def _ids(text: str, encoder: Encoder, *, plain: bool) -> Ids:
    return encoder.ids_after(text) if plain else encoder.ids(text)


def _piece(piece: Piece, encoder: Encoder, *, plain: bool) -> tuple[Ids, list[bool]]:
    """A piece's ids, and which of them are trained: those wholly inside what is the assistant's."""
    if not piece.segments:
        ids = _ids(piece.text, encoder, plain=plain)
        return ids, [piece.trained] * len(ids)
    if not piece.text:
        return (), []
    owned, begin = [], 0
    for segment in piece.segments:
        owned += [(segment.role or ASSISTANT) == ASSISTANT] * (segment.end - begin)
        begin = segment.end
    owned += [True] * (len(piece.text) - begin)
    ids, spans = encoder.spans(piece.text, after=plain)
    # A token without characters of its own belongs to the one that it stands before.
    return ids, [all(owned[begin:end] or owned[begin : begin + 1] or owned[-1:]) for begin, end in spans]


def _closes_trained(piece: Piece) -> bool:
    """Whether the token that ends a piece is trained: where its last character is."""
    last = piece.segments[-1] if piece.segments else None
    return piece.trained and (last is None or last.end < len(piece.text) or (last.role or ASSISTANT) == ASSISTANT)


def _longest(made: TokenList) -> int:
    return max(len(row.tokens) for row in (*made.rows, *made.reference, *made.rationales))


def _shortened(data: PreferenceData, long: TokenList, max_length: int, overlong: str) -> TokenList | str:
    """What becomes of a list with a row of more than `max_length` tokens."""
    if overlong == "error":
        raise TrainError(
            f"{data.where(long.source.row)}: {_longest(long)} tokens are more than max_length {max_length}; "
            "raise it, or set overlong to drop or truncate"
        )
    if overlong == "drop":
        return f"longer than {max_length} tokens"
    # The reference reads the same response, maybe after a longer prompt.
    begins = [
        start + max(0, len(other.tokens) - len(row.tokens))
        for start, row, other in zip(long.starts, long.rows, long.reference, strict=True)
    ]
    room = max_length - max(begins)
    if room < 1:
        return f"the prompt alone fills {max_length} tokens"
    pairs = zip(long.rows, long.reference, long.starts, strict=True)
    shift = [(row, other, start, start + len(other.tokens) - len(row.tokens)) for row, other, start in pairs]
    cut = replace(
        long,
        rows=tuple(_cut(row, start + room) for row, _, start, _ in shift),
        reference=tuple(_cut(other, start + room) for _, other, _, start in shift),
        truncated=True,
    )
    return _with_rationales(cut, [_cut(row, max_length) for row in long.rationales])


def _cut(row: Row, length: int) -> Row:
    """A row's first tokens: what is cut no longer ends its turn."""
    if len(row.tokens) <= length:
        return row
    return Row(row.tokens[:length], tuple(place for place in row.scored if place < length))


def _settled(made: TokenList) -> TokenList | str:
    """A list with its size, or why it says nothing once it is tokenised."""
    if any(not row.scored or row.scored[-1] < start for row, start in zip(made.rows, made.starts, strict=True)):
        return "nothing of a response is trained"
    pairs = zip(made.rows, made.source.responses, strict=True)
    ranked = [row.tokens for row, response in pairs if response.role == RANKED]
    if len(ranked) > 1 and _all_equal(ranked):
        return "all responses equal"
    return replace(made, size=tree_size((*made.rows, *made.rationales)))


def _all_equal(rows: Sequence[Ids]) -> bool:
    return all(row == rows[0] for row in rows[1:])
