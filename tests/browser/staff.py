"""What staff do in the admin, by the words on the screen."""

import re

from playwright.sync_api import Page, expect


def log_in(page: Page, username: str, password: str) -> None:
    page.goto("/admin/")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("h1", has_text="Overview")).to_be_visible()


def go(page: Page, name: str) -> None:
    """Follow a link of the sidebar."""
    page.locator("#nav-sidebar a").filter(has=page.get_by_text(name, exact=True)).first.click()


def add(page: Page) -> None:
    """The round button at the top right."""
    page.locator("a[href$='/add/']").first.click()


def save(page: Page) -> None:
    page.locator("button[name=_save], input[name=_save]").first.click()
    expect(page.get_by_text(re.compile("was (added|changed) successfully"))).to_be_visible()


def choose(page: Page, field: str, text: str) -> None:
    """Pick from an autocomplete box."""
    page.locator(f"#id_{field} + .select2").click()
    page.locator(".select2-search__field").last.fill(text)
    page.locator(".select2-results__option", has_text=text).first.click()


def open_row(page: Page, text: str) -> None:
    page.locator("#result_list").get_by_role("link", name=text).first.click()


def add_provider(page: Page, slug: str, base_url: str, api_key: str) -> None:
    """A provider of OpenAI's dialect, then its key on the same page."""
    go(page, "Providers")
    add(page)
    page.get_by_label("Slug").fill(slug)
    page.get_by_label("Base URL").fill(base_url)
    save(page)
    open_row(page, slug)
    page.get_by_role("link", name="Add another Platform key").click()
    page.locator("[name=credentials-0-key_name]").fill("main")
    page.locator("[name=credentials-0-api_key]").fill(api_key)
    save(page)


def probe(page: Page, slug: str) -> None:
    go(page, "Providers")
    open_row(page, slug)
    page.get_by_role("button", name="Test").click()


def add_model(page: Page, provider: str, model_id: str) -> None:
    go(page, "Models")
    add(page)
    choose(page, "provider", provider)
    page.get_by_label("Model id").fill(model_id)
    save(page)


def open_model(page: Page, reference: str) -> None:
    go(page, "Models")
    open_row(page, reference)


def set_price(page: Page, reference: str, *, input_usd: str, output_usd: str) -> None:
    open_model(page, reference)
    page.get_by_role("link", name="Change price").click()
    page.locator("[name=input_usd]").fill(input_usd)
    page.locator("[name=output_usd]").fill(output_usd)
    page.locator("[name=reason]").fill("the vendor's list price")
    page.get_by_role("button", name="Set the price").click()
    expect(page.get_by_text("is recorded")).to_be_visible()


def add_rule(page: Page, reference: str) -> None:
    go(page, "Rules")
    add(page)
    page.locator("#id_power_level").select_option("balanced")
    choose(page, "model", reference.partition("/")[2])
    save(page)


def issue_key(page: Page, tenant: str) -> str:
    """A tenant's new key, read from the one page it is ever on."""
    go(page, "Tenants")
    open_row(page, tenant)
    page.get_by_role("link", name="Issue a key").click()
    page.locator("[name=name]").fill("journey")
    page.get_by_role("button", name="Issue the key").click()
    secret = page.get_by_label("The API key").input_value()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_role("link", name="Issue a key")).to_be_visible()
    assert secret not in page.content()
    return secret


def deprecate(page: Page, reference: str, *, replacement: str) -> None:
    open_model(page, reference)
    page.get_by_role("link", name="Deprecate").click()
    page.locator("#id_replacement").select_option(label=replacement)
    page.get_by_role("button", name="Deprecate").click()
    expect(page.get_by_text(f"requests follow {replacement}")).to_be_visible()


def open_request(page: Page, request_id: str) -> None:
    """Search the request log for one id and open it."""
    go(page, "Requests")
    page.locator("input[name=q]").fill(request_id)
    page.locator("input[name=q]").press("Enter")
    page.wait_for_url(f"**q={request_id}**")
    page.locator("#result_list tbody a").first.click()
