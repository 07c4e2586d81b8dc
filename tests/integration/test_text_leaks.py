"""What a cross-validation and an inference keep holds no sentence of a post and no token of the environment."""

from pathlib import Path

import pandas as pd

from tests.integration.workspace import Workspace
from tests.leaks import SECRETS, find_leaks
from tests.samples import SAMPLE

PREDICTED = "My drizzlewump weighs more than the snarvelocket"


def passages() -> list[str]:
    """Return a passage of some posts, and of what annotators wrote about them."""
    posts = pd.read_csv(SAMPLE / "redsm5_posts.csv")["text"]
    annotations = pd.read_csv(SAMPLE / "redsm5_annotations.csv")
    texts = [*posts[posts.map(str.isascii)].iloc[::12], *annotations["explanation"].iloc[::40]]
    return [text[:40] for text in texts]


def test_neither_text_nor_token_is_kept_anywhere_else(trained: Workspace, tmp_path: Path) -> None:
    posts = tmp_path / "posts.csv"
    pd.DataFrame({"post_id": ["p1"], "text": [PREDICTED]}).to_csv(posts, index=False)
    trained.run("inference", input=str(posts))
    words = [*passages(), "drizzlewump", "snarvelocket", *SECRETS.values()]
    assert len(words) > 12
    assert find_leaks(words, trained.folder, ["*/02_intermediate/posts.parquet"]) == []
    assert find_leaks(passages(), trained.data / "02_intermediate")
