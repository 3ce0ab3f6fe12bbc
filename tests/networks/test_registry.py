"""Networks by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nnmedseg.errors import NotFoundError, UserError
from nnmedseg.networks import (
    create_network,
    get_network_class,
    list_networks,
    network_facts,
    network_options,
    register_network,
)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(NotFoundError, match="did you mean 'rosper'"):
        get_network_class("Rospernet")


def test_an_unknown_option_lists_the_options():
    with pytest.raises(UserError, match="widths, d_state, d_conv, expand"):
        create_network("rosper", 3, 2, width=(8, 16, 24, 32))


def test_options_are_the_papers_values():
    assert network_options("rosper")["widths"] == (16, 32, 48, 64)


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="rosper"):
        register_network("rosper", network_facts("rosper"))(get_network_class("rosper"))


@pytest.mark.parametrize("name", list_networks())
def test_every_network_names_its_source_and_licence(name):
    facts = network_facts(name)
    assert all([facts.title, facts.authors, facts.repository, facts.licence])


def test_importing_the_package_imports_no_torch():
    code = "import sys, nnmedseg; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_networks_imports_no_optional_package():
    code = (
        "import sys, nnmedseg.networks\n"
        "sys.exit(any(n in sys.modules for n in ('mamba_ssm', 'torchvision', 'numba', 'timm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
