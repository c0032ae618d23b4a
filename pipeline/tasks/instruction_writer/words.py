"""The words that the instruction tasks are made of.

Nearly all are frequent in the fairy tales of the default corpus, so that a small tokenizer trained there
knows them as one token and a small model has met them before: copying a word of three tokens is a harder
task than copying a word.  The opposites of ``antonym`` are the exception; they are there to be known.
"""


def _words(text: str) -> list[str]:
    return text.split()


def _pairs(text: str) -> list[tuple[str, str]]:
    words = text.split()
    return list(zip(words[::2], words[1::2], strict=True))


def _forms(text: str) -> dict[str, tuple[str, str]]:
    triples = (forms.split("/") for forms in text.split())
    return {base: (present, past) for base, present, past in triples}


MEN = _words("king prince boy man fisherman huntsman lord father brother husband son gentleman")
WOMEN = _words("queen princess girl woman maiden lady mother sister wife daughter bride grandmother")
PEOPLE = [
    *MEN,
    *WOMEN,
    *_words("tailor doctor servant giant dwarf witch shepherd soldier sailor farmer miller merchant driver captain"),
    *_words("fairy child"),
]

NAMES = _words(
    "Hansel Gretel Dorothy Hans Jim Gerald Bill Kathleen Felicity Peter Mary Louis Emily Tom George Boris Kenneth "
    "Jimmy Polly Sara Cecily Ursula Elsie Chloe Amelia Florence John Roland Felix Dan Jasper Eliza Vance"
)

ANIMALS = _words(
    "bird horse wolf fox duck dog cat bear fish goose pig lion mouse sparrow raven frog rooster hare hedgehog sheep "
    "deer ant bat duckling chicken stag crow cow hen"
)

ANIMAL_PLURALS = {
    **{animal: f"{animal}s" for animal in ANIMALS},
    **dict(_pairs("wolf wolves fox foxes goose geese mouse mice fish fish sheep sheep deer deer")),
}

PLACES = _words(
    "forest castle house garden mill town village church palace kitchen tower cottage school city farm cellar valley "
    "mountain field meadow bridge inn chamber street wood sea river shore hill cave hall road room shop courtyard "
    "prison"
)

THINGS = _words(
    "ring crown sword coat hat shoe key letter book box basket cup bottle knife axe needle stone feather jewel flower "
    "rose chair bed plate rope stick bell clock cloak dress table wheel boat chest pot glass"
)

NOUNS = [*PEOPLE, *ANIMALS, *PLACES, *THINGS]

COUNTED = _words("birds horses ducks dogs geese flowers apples eggs stones trees letters books jewels rings coats")
"""Several of a thing, to put a number before."""

COLOURS = _words("red blue green white black yellow brown grey golden silver")

ADJECTIVES = [*COLOURS, *_words("old little small big new round beautiful fine strange heavy pretty large lovely")]
"""What a thing can be; each stands before its noun."""

STATES = _words(
    "happy sad tired hungry thirsty angry afraid alone ready sick rich poor free glad lost safe asleep awake cold warm "
    "proud busy clever cruel foolish friendly gentle kind merry silent wise pale calm sorry quiet pleased faithful"
)
"""What a person can be; each stands after *is*."""

OPPOSITE_STATES = _pairs(
    "old young rich poor happy sad good bad beautiful ugly kind cruel warm cold strong weak alive dead clean dirty"
)

VERBS = _forms(
    "find/finds/found see/sees/saw take/takes/took bring/brings/brought sell/sells/sold buy/buys/bought "
    "lose/loses/lost hide/hides/hid want/wants/wanted like/likes/liked keep/keeps/kept hold/holds/held "
    "throw/throws/threw drop/drops/dropped break/breaks/broke forget/forgets/forgot show/shows/showed "
    "carry/carries/carried watch/watches/watched steal/steals/stole touch/touches/touched choose/chooses/chose "
    "love/loves/loved need/needs/needed open/opens/opened pull/pulls/pulled push/pushes/pushed wash/washes/washed "
    "give/gives/gave leave/leaves/left draw/draws/drew catch/catches/caught get/gets/got make/makes/made "
    "wear/wears/wore hate/hates/hated use/uses/used seek/seeks/sought reach/reaches/reached burn/burns/burned "
    "shake/shakes/shook lift/lifts/lifted clean/cleans/cleaned mend/mends/mended follow/follows/followed "
    "remember/remembers/remembered receive/receives/received admire/admires/admired praise/praises/praised "
    "fear/fears/feared paint/paints/painted lock/locks/locked"
)
"""Verb that takes a thing → its form after *the king*, now and in the past."""

COMMON_VERBS = _words("find see take bring buy lose want like keep throw forget carry watch open")

ANTONYMS = _pairs(
    "big small long short high low fast slow day night black white light dark full empty open closed up down in out "
    "on off over under before after first last left right early late near far love hate friend enemy war peace life "
    "death begin end come go give take buy sell win lose push pull laugh cry question answer remember forget north "
    "south east west summer winter morning evening hard soft thick thin wide narrow deep shallow loud quiet sweet "
    "bitter brave cowardly wise foolish true false safe dangerous easy difficult cheap expensive sharp blunt smooth "
    "rough tight loose top bottom inside outside above below always never everything nothing everybody nobody more "
    "less many few most least yes no same different present absent rise fall build destroy enter leave lend borrow "
    "teach learn start stop success failure victory defeat hope despair joy sorrow pleasure pain heaven hell guilty "
    "innocent gain loss male female polite rude proud humble honest dishonest lucky unlucky possible impossible "
    "visible invisible patient impatient fair unfair able unable tidy untidy usual unusual certain uncertain pleasant "
    "unpleasant healthy sick fresh stale straight crooked upstairs downstairs forwards backwards front back public "
    "private simple complicated rare common ancient modern past future child adult master servant winner loser guest "
    "host dawn dusk sunrise sunset floor ceiling attack defend accept refuse agree disagree allow forbid praise blame "
    "reward punishment help hinder increase decrease float sink freeze melt gather scatter hide show join separate "
    "lock unlock tie untie wrap unwrap load unload live die sit stand whisper shout work play save spend send receive "
    "to from with without together apart often seldom here there now then wild tame timid bold careful careless "
    "useful useless hopeful hopeless painful painless major minor plus minus odd even generous selfish maximum "
    "minimum positive negative import export advantage disadvantage buyer seller hero villain fact fiction optimist "
    "pessimist entrance exit"
)
"""Pairs of which each word has this one opposite; none of them is in ``OPPOSITE_STATES``."""

UNITS = [
    ("metres", "centimetres", 100),
    ("kilometres", "metres", 1000),
    ("kilograms", "grams", 1000),
    ("dollars", "cents", 100),
]
"""Unit, smaller unit, and how many of these it has."""

SPELLABLE = [word for word in dict.fromkeys([*NOUNS, *ADJECTIVES, *STATES, *VERBS]) if len(word) <= 7]
