"""Takes our own clauses out of a statement, so that a plain PostgreSQL understands it."""
import re

OPTIONS = ("shard_count", "table_type", "colocate_with")
CREATE_TABLE = re.compile(r"^\s*create\s+(?:unlogged\s+)?table\b", re.IGNORECASE)
SHARD_BY = re.compile(r"\s+(?:SHARD\s+BY(?:\s+HASH)?|PARTITION\s+BY\s+HASH)\s*(?=\()", re.IGNORECASE)
WITH = re.compile(r"\s+WITH\s*(?=\()", re.IGNORECASE)


def balanced(text, start):
    """Index behind the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if depth == 0:
            return index + 1
    return len(text)


def split_options(text):
    """The comma-separated items between parentheses, nested ones kept whole."""
    items, depth, current = [], 0, ""
    for char in text:
        if char == "," and depth == 0:
            items.append(current)
            current = ""
            continue
        depth += (char == "(") - (char == ")")
        current += char
    return [item.strip() for item in [*items, current] if item.strip()]


def strip_dialect(sql):
    if not CREATE_TABLE.match(sql):
        return sql
    match = SHARD_BY.search(sql)
    if match:
        sql = sql[:match.start()] + sql[balanced(sql, match.end()):]
    for match in reversed(list(WITH.finditer(sql))):
        end = balanced(sql, match.end())
        items = split_options(sql[match.end() + 1:end - 1])
        kept = [item for item in items if item.split("=")[0].strip().lower() not in OPTIONS]
        if len(kept) != len(items):
            sql = sql[:match.start()] + (f" WITH ({', '.join(kept)})" if kept else "") + sql[end:]
    return sql
