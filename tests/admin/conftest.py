"""A superuser's browser, a staff member's without permissions, and a small catalog."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from llm.models import LLMModel
from tests import cast


@pytest.fixture
def superuser(db: None) -> User:
    return User.objects.create_superuser("grace", password="hopper")


@pytest.fixture
def browser(superuser: User) -> Client:
    """The admin as a superuser sees it."""
    client = Client()
    client.force_login(superuser)
    return client


@pytest.fixture
def nobody(db: None) -> Client:
    """The admin as a staff member without any permission sees it."""
    client = Client()
    client.force_login(User.objects.create_user("norma", is_staff=True))
    return client


@pytest.fixture
def gpt(db: None) -> LLMModel:
    """openai/gpt-4o at $2.50 and $10, with the power levels as shipped."""
    cast.make_power_levels()
    return cast.make_model(cast.make_provider("openai"), "gpt-4o")
