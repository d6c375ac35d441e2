"""``ssmtunneld resume``: by name."""

from tests.cli.household import Busy, call, document, off, tunnel_document


def test_it_asks_the_daemon_and_says_so(operator, capsys):
    assert call(capsys, "resume", "db") == (0, "db: resumed\n", "")
    assert operator.asked == ["resume db"]


def test_what_the_daemon_refuses_ends_it_with_1(operator, capsys):
    operator.failure = Busy("not now")
    code, out, err = call(capsys, "resume", "db")
    assert (code, out, err) == (1, "", "ssmtunneld: not now; wait a moment\n")


def test_a_tunnel_that_does_not_exist_ends_it_with_2(operator, capsys):
    assert call(capsys, "resume", "bd")[0] == 2
    assert operator.asked == []


def test_several_are_asked_for_by_name_or_group(operator, capsys):
    operator.documents = [
        document(
            tunnel_document("a", groups=["x"]),
            tunnel_document("b"),
            off("c", groups=["x"]),
            tunnel_document("d"),
        )
    ]
    code, out, err = call(capsys, "resume", "b", "--group", "x")
    assert (code, out, err) == (0, "a: resumed\nb: resumed\n", "")
    assert operator.asked == ["resume a", "resume b"]


def test_somebody_must_say_which(operator, capsys):
    code, out, err = call(capsys, "resume")
    assert (code, out) == (2, "")
    assert "which tunnels? name some, or a --group" in err
    assert call(capsys, "resume", "--group", "x")[0] == 2
    assert operator.asked == []


def test_what_is_disabled_is_told_and_not_asked_for(operator, capsys):
    operator.documents = [document(off())]
    code, _, err = call(capsys, "resume", "off")
    assert (code, "off is disabled (enabled = false)" in err) == (2, True)
    assert operator.asked == []
