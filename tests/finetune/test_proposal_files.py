"""Files come and go with what is found; what a person wrote or decided is never lost, and never asked again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from finetune.examples import FinetuneError
from finetune.proposal_files import MOST, Filed, decide, file_proposals, find, read_decided, read_open, read_proposal
from finetune.proposal_toml import to_toml
from finetune.proposals import Asked, IntentProposal, new_id, row_key
from tests.finetune.test_proposals import ALL, INTENT, LABEL, MERGE


def intent(name: str, *texts: str) -> IntentProposal:
    asked = tuple(map(Asked, texts))
    return IntentProposal(new_id("intents", name, [row_key(a) for a in asked]), name, False, asked, len(texts), 0.5)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def filed(folder: Path, name: str) -> Filed:
    found = find(folder, name)
    assert isinstance(found, Filed)
    return found


A = intent("zip", "the zip broke", "zip stuck", "zip torn", "zip again")
B = intent("pin", "pin lost", "pin forgotten", "pin wrong", "pin blocked")


def test_twice_is_once(tmp_path: Path) -> None:
    done = file_proposals(tmp_path, ALL)
    assert len(done.new) == 4 and not done.kept and not done.problems
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.toml")}
    assert len(before) == 4
    done = file_proposals(tmp_path, ALL)
    assert len(done.kept) == 4 and not done.new and not done.withdrawn
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.toml")} == before
    assert {f.proposal for f in read_open(tmp_path).open} == set(ALL)


def test_what_is_no_longer_found_is_taken_back(tmp_path: Path) -> None:
    file_proposals(tmp_path, (A, B))
    done = file_proposals(tmp_path, (B,))
    assert done.withdrawn == (A.id,) and list(files(tmp_path)) == [f"{B.id}.toml"]


def test_new_counts_are_written_to_an_untouched_file(tmp_path: Path) -> None:
    file_proposals(tmp_path, (A,))
    file_proposals(tmp_path, (replace(A, conversations=99),))
    assert filed(tmp_path, A.id).proposal == replace(A, conversations=99)


def test_what_a_person_changed_stays_and_is_not_proposed_beside_it(tmp_path: Path) -> None:
    file_proposals(tmp_path, (A, B))
    file = filed(tmp_path, A.id).file
    text = file.read_text().replace('  "zip again",\n', "").replace('  "zip torn",\n', "")
    file.write_text(text)
    grown = intent("zips", "the zip broke", "zip stuck", "zip torn", "zip again", "zip and zip")
    done = file_proposals(tmp_path, (grown, B))
    assert done.kept == (A.id, B.id) and not done.new and not done.withdrawn
    assert file.read_text() == text
    assert file_proposals(tmp_path, ()).withdrawn == (B.id,)
    assert file.read_text() == text, "not even when nothing like it is found"


@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_what_was_decided_is_not_proposed_again(tmp_path: Path, verdict: str) -> None:
    file_proposals(tmp_path, (A, B, LABEL, MERGE))
    for name in (A.id, LABEL.id, MERGE.id):
        decide(tmp_path, filed(tmp_path, name), verdict)  # type: ignore[arg-type]
    alike = intent("zip_other_name", "the zip broke", "zip stuck", "zip torn", "zip new")
    swapped = replace(MERGE, id="merges/b-a-1", source="b", into="a")
    done = file_proposals(tmp_path, (alike, B, LABEL, swapped))
    assert done.decided == 3 and done.kept == (B.id,) and not done.new
    assert {p.id for p in read_decided(tmp_path, verdict)} == {A.id, LABEL.id, MERGE.id}  # type: ignore[arg-type]
    assert len(read_open(tmp_path).open) == 1


def test_what_has_grown_to_something_else_is_proposed_again(tmp_path: Path) -> None:
    file_proposals(tmp_path, (A,))
    decide(tmp_path, filed(tmp_path, A.id), "rejected")
    grown = intent("zip", *(a.text for a in A.asked), *(f"zipper {n}" for n in range(6)))
    assert file_proposals(tmp_path, (grown,)).new == (grown.id,)
    other = replace(LABEL, given="c", id="labels/c-b-1")
    assert file_proposals(tmp_path, (other,)).new == (other.id,)


def test_a_decided_file_is_kept_as_the_person_left_it(tmp_path: Path) -> None:
    file_proposals(tmp_path, (A,))
    file = filed(tmp_path, A.id).file
    file.write_text(file.read_text().replace('intent = "zip"', 'intent = "zipper"'))
    kept = decide(tmp_path, filed(tmp_path, A.id), "accepted")
    assert not file.exists() and 'intent = "zipper"' in kept.read_text()
    assert kept == tmp_path / "accepted" / f"{A.id}.toml"
    assert find(tmp_path, A.id) == "accepted"
    (proposal,) = read_decided(tmp_path, "accepted")
    assert isinstance(proposal, IntentProposal) and proposal.intent == "zipper"


def test_a_proposal_is_found_by_id_by_name_and_by_file(tmp_path: Path) -> None:
    file_proposals(tmp_path, (A, B))
    file = tmp_path / f"{A.id}.toml"
    for name in (A.id, A.id.split("/")[1], str(file)):
        assert filed(tmp_path, name).proposal == A
    renamed = file.rename(file.with_name("my zip.toml"))
    assert filed(tmp_path, str(renamed)).proposal == A
    assert decide(tmp_path, filed(tmp_path, "my zip"), "accepted").name == f"{A.id.split('/')[1]}.toml"


def test_a_file_that_is_no_open_proposal_is_not_touched(tmp_path: Path) -> None:
    elsewhere = tmp_path / "intents" / "x.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(to_toml(A))
    home = tmp_path / "home"
    file_proposals(home, (A,))
    kept = decide(home, filed(home, A.id), "accepted")
    assert find(home, str(kept)) == "accepted"
    for name in (str(elsewhere), "intents/none-0", "", "../intents/x"):
        with pytest.raises(FinetuneError, match="there is no such proposal"):
            find(home, name)
    assert elsewhere.exists()


def test_an_ambiguous_name_is_refused(tmp_path: Path) -> None:
    for kind in ("intents", "labels"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "same.toml").write_text("")
    with pytest.raises(FinetuneError, match=r"could be intents/same, labels/same"):
        find(tmp_path, "same")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"intent = [", b"intent = 3"])
def test_a_damaged_file_is_named_and_stays(tmp_path: Path, content: bytes) -> None:
    file_proposals(tmp_path, (A, B))
    file = tmp_path / f"{A.id}.toml"
    file.write_bytes(content)
    shelf = read_open(tmp_path)
    assert [f.proposal for f in shelf.open] == [B] and str(file) in shelf.problems[0]
    done = file_proposals(tmp_path, (A, B))
    assert done.problems == shelf.problems and done.kept == (B.id,)
    assert file.read_bytes() == content
    with pytest.raises(FinetuneError, match=str(file)):
        find(tmp_path, A.id)


def test_a_damaged_decision_is_not_guessed(tmp_path: Path) -> None:
    file_proposals(tmp_path, (A,))
    kept = decide(tmp_path, filed(tmp_path, A.id), "accepted")
    kept.write_text("intent = 3")
    with pytest.raises(FinetuneError, match="delete it to take the decision back"):
        read_decided(tmp_path, "accepted")
    kept.unlink()
    assert read_decided(tmp_path, "accepted") == ()
    assert file_proposals(tmp_path, (A,)).new == (A.id,)


def test_more_than_people_review_waits_its_turn(tmp_path: Path) -> None:
    many = [intent(f"n{n}", f"message {n}") for n in range(MOST + 5)]
    done = file_proposals(tmp_path, (*many, LABEL))
    assert (len(done.new), done.waiting) == (MOST + 1, 5)
    decide(tmp_path, filed(tmp_path, many[0].id), "rejected")
    done = file_proposals(tmp_path, (*many, LABEL))
    assert (done.new, done.waiting, done.decided) == ((many[MOST].id,), 4, 1)


def test_what_a_kill_left_behind_is_ignored(tmp_path: Path) -> None:
    file_proposals(tmp_path, (A,))
    (tmp_path / "intents" / ".b.toml.17.staged").write_text("half")
    (tmp_path / "intents" / ".b.toml").write_text("half")
    shelf = read_open(tmp_path)
    assert len(shelf.open) == 1 and shelf.problems == ()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "intents").write_text("a file")
    with pytest.raises(FinetuneError, match="intents"):
        file_proposals(tmp_path, (A,))
    assert list(files(tmp_path)) == ["intents"]
    (tmp_path / "home").mkdir()
    file_proposals(tmp_path / "home", (A,))
    (tmp_path / "home" / "accepted").write_text("a file")
    with pytest.raises(FinetuneError, match="cannot be moved"):
        decide(tmp_path / "home", filed(tmp_path / "home", A.id), "accepted")
    assert read_proposal(tmp_path / "home" / f"{A.id}.toml", "intents").proposal == A


def test_an_empty_home_has_no_proposals(tmp_path: Path) -> None:
    assert read_open(tmp_path / "none").open == () and read_decided(tmp_path / "none", "accepted") == ()
    done = file_proposals(tmp_path / "none", ())
    assert (done.new, done.kept, done.withdrawn) == ((), (), ()) and not (tmp_path / "none").exists()
    assert INTENT.id not in files(tmp_path)
