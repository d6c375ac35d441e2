"""Lines of progress."""

from ssmtunneld.ssh.progress import tell_person


def test_a_person_is_told_on_standard_error(capsys):
    tell_person("starting")
    assert capsys.readouterr() == ("", "ssmtunneld: starting\n")
