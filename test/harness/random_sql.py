"""Random schemas, rows and statements of the shape that one router version claims to answer.

A Generator is a pure function of its seed. Floating point values are multiples of 1/4 and small, so that no order of
additions can be seen in a sum; every ORDER BY that stands beside a LIMIT covers all output columns.
"""
import dataclasses
import random
import uuid

KEY_TYPES = ["int", "bigint", "smallint", "text", "varchar(30)", "uuid", "date", "numeric", "timestamp"]
COLUMN_TYPES = ["int", "bigint", "numeric", "text", "bool", "date", "timestamptz", "float8", "varchar(12)", "smallint"]
NUMBERS = {"int", "bigint", "numeric", "float8", "smallint"}
TEXTS = {"text", "varchar(12)", "varchar(30)"}
WORDS = ["", "a", "b", "B", "ab", "Zoo", "zoo", "ä", "x y", "it's", "100%", "_", "mosaic", "stone", "ß"]


@dataclasses.dataclass
class Table:
    name: str
    columns: dict  # name -> type
    reference: bool = False

    def of(self, types):
        return [name for name, kind in self.columns.items() if kind in types]


def literal(value):
    if value is None:
        return "NULL"
    return "'" + str(value).replace("'", "''") + "'" if isinstance(value, str) else str(value)


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.key_type = self.random.choice(KEY_TYPES)
        self.keys = [self.key_value(number) for number in range(self.random.choice([5, 20, 60]))]
        self.tables = [self.table(f"t{number}") for number in range(self.random.randint(2, 3))]
        columns = {"rk": "int", **{f"r{n}": self.random.choice(COLUMN_TYPES) for n in range(3)}}
        self.reference = Table("r", columns, reference=True)

    def table(self, name):
        width = self.random.randint(2, 5)
        columns = {f"c{number}": self.random.choice(COLUMN_TYPES) for number in range(width)}
        columns["n"] = "int"
        return Table(name, {"k": self.key_type, **columns})

    # Values

    def key_value(self, number):
        spread = number * 7919 % 4001 - 2000
        if self.key_type in ("text", "varchar(30)"):
            return f"{self.random.choice(WORDS)}{number}"
        if self.key_type == "uuid":
            return str(uuid.UUID(int=self.random.getrandbits(128)))
        if self.key_type == "date":
            return f"{2000 + number % 40}-{1 + number % 12:02}-{1 + number % 28:02}"
        if self.key_type == "timestamp":
            return f"{2000 + number % 40}-{1 + number % 12:02}-{1 + number % 28:02} {number % 24:02}:30:00.5"
        if self.key_type == "numeric":
            return spread / 4
        return spread

    def value(self, kind, nulls=0.15):
        pick = self.random
        if pick.random() < nulls:
            return None
        if kind in TEXTS:
            return pick.choice(WORDS)
        if kind == "bool":
            return pick.choice(["t", "f"])
        if kind == "date":
            return f"2024-{pick.randint(1, 12):02}-{pick.randint(1, 28):02}"
        if kind == "timestamptz":
            return f"2024-03-{pick.randint(1, 28):02} {pick.randint(0, 23):02}:00:00+00"
        if kind == "float8":
            return pick.randint(-400, 400) / 4
        if kind == "numeric":
            return f"{pick.randint(-999, 999)}.{'0123456789'[:pick.randint(1, 3)]}"
        return pick.randint(-20, 20)

    def schema(self):
        """CREATE TABLE statements in our dialect."""
        shards = self.random.choice([4, 8, 16])
        for table in self.tables:
            columns = ", ".join(f"{name} {kind}" for name, kind in table.columns.items())
            yield f"CREATE TABLE {table.name} ({columns}) SHARD BY (k) WITH (shard_count = {shards})"
        columns = ", ".join(f"{name} {kind}" for name, kind in self.reference.columns.items())
        yield f"CREATE TABLE r ({columns}) WITH (table_type = 'reference')"

    def row(self, table, number):
        values = []
        for name, kind in table.columns.items():
            if name == "k":
                values.append(self.random.choice(self.keys))
            elif name == "n":
                values.append(number)
            elif name == "rk":
                values.append(number - 20)
            else:
                values.append(self.value(kind))
        return f"({', '.join(map(literal, values))})"

    def rows(self):
        """INSERT statements that fill the tables."""
        for table in [*self.tables, self.reference]:
            count = 41 if table.reference else self.random.choice([0, 30, 200])
            rows = [self.row(table, number) for number in range(count)]
            for start in range(0, count, 100):
                yield f"INSERT INTO {table.name} VALUES {', '.join(rows[start:start + 100])}"

    # Expressions

    def predicate(self, table, alias):
        pick = self.random
        if not table.reference and pick.random() < 0.35:
            return self.key_predicate(alias)
        name, kind = pick.choice(list(table.columns.items()))
        column = f"{alias}.{name}"
        value = literal(self.key_sample() if name == "k" else self.value(kind, nulls=0))
        form = pick.randrange(6)
        if form == 0:
            return f"{column} IS {pick.choice(['', 'NOT '])}NULL"
        if form == 1:
            return f"{column} IN ({value}, {literal(self.key_sample() if name == 'k' else self.value(kind, nulls=0))})"
        if form == 2 and kind in TEXTS:
            return f"{column} LIKE {literal(pick.choice(['%o%', 'a%', '%', '_', '%ä%']))}"
        if form == 3:
            return f"NOT ({column} {pick.choice(['<', '>'])} {value})"
        if form == 4 and kind in NUMBERS:
            return f"coalesce({column}, 0) {pick.choice(['>=', '<='])} {pick.randint(-10, 10)}"
        return f"{column} {pick.choice(['=', '<>', '<', '<=', '>', '>='])} {value}"

    def key_sample(self):
        return self.random.choice(self.keys)

    def key_predicate(self, alias):
        pick = self.random
        values = [literal(self.key_sample()) for _ in range(pick.randint(2, 4))]
        form = pick.randrange(5)
        if form == 0:
            return f"{alias}.k IN ({', '.join(values)})"
        if form == 1:
            return "(" + " OR ".join(f"{alias}.k = {value}" for value in values) + ")"
        if form == 2:
            base = self.key_type.split("(")[0]
            return f"{alias}.k = ANY (ARRAY[{', '.join(values)}]::{base}[])"
        if form == 3:
            return f"{values[0]} = {alias}.k"
        return f"{alias}.k = {values[0]}"

    def scalar(self, sources):
        """An expression over the tables in `sources` ({alias: table}) and a type name, for lists and groups."""
        pick = self.random
        alias, table = pick.choice(list(sources.items()))
        name, kind = pick.choice(list(table.columns.items()))
        column = f"{alias}.{name}"
        form = pick.randrange(8)
        if form == 0 and kind in NUMBERS:
            return f"{column} + {pick.randint(1, 9)}"
        if form == 1 and kind in TEXTS:
            return f"upper({column})"
        if form == 2 and kind in TEXTS:
            return f"length({column})"
        if form == 3:
            return f"({column} IS NULL)"
        if form == 4 and kind in ("int", "bigint", "smallint"):
            return f"{column} % 3"
        return column

    def aggregate(self, sources):
        pick = self.random
        alias, table = pick.choice(list(sources.items()))
        if pick.random() < 0.2:
            return "count(*)"
        numbers = table.of(NUMBERS)
        if numbers and pick.random() < 0.6:
            argument = f"{alias}.{pick.choice(numbers)}"
            if pick.random() < 0.2:
                argument += f" * {pick.randint(2, 5)}"
            call = f"{pick.choice(['sum', 'avg', 'min', 'max', 'count'])}({argument})"
        else:
            name = pick.choice([name for name, kind in table.columns.items() if kind not in ("bool", "uuid")])
            call = f"{pick.choice(['min', 'max', 'count'])}({alias}.{name})"
        if pick.random() < 0.2:
            call += f" FILTER (WHERE {self.predicate(table, alias)})"
        return call

    # Statements

    def sources(self):
        """FROM clause and {alias: table}: sharded tables joined by their key, perhaps the reference table."""
        pick = self.random
        chosen = [pick.choice(self.tables) for _ in range(pick.choice([1, 1, 1, 2, 2, 3]))]
        tables = {f"a{number}": table for number, table in enumerate(chosen)}
        clause = f"{chosen[0].name} a0"
        for number, table in list(enumerate(chosen))[1:]:
            kind = pick.choice(["JOIN", "JOIN", "LEFT JOIN"])
            clause += f" {kind} {table.name} a{number} ON a{number}.k = a{pick.randrange(number) if kind == 'JOIN' else 0}.k"
        if pick.random() < 0.25:
            clause += f" {pick.choice(['JOIN', 'LEFT JOIN'])} r ON r.rk = a0.n % 40"
            tables["r"] = self.reference
        return clause, tables

    def where(self, tables):
        count = self.random.choice([0, 0, 1, 1, 2])
        parts = []
        for _ in range(count):
            alias, table = self.random.choice(list(tables.items()))
            parts.append(self.predicate(table, alias))
        return " WHERE " + " AND ".join(parts) if parts else ""

    def order(self, count, limit=True):
        pick = self.random
        if pick.random() < 0.3:
            return ""
        positions = list(range(1, count + 1))
        pick.shuffle(positions)
        keys = [f"{position}{pick.choice(['', ' DESC', ' ASC NULLS FIRST', ' DESC NULLS LAST'])}" for position in positions]
        text = " ORDER BY " + ", ".join(keys)
        if limit and pick.random() < 0.5:
            text += f" LIMIT {pick.choice([0, 1, 3, 10, 100])}"
            if pick.random() < 0.4:
                text += f" OFFSET {pick.choice([0, 1, 5, 50])}"
        return text

    def select(self):
        clause, tables = self.sources()
        where = self.where(tables)
        form = self.random.randrange(10)
        if form < 4:
            items = [f"{self.scalar(tables)} AS o{n}" for n in range(self.random.randint(1, 4))]
            distinct = "DISTINCT " if self.random.random() < 0.3 else ""
            return f"SELECT {distinct}{', '.join(items)} FROM {clause}{where}{self.order(len(items))}"
        if form < 6:
            items = [f"{self.aggregate(tables)} AS o{n}" for n in range(self.random.randint(1, 4))]
            return f"SELECT {', '.join(items)} FROM {clause}{where}"
        groups = [self.scalar(tables) for _ in range(self.random.randint(1, 2))]
        items = [f"{expression} AS g{n}" for n, expression in enumerate(groups)]
        items += [f"{self.aggregate(tables)} AS o{n}" for n in range(self.random.randint(1, 3))]
        having = f" HAVING count(*) {self.random.choice(['>', '<', '<>'])} {self.random.randint(1, 6)}"
        having = having if self.random.random() < 0.3 else ""
        by = ", ".join(str(number + 1) for number in range(len(groups)))
        return f"SELECT {', '.join(items)} FROM {clause}{where} GROUP BY {by}{having}{self.order(len(items))}"

    def write(self):
        table = self.random.choice(self.tables)
        settable = [name for name in table.columns if name not in ("k", "n")]
        name = self.random.choice(settable)
        returning = self.random.choice(["", " RETURNING *", " RETURNING n"])
        form = self.random.randrange(3)
        if form == 0:
            rows = [self.row(table, self.random.randint(1000, 9999)) for _ in range(self.random.randint(1, 6))]
            return f"INSERT INTO {table.name} VALUES {', '.join(rows)}{returning}"
        where = f" WHERE {self.predicate(table, table.name)}"
        if form == 1:
            value = literal(self.value(table.columns[name]))
            return f"UPDATE {table.name} SET {name} = {value}{where}{returning}"
        return f"DELETE FROM {table.name}{where} AND n % 3 = 0{returning}"
