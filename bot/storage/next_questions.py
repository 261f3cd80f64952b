"""What customers ask after an answer ("people also ask"), counted over the record.

Owns the counting and its floor: something is told only once several visitors did it, and only as the name of an intent
or the title of an article, so that no customer's own words are ever shown to another. Knows nothing about wording.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from bot.conversation.answers import NextTopic
from bot.storage.database import Database

FLOOR = 5
"""Different visitors that must have asked it."""

DAYS = 90
KEPT = 6
"""Of each topic."""

EVERY_SECONDS = 3600.0

# All of it in SQLite: the rows of a busy quarter never become Python values. The first question of a message counts.
_TOPICS = """
WITH told AS MATERIALIZED (
  SELECT m.conversation_id AS conversation, m.sequence AS place, c.visitor AS visitor, t.id AS turn,
         json_extract(t.parts, '$[0].decision.kind') AS kind,
         json_extract(t.parts, '$[0].decision.intent') AS intent,
         json_extract(t.parts, '$[0].decision.hits[0].passage.source') AS source,
         json_extract(t.parts, '$[0].decision.hits[0].passage.title') AS title,
         json_extract(t.parts, '$[0].decision.hits[0].passage.language') AS language
  FROM turns t
  JOIN messages m ON m.conversation_id = t.conversation_id AND m.id = t.message_id
  JOIN conversations c ON c.id = t.conversation_id
  WHERE t.stored_at > :since AND t.status IN ('approved', 'grounded')
), topics AS MATERIALIZED (
  SELECT conversation, place, visitor, turn,
         CASE kind WHEN 'Approved' THEN 'intent:' || intent WHEN 'Grounded' THEN 'article:' || source END AS topic,
         CASE kind WHEN 'Approved' THEN intent ELSE '' END AS intent,
         CASE kind WHEN 'Approved' THEN '' ELSE title END AS title,
         CASE kind WHEN 'Approved' THEN '' ELSE language END AS language
  FROM told WHERE kind IN ('Approved', 'Grounded')
)
"""
_ASKED_NEXT = text(
    _TOPICS
    + """
SELECT a.topic AS topic, b.topic AS next, b.intent AS intent, max(b.title) AS title, max(b.language) AS language,
       count(DISTINCT a.visitor) AS asked,
       count(DISTINCT CASE WHEN k.id IS NOT NULL THEN a.visitor END) AS clicked
FROM topics a
JOIN topics b ON b.conversation = a.conversation AND b.place = a.place + 1 AND b.topic <> a.topic
JOIN messages m ON m.conversation_id = b.conversation AND m.sequence = b.place
LEFT JOIN clicks k ON k.turn_id = a.turn AND k.kind = 'suggestion' AND k.target = m.text
GROUP BY a.topic, b.topic, b.intent
HAVING count(DISTINCT a.visitor) >= :floor
"""
)


class NextQuestions:
    """What was learnt at the last counting. Reading costs nothing; counting is for a thread that may take its time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._learnt: Mapping[str, Sequence[NextTopic]] = {}
        self._counted_at = float("-inf")

    def after(self, topic: str) -> Sequence[NextTopic]:
        """What customers asked after this, the most frequent first; a question that was clicked counts twice."""
        return self._learnt.get(topic, ())

    def learn_if_due(self) -> None:
        """Counts anew, once an hour."""
        if time.monotonic() - self._counted_at >= EVERY_SECONDS:
            self._counted_at = time.monotonic()
            self._learnt = asked_next(self._database, datetime.now(UTC) - timedelta(days=DAYS))


def asked_next(database: Database, since: datetime, floor: int = FLOOR) -> dict[str, Sequence[NextTopic]]:
    """Topic -> what at least `floor` visitors asked directly after it, the most frequent first."""
    with database.read() as connection:
        rows = connection.execute(_ASKED_NEXT, {"since": since.replace(tzinfo=None).isoformat(" "), "floor": floor})
        counted = sorted(rows.all(), key=lambda row: (-(row.asked + row.clicked), row.next))
    found: defaultdict[str, list[NextTopic]] = defaultdict(list)
    for row in counted:
        if len(found[row.topic]) < KEPT:
            found[row.topic].append(NextTopic(row.intent, row.title or "", row.language or ""))
    return dict(found)
