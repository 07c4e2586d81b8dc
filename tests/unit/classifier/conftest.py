import gc
from collections.abc import Iterator

import pytest
from peft import PeftModel

from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from tests.unit.classifier.builders import make_classifier, make_examples


@pytest.fixture
def only_new_garbage() -> Iterator[None]:
    """Exclude imported modules from the garbage collection that follows a lack of memory and would take a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def classifier(tiny_base: BaseModel, tiny_config: Config) -> tuple[PeftModel, Prompter]:
    return make_classifier(tiny_base, tiny_config)


@pytest.fixture
def examples(classifier: tuple[PeftModel, Prompter]) -> list[PostExample]:
    return make_examples(classifier[1])
