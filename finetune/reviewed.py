"""What accepted proposals make of training rows.

Owns that step alone: labels for messages, corrected labels, merged intents. Rows are known by their words, never by
their place in a file. Knows nothing about files; proposals come in as values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from finetune.examples import OUT_OF_SCOPE, Example, FinetuneError
from finetune.proposals import AnswerProposal, IntentProposal, LabelProposal, MergeProposal, Proposal, row_key


def reviewed(rows: Iterable[Example], accepted: Sequence[Proposal]) -> Iterator[Example]:
    """The rows as people have decided, in their order, then the accepted messages that are in no row.

    A message gets its intent wherever a row of the same words has no label; a label that is there is changed only by
    a correction of that very label, and never in the playbook's own examples. Merged intents change last and in all.
    Raises FinetuneError before the first row when merges lead in a circle.
    """
    merged = merges(accepted)
    changed = _decided(rows, accepted) if accepted else iter(rows)
    return (replace(row, intent=merged[row.intent]) if row.intent in merged else row for row in changed)


def _decided(rows: Iterable[Example], accepted: Sequence[Proposal]) -> Iterator[Example]:
    intents = {
        row_key(asked): (asked, proposal.intent)
        for proposal in accepted
        if isinstance(proposal, AnswerProposal | IntentProposal)
        for asked in proposal.asked
    }
    corrections = {(p.row, p.given): p for p in accepted if isinstance(p, LabelProposal)}
    present: set[str] = set()
    for row in rows:
        key = row_key(row)
        correction = corrections.get((key, row.intent)) if row.intent is not None else None
        if row.intent is None and key in intents:
            row = _labelled(row, intents[key][1])
        elif correction is not None and row.origin != "playbook":
            if correction.action == "leave_out":
                # Left out is left out: its message does not come back by another decision.
                present.add(key)
                continue
            row = _labelled(row, OUT_OF_SCOPE if correction.action == "out_of_scope" else correction.intent)
        if row.intent is not None and key in intents:
            present.add(key)
        yield row
    yield from (
        Example(asked.text, intent, asked.history, origin="review")
        for key, (asked, intent) in intents.items()
        if key not in present
    )


def _labelled(row: Example, intent: str) -> Example:
    """The row with a reviewer's label; a row from Slack stays one, for its terms stay."""
    return replace(row, intent=intent, origin="slack" if row.origin == "slack" else "review")


def merges(accepted: Sequence[Proposal]) -> dict[str, str]:
    """What each merged intent is now, through all merges. Raises FinetuneError when they lead in a circle."""
    direct = {p.source: p.into for p in accepted if isinstance(p, MergeProposal)}
    final = {}
    for source in direct:
        path = [source]
        while path[-1] in direct:
            path.append(direct[path[-1]])
            if path[-1] == source or len(path) > len(direct) + 1:
                raise FinetuneError(
                    f"merged intents lead in a circle: {' -> '.join(path)}; take back one of the accepted merges"
                )
        final[source] = path[-1]
    return final


def check_acceptable(proposal: Proposal, accepted: Sequence[Proposal]) -> None:
    """Raises FinetuneError where accepting makes no sense beside what was accepted before."""
    if not isinstance(proposal, MergeProposal):
        return
    before = [p for p in accepted if isinstance(p, MergeProposal) and p.id != proposal.id]
    if twice := next((p for p in before if p.source == proposal.source), None):
        raise FinetuneError(
            f"{proposal.id}: from: {proposal.source} was merged into {twice.into} before; name that one, or reject this"
        )
    merges([*before, proposal])
