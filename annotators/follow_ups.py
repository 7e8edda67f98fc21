"""What a user might say next: pleased and displeased follow-ups, by category of helpfulness.

The first of each list are the plainest; `most: n` takes the first n. A pleased and a displeased list of a category are
alike in length and tone, so that what is likely anyway cancels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FollowUps:
    """Two sets of next turns.

    Attributes:
        positive: of a user whom the answer has helped.
        negative: of one whom it has not.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]


CATEGORIES: Mapping[str, FollowUps] = {
    "understanding": FollowUps(
        positive=(
            "Yes, that is exactly what I meant.",
            "You understood my question perfectly.",
            "Right, you got what I was asking for.",
            "Good, you saw what my problem was.",
            "You read my mind, that was the point.",
            "That is the thing I wanted to know.",
            "Yes, you took my question the right way.",
            "You clearly understood what I need.",
            "Exactly, that was my question.",
            "You noticed the detail that mattered to me.",
        ),
        negative=(
            "No, that is not at all what I meant.",
            "You misunderstood my question completely.",
            "Wrong, you missed what I was asking for.",
            "Sorry, you did not see what my problem was.",
            "You lost me, that was not the point.",
            "That is not the thing I wanted to know.",
            "No, you took my question the wrong way.",
            "You clearly did not understand what I need.",
            "Hm, that was not my question.",
            "You overlooked the detail that mattered to me.",
        ),
    ),
    "relevance": FollowUps(
        positive=(
            "That answers my question.",
            "Good, you stayed on the topic.",
            "Everything you said is to the point.",
            "That is just what I was looking for.",
            "This has everything to do with what I asked.",
            "Nice, no detours.",
            "I can use all of this for my question.",
            "That fits my question well.",
            "You kept to the subject.",
            "That is what this conversation is about.",
        ),
        negative=(
            "That does not answer my question.",
            "You are off the topic.",
            "Nothing you said is to the point.",
            "That is not what I was looking for.",
            "This has nothing to do with what I asked.",
            "Why are you talking about something else?",
            "I can use none of this for my question.",
            "That does not fit my question.",
            "You changed the subject.",
            "That is not what this conversation is about.",
        ),
    ),
    "correctness": FollowUps(
        positive=(
            "That is correct.",
            "Yes, I checked it and it is true.",
            "You got the facts right.",
            "That agrees with what I know.",
            "I tried it and it works.",
            "Your reasoning is sound.",
            "There is no mistake in that.",
            "Yes, all of that is accurate.",
            "My teacher says the same.",
            "I can rely on that.",
        ),
        negative=(
            "That is wrong.",
            "No, I checked it and it is false.",
            "You got the facts wrong.",
            "That contradicts what I know.",
            "I tried it and it fails.",
            "Your reasoning is faulty.",
            "There is a mistake in that.",
            "No, much of that is inaccurate.",
            "My teacher says the opposite.",
            "I cannot rely on that.",
        ),
    ),
    "engagingness": FollowUps(
        positive=(
            "That is really interesting, tell me more!",
            "I enjoyed reading that.",
            "What a nice way to put it.",
            "Great, let us talk about this some more.",
            "That made me curious.",
            "It is fun to talk to you.",
            "I love how you explained that.",
            "That was a lively answer.",
            "Now I want to know the rest.",
            "You make this topic come alive.",
        ),
        negative=(
            "That is really boring, please stop.",
            "I did not enjoy reading that.",
            "What a dull way to put it.",
            "Let us talk about something else.",
            "That made me yawn.",
            "It is tiring to talk to you.",
            "I dislike how you explained that.",
            "That was a lifeless answer.",
            "Now I do not want to know the rest.",
            "You make this topic sound dull.",
        ),
    ),
    "informativeness": FollowUps(
        positive=(
            "Thanks, I learned a lot from that.",
            "That has all the details I need.",
            "That is very informative.",
            "Now I know enough to go on.",
            "Good, you gave examples and reasons.",
            "I did not know that before.",
            "That is a thorough answer.",
            "You left no question open.",
            "This helps me a lot.",
            "You told me something useful.",
        ),
        negative=(
            "Sorry, I learned nothing from that.",
            "That lacks the details I need.",
            "That is not informative at all.",
            "I still do not know enough to go on.",
            "You gave neither examples nor reasons.",
            "I knew all of that before.",
            "That is a superficial answer.",
            "You left my questions open.",
            "This does not help me at all.",
            "You told me nothing useful.",
        ),
    ),
    "instruction-following": FollowUps(
        positive=(
            "You did exactly what I asked.",
            "Good, you followed my instructions.",
            "That is the format I wanted.",
            "You kept to all of my conditions.",
            "That is as long as I asked for.",
            "You did every part of the task.",
            "Thanks for doing it my way.",
            "The task is done, thank you.",
            "You left nothing out.",
            "That is how I told you to do it.",
        ),
        negative=(
            "You did not do what I asked.",
            "You ignored my instructions.",
            "That is not the format I wanted.",
            "You broke some of my conditions.",
            "That is not as long as I asked for.",
            "You skipped a part of the task.",
            "Please do it my way.",
            "The task is not done, try again.",
            "You left something out.",
            "That is not how I told you to do it.",
        ),
    ),
}
"""Six categories of helpfulness, ten follow-ups on each side."""
