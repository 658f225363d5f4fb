"""Only a genuine, signed tag of a clean repository becomes an artifact."""

from pathlib import Path

import pytest

from deploy.artifact import __main__ as command_line
from slipway_release import manifest as manifests
from tests.deploy.test_artifact import Captured, Workshop, built, git, refused, workshop

__all__ = ["workshop"]


def test_an_unknown_tag_is_refused(workshop: Workshop, capsys: Captured) -> None:
    assert "There is no tag v9.9.9" in refused(capsys, workshop.arguments("v9.9.9"))
    assert "not a version" in refused(capsys, workshop.arguments("main"))
    assert "not a version" in refused(capsys, workshop.arguments("v1.0.0\n"))


def test_a_folder_without_git_is_refused(workshop: Workshop, capsys: Captured) -> None:
    arguments = [f"--repository={workshop.index}", "--tag=v1.0.0"]
    assert "no git repository" in refused(capsys, ["check", *arguments])


@pytest.mark.parametrize("options", [("-a",), ()])
def test_an_unsigned_tag_is_refused(
    workshop: Workshop, capsys: Captured, options: tuple[str, ...]
) -> None:
    if options:
        workshop.tag("v1.0.0", *options)
        assert "is not signed" in refused(capsys, workshop.arguments())
        built(capsys, [*workshop.arguments(), "--allowed-signers="])
    else:
        git(workshop.repository, "tag", "v1.0.0")
        assert "lightweight tag, which nobody can sign" in refused(capsys, workshop.arguments())


def test_a_tag_of_a_stranger_is_refused(workshop: Workshop, capsys: Captured) -> None:
    workshop.key = workshop.folder / "stranger"
    workshop.make_key(workshop.key)
    workshop.tag()
    assert "not signed by a key of" in refused(capsys, workshop.arguments())


def test_a_key_that_expired_before_the_tag_is_refused(workshop: Workshop, capsys: Captured) -> None:
    workshop.tag()
    text = workshop.signers.read_text()
    workshop.signers.write_text(text.replace("namespaces", 'valid-before="20200101",namespaces'))
    assert "not signed by a key of" in refused(capsys, workshop.arguments())


def test_a_signature_of_another_kind_is_refused(workshop: Workshop, capsys: Captured) -> None:
    workshop.tag()
    signed = git(workshop.repository, "cat-file", "tag", "v1.0.0")
    body = signed.partition("-----BEGIN")[0]
    forged = f"{body}-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n"
    source = workshop.folder / "forged"
    source.write_text(forged)
    identity = git(workshop.repository, "hash-object", "-t", "tag", "-w", str(source))
    git(workshop.repository, "update-ref", "refs/tags/v1.0.0", identity)
    assert "is not signed with an SSH key" in refused(capsys, workshop.arguments())


def test_an_old_signed_tag_under_a_new_name_is_refused(
    workshop: Workshop, capsys: Captured
) -> None:
    workshop.tag()
    git(workshop.repository, "update-ref", "refs/tags/v2.0.0", "refs/tags/v1.0.0")
    assert "was made as v1.0.0" in refused(capsys, workshop.arguments("v2.0.0"))


def test_a_replaced_object_is_not_taken(workshop: Workshop, capsys: Captured) -> None:
    workshop.tag()
    first = built(capsys, workshop.arguments())
    old = git(workshop.repository, "rev-parse", "HEAD:quay/main.py")
    other = workshop.folder / "other"
    other.write_text("print('mutiny')\n")
    new = git(workshop.repository, "hash-object", "-w", str(other))
    git(workshop.repository, "replace", old, new)
    Path(first["path"]).unlink()
    assert built(capsys, workshop.arguments()) == first


def test_a_missing_file_of_signers_is_named(workshop: Workshop, capsys: Captured) -> None:
    workshop.tag()
    workshop.signers.unlink()
    assert f"{workshop.signers} is not there" in refused(capsys, workshop.arguments())


def test_uncommitted_changes_are_refused(workshop: Workshop, capsys: Captured) -> None:
    workshop.tag()
    (workshop.repository / "notes.txt").write_text("untracked files do not matter\n")
    built(capsys, workshop.arguments())
    (workshop.repository / "quay/main.py").write_text("print('changed')\n")
    assert "uncommitted changes in quay/main.py" in refused(capsys, workshop.arguments())
    git(workshop.repository, "add", "notes.txt")
    assert "notes.txt" in refused(capsys, workshop.arguments())
    answer = built(capsys, [*workshop.arguments(), "--allow-dirty"])
    assert "tree/notes.txt" not in manifests.read(Path(answer["path"])).files


def test_a_check_alone_names_the_commit(workshop: Workshop, capsys: Captured) -> None:
    workshop.tag()
    arguments = [f"--repository={workshop.repository}", "--tag=v1.0.0"]
    assert command_line.main(["check", *arguments, f"--allowed-signers={workshop.signers}"]) == 0
    assert git(workshop.repository, "rev-parse", "HEAD") in capsys.readouterr().out
    assert not workshop.output.exists()
