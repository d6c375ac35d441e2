"""Which unit of systemd a process belongs to."""

import pytest

from ssmtunneld.base.service_unit import ServiceUnit, own_service_unit

OF_USER = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/"


@pytest.mark.parametrize(
    ("cgroup", "environ", "file", "restart"),
    [
        (
            f"{OF_USER}ssmtunneld.service\n",
            {},
            "~/.config/ssmtunneld/environment",
            "systemctl --user restart ssmtunneld",
        ),
        (
            f"{OF_USER}ssmtunneld.service\n",
            {"XDG_CONFIG_HOME": "/x"},
            "/x/ssmtunneld/environment",
            "systemctl --user restart ssmtunneld",
        ),
        (
            "1:name=systemd:/system.slice/ssmtunneld.service\n0::/elsewhere\n",
            {"XDG_CONFIG_HOME": "/x"},
            "/etc/ssmtunneld/environment",
            "sudo systemctl restart ssmtunneld",
        ),
        (
            "0::/system.slice/system-ssmtunneld.slice/ssmtunneld@orders.service\n",
            {},
            "/etc/ssmtunneld/orders.environment",
            "sudo systemctl restart ssmtunneld@orders",
        ),
    ],
)
def test_a_unit_of_ours_has_a_file_for_variables(cgroup, environ, file, restart):
    assert ServiceUnit.of(cgroup, environ) == ServiceUnit(file, restart)


@pytest.mark.parametrize(
    "cgroup",
    ["", "0::/\n", f"{OF_USER}app-terminal.scope\n", f"{OF_USER}myssmtunneld.service"],
)
def test_all_else_is_none_of_ours(cgroup):
    assert ServiceUnit.of(cgroup, {}) is None


def test_a_test_is_no_service():
    assert own_service_unit() is None
