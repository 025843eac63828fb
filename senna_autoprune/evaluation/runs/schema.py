"""The tables of a run's database. What came later has a table of its own: runs made before go on, and lack it."""

SCHEMA_VERSION = 1

SCHEMA = """
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
