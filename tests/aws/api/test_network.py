"""Trusted certificates: which file, in what order, and how it is read."""

import os
import ssl

import botocore.session
import pytest

from ssmtunneld.aws.api.network import Network, ca_bundle_of, tls_context
from tests.support.authority import Authority


@pytest.fixture
def bundles(tmp_path, aws_files, monkeypatch):
    """Four files, for each place that names one."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    names = ("file", "variable", "profile", "requests")
    paths = {name: tmp_path / f"{name}.pem" for name in names}
    for path in paths.values():
        path.touch()
    return {name: str(path) for name, path in paths.items()}


def found(network=None):
    return ca_bundle_of(botocore.session.Session(), network or Network())


def test_the_order_is_that_of_other_tools(bundles, aws_files, monkeypatch):
    assert found() is None
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundles["requests"])
    assert found() == bundles["requests"]
    aws_files.config.write_text(f"[default]\nca_bundle = {bundles['profile']}\n")
    assert found() == bundles["profile"]
    monkeypatch.setenv("AWS_CA_BUNDLE", bundles["variable"])
    assert found() == bundles["variable"]
    assert found(Network(bundles["file"])) == bundles["file"]


def test_an_empty_variable_is_none(bundles, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", "")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundles["requests"])
    assert found() == bundles["requests"]


def test_a_home_directory_may_be_meant(bundles, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", "~/file.pem")
    assert found() == bundles["file"]


def test_what_is_not_there_is_named_with_who_named_it(bundles, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such.pem")
    with pytest.raises(ValueError, match=r"^AWS_CA_BUNDLE names /no/such\.pem"):
        found()
    with pytest.raises(ValueError, match=r"^ca_bundle names /nor/this\.pem"):
        found(Network("/nor/this.pem"))
    for name in ("~no such user/a.pem", f"/{'x' * 300}"):
        with pytest.raises(ValueError, match="which is not a file"):
            found(Network(name))


def test_a_context_is_made_once_and_again_when_its_file_changes(tmp_path):
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    context = tls_context(str(first.bundle))
    assert tls_context(str(first.bundle)) is context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    os.utime(first.bundle, ns=(1, 1))
    first.bundle.write_bytes(second.bundle.read_bytes())
    subject = tls_context(str(first.bundle)).get_ca_certs()[0]["subject"]
    assert subject == ((("commonName", "second"),),)


def test_the_usual_authorities_are_the_systems_and_botocores():
    context = tls_context(None)
    assert tls_context(None) is context
    assert context.cert_store_stats()["x509_ca"] > 50
    assert context.check_hostname


def test_a_folder_of_certificates_will_do(tmp_path):
    assert tls_context(str(tmp_path)).verify_mode is ssl.CERT_REQUIRED


def test_a_file_without_certificates_is_an_error(tmp_path):
    (tmp_path / "empty.pem").touch()
    with pytest.raises(OSError, match="no certificate"):
        tls_context(str(tmp_path / "empty.pem"))


def test_a_pipe_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pem")
    with pytest.raises(OSError, match="neither a regular file nor a folder"):
        tls_context(str(tmp_path / "pipe.pem"))
