"""The project's folder, and three posts and criteria that most tests share."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SAMPLE = PROJECT / "data" / "01_raw" / "sample"

CRITERIA = {
    "A.1": "Depressed mood: sad, empty, hopeless.",
    "A.4": "Insomnia or sleeping too much.",
    "A.6": "Fatigue or loss of energy nearly every day, whatever else is going on.",
}
POSTS = {
    "s_1_1": "I have not slept for weeks.",
    "s_1_2": "We went to the lake and I ate three sandwiches. " * 6,
    "s_2_1": "Tired. So tired that the dishes have been in the sink since Monday, and I just look at them.",
}
