"""The words that titles are made of: each belongs to one topic."""

TOPICS = {
    name: tuple(words.split())
    for name, words in {
        "music": "guitar piano drum violin concert choir tune song",
        "garden": "rose tulip seed spade hedge lawn soil pond",
        "kitchen": "oven spoon recipe bread butter soup onion spice",
        "sea": "boat sail harbor wave anchor tide coral whale",
        "winter": "snow ski glove sledge frost scarf ice glacier",
        "sport": "goal referee league striker match tennis racket coach",
        "space": "rocket orbit planet comet moon star telescope mars",
        "money": "bank loan budget stock dividend tax salary bond",
        "health": "doctor vitamin sleep heart nurse clinic pulse diet",
        "city": "tram bridge square tower metro avenue market cafe",
        "farm": "cow barn tractor wheat sheep harvest plough hen",
        "school": "teacher exam pupil chalk lesson grammar algebra desk",
    }.items()
}
