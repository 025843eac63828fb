"""The tables of a run's database. What came later has a table of its own: runs made before go on, and lack it."""

from senna_autoprune.files.database import Layout

_SCHEMA = """
CREATE TABLE IF NOT EXISTS questions (
    question INTEGER PRIMARY KEY, token TEXT NOT NULL, type TEXT NOT NULL, text TEXT NOT NULL, label TEXT NOT NULL,
    images TEXT NOT NULL, scene TEXT NOT NULL, scene_known INTEGER NOT NULL, attributes TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    question INTEGER NOT NULL, setting TEXT NOT NULL, status TEXT NOT NULL, answer TEXT, reason TEXT,
    vision_ms REAL, prefill_ms REAL, decode_ms REAL, new_tokens INTEGER, kv_bytes INTEGER, trace TEXT,
    PRIMARY KEY (question, setting));
CREATE TABLE IF NOT EXISTS prompts (prompt INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS sent (
    question INTEGER NOT NULL, setting TEXT NOT NULL, prompt INTEGER, missing_frames INTEGER, said TEXT,
    PRIMARY KEY (question, setting));
CREATE TABLE IF NOT EXISTS waits (question INTEGER PRIMARY KEY, images_ms REAL NOT NULL);
CREATE TABLE IF NOT EXISTS truths (question INTEGER PRIMARY KEY, facts TEXT NOT NULL, earlier TEXT NOT NULL, future TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS run (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS seen (
    image TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
    sha256 TEXT NOT NULL);
"""

_KINDS: dict[str, dict[str, tuple[str, ...]]] = {  # table -> column -> what SQLite may say of its values
    "questions": {
        **dict.fromkeys(("question", "scene_known"), ("integer",)),
        **dict.fromkeys(("token", "type", "text", "label", "images", "scene", "attributes"), ("text",)),
    },
    "answers": {
        "question": ("integer",),
        **dict.fromkeys(("setting", "status"), ("text",)),
        **dict.fromkeys(("answer", "reason", "trace"), ("text", "null")),
        **dict.fromkeys(("vision_ms", "prefill_ms", "decode_ms"), ("real", "null")),
        **dict.fromkeys(("new_tokens", "kv_bytes"), ("integer", "null")),
    },
    "prompts": {"prompt": ("integer",), "text": ("text",)},
    "sent": {
        "question": ("integer",),
        "setting": ("text",),
        "said": ("text", "null"),
        **dict.fromkeys(("prompt", "missing_frames"), ("integer", "null")),
    },
    "waits": {"question": ("integer",), "images_ms": ("real",)},
    "truths": {"question": ("integer",), **dict.fromkeys(("facts", "earlier", "future"), ("text",))},
    "run": {"id": ("text",)},
    "seen": {**dict.fromkeys(("image", "sha256"), ("text",)), **dict.fromkeys(("size", "mtime_ns", "ctime_ns", "inode"), ("integer",))},
}
_ORDER = {  # of the tables that are read by it
    "questions": ("question", "token", "type", "text", "label", "images", "scene", "scene_known", "attributes"),
    "truths": ("question", "facts", "earlier", "future"),
}
_NAMES = {"questions": ("token", "type", "scene"), "answers": ("setting", "status"), "sent": ("setting",)}  # short texts

LAYOUT = Layout(
    schema=_SCHEMA,
    version=1,
    kinds=_KINDS,
    first=frozenset({"questions", "answers"}),  # what runs have that were made before prompts were kept
    remedy="give another directory with --out",
    order=_ORDER,
    names=_NAMES,
)
