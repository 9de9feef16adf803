"""The categories that podcast directories know; pure.

Source: Apple Podcasts categories, which PSP-1 takes over for ``itunes:category``.
"""

from typing import Final

CATEGORIES: Final[dict[str, frozenset[str]]] = {
    main: frozenset(filter(None, parts.split(", ")))
    for main, parts in {
        "Arts": "Books, Design, Fashion & Beauty, Food, Performing Arts, Visual Arts",
        "Business": "Careers, Entrepreneurship, Investing, Management, Marketing, Non-Profit",
        "Comedy": "Comedy Interviews, Improv, Stand-Up",
        "Education": "Courses, How To, Language Learning, Self-Improvement",
        "Fiction": "Comedy Fiction, Drama, Science Fiction",
        "Government": "",
        "Health & Fitness": "Alternative Health, Fitness, Medicine, Mental Health, Nutrition, Sexuality",
        "History": "",
        "Kids & Family": "Education for Kids, Parenting, Pets & Animals, Stories for Kids",
        "Leisure": (
            "Animation & Manga, Automotive, Aviation, Crafts, Games, Hobbies, Home & Garden, Video Games"
        ),
        "Music": "Music Commentary, Music History, Music Interviews",
        "News": (
            "Business News, Daily News, Entertainment News, News Commentary, Politics, Sports News, Tech News"
        ),
        "Religion & Spirituality": (
            "Buddhism, Christianity, Hinduism, Islam, Judaism, Religion, Spirituality"
        ),
        "Science": (
            "Astronomy, Chemistry, Earth Sciences, Life Sciences, Mathematics, Natural Sciences, Nature,"
            " Physics, Social Sciences"
        ),
        "Society & Culture": "Documentary, Personal Journals, Philosophy, Places & Travel, Relationships",
        "Sports": (
            "Baseball, Basketball, Cricket, Fantasy Sports, Football, Golf, Hockey, Rugby, Running, Soccer,"
            " Swimming, Tennis, Volleyball, Wilderness, Wrestling"
        ),
        "TV & Film": "After Shows, Film History, Film Interviews, Film Reviews, TV Reviews",
        "Technology": "",
        "True Crime": "",
    }.items()
}


def is_known(category: tuple[str, ...]) -> bool:
    """Whether directories know a category, or a category and its part; case counts."""
    main, *part = category
    return main in CATEGORIES and all(one in CATEGORIES[main] for one in part)
