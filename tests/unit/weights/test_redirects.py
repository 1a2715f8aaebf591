"""Where a download may lead: to other hosts, never to other schemes or from TLS to plain."""

import pytest
from support.downloads import BODY, PATH, WEIGHT, model, names, sha256
from support.http_server import Page

from ssr_core.weights import WeightsError, fetch


def test_a_redirect_to_another_host_is_followed(server, other_server, tmp_path):
    server.pages[PATH] = Page(BODY, location=f"{other_server.url}/cdn")
    other_server.pages["/cdn"] = Page(BODY)
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    assert other_server.ranges("/cdn") == [None]


@pytest.mark.parametrize("when", ["location", "location_of_get"])
@pytest.mark.parametrize("scheme", ["file", "ftp"])
def test_a_redirect_to_another_scheme_brings_nothing(server, page, tmp_path, scheme, when):
    right = tmp_path / "right.safetensors"
    right.write_bytes(BODY)  # so that following it would succeed
    setattr(page, when, f"{scheme}://{right}")
    with pytest.raises(WeightsError, match="not https" if when == "location" else "could not be downloaded"):
        fetch(WEIGHT, tmp_path / "models", server.url)
    assert server.ranges(PATH) == ([] if when == "location" else [None] * 4)
    assert [name for name in names(tmp_path / "models") if not name.endswith(".part")] == []


def test_https_brings_a_file(tls_server, tmp_path):
    assert fetch(WEIGHT, tmp_path / "models", tls_server.url).read_bytes() == BODY


def test_https_that_leads_to_http_is_refused(tls_server, other_server, tmp_path):
    tls_server.pages[PATH].location = f"{other_server.url}/cdn"
    other_server.pages["/cdn"] = Page(BODY)
    with pytest.raises(WeightsError, match="not https"):
        fetch(WEIGHT, tmp_path / "models", tls_server.url)
    assert other_server.asked == []


def test_https_that_leads_to_http_only_for_the_bytes_cannot_bring_others(tls_server, other_server, tmp_path):
    tls_server.pages[PATH].location_of_get = f"{other_server.url}/cdn"
    other_server.pages["/cdn"] = Page(model(seed=1))
    with pytest.raises(WeightsError, match=f"has sha256 {sha256(model(1))}, expected {sha256(BODY)}"):
        fetch(WEIGHT, tmp_path / "models", tls_server.url)
    assert names(tmp_path / "models") == []
