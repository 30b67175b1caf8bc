"""What users of psycopg 3 do: server-side binding, pipelines, binary, cursors, COPY. Prints what happened."""
import datetime
import decimal
import logging
import threading
import uuid

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb


def show(what, value):
    print(f"{what}: {value!r}")


def error(what, function):
    try:
        function()
        show(what, "no error")
    except psycopg.Error as problem:
        show(what, (type(problem).__name__, problem.sqlstate, problem.diag.message_primary))


def item(number):
    return (number, f"item {number}", decimal.Decimal(number) / 4, ["a", None, f"t,{number}"],
            Jsonb({"n": number, "list": [1, None]}),
            datetime.datetime(2024, 5, 1, 12, number % 60, tzinfo=datetime.timezone.utc),
            datetime.date(2024, 1, 1 + number % 28), bytes([number % 256, 0, 255]), number % 2 == 0,
            uuid.UUID(int=number), number / 8)


INSERT = "INSERT INTO items VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"


def rows_and_types(connection):
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(INSERT, [item(number) for number in range(1, 61)])
        show("executemany", cursor.rowcount)
        cursor.executemany("INSERT INTO parts VALUES (%s, %s, %s) RETURNING n", [(n, n, "red") for n in range(1, 9)],
                           returning=True)
        returned = [cursor.fetchone()]
        while cursor.nextset():
            returned.append(cursor.fetchone())
        show("returning", returned)
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            show("row", cursor.execute("SELECT * FROM items WHERE id = %s", (7,)).fetchone())
            show("any", cursor.execute("SELECT id, name FROM items WHERE id = ANY(%s) ORDER BY id", ([3, 1, 2],)).fetchall())
            show("all", cursor.execute("SELECT * FROM items ORDER BY id LIMIT 3").fetchall())
            show("aggregates", cursor.execute("SELECT count(*), sum(price), avg(score), max(at) FROM items").fetchone())
            show("binary parameter", cursor.execute("SELECT name FROM items WHERE id = %b", (9,)).fetchone())
    cursor = connection.cursor(row_factory=dict_row)
    show("dict", cursor.execute("SELECT id, ok, tags FROM items WHERE id = %(id)s", {"id": 4}).fetchone())


def prepared(connection):
    connection.prepare_threshold = 2
    for number in range(1, 8):
        row = connection.execute("SELECT name FROM items WHERE id = %s", (number,)).fetchone()
        show("prepared", row)
    connection.execute("ALTER TABLE items ADD COLUMN extra int")
    for number in range(1, 4):
        show("after ddl", connection.execute("SELECT name FROM items WHERE id = %s", (number,)).fetchone())
    connection.execute("ALTER TABLE items DROP COLUMN extra")
    for number in range(300):
        connection.execute(f"SELECT {number} + %s", (number,), prepare=True)
    show("many names", connection.execute("SELECT 1").fetchone())


def pipelines(connection):
    with connection.pipeline():
        cursors = [connection.execute("SELECT id, name FROM items WHERE id = %s", (number,)) for number in range(1, 20)]
        total = connection.execute("SELECT count(*) FROM items")
    show("pipeline", [cursor.fetchone() for cursor in cursors] + [total.fetchone()])
    try:
        with connection.pipeline():
            connection.execute("UPDATE items SET name = 'lost' WHERE id = 1")
            connection.execute("INSERT INTO items (id) VALUES (2)")
            connection.execute("UPDATE items SET name = 'lost' WHERE id = 3")
    except psycopg.Error as problem:
        show("pipeline error", (type(problem).__name__, problem.sqlstate))
    show("after error", connection.execute("SELECT name FROM items WHERE id IN (1, 3) ORDER BY id").fetchall())
    with connection.pipeline() as pipeline:
        first = connection.execute("SELECT 1 AS a")
        pipeline.sync()
        with connection.transaction():
            connection.execute("UPDATE items SET price = 0 WHERE id BETWEEN 1 AND 10")
            second = connection.execute("SELECT sum(price) FROM items WHERE id < 20")
        show("synced", (first.fetchone(), second.fetchone()))


def cursors(connection):
    with connection.transaction():
        with connection.cursor("one") as cursor:
            cursor.execute("SELECT id, name FROM items WHERE id = 5")
            show("server cursor", cursor.fetchmany(10))
        for row in connection.cursor().stream("SELECT id FROM items ORDER BY id LIMIT 5"):
            show("stream", row)


def copies(connection):
    with connection.cursor() as cursor:
        with cursor.copy("COPY parts (item_id, n, label) FROM STDIN") as copy:
            for number in range(100, 400):
                copy.write_row((number, number, "green" if number % 2 else None))
        show("copy in", cursor.rowcount)
        with cursor.copy("COPY parts (item_id, n, label) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "int4", "varchar"])
            for number in range(400, 700):
                copy.write_row((number, number, "blue"))
        show("copy binary", cursor.rowcount)
        with cursor.copy("COPY parts TO STDOUT") as copy:
            show("copy out", sorted(copy.rows())[:3])
        with cursor.copy("COPY (SELECT item_id, n FROM parts WHERE item_id = 450) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4", "int4"])
            show("copy out binary", list(copy.rows()))

        def broken():
            with cursor.copy("COPY parts FROM STDIN") as copy:
                copy.write_row((1000, 1, "x"))
                copy.write_row((100, 100, "duplicate"))
        error("copy error", broken)

        def given_up():
            with cursor.copy("COPY parts FROM STDIN") as copy:
                copy.write_row((1001, 1, "x"))
                raise psycopg.DataError("mine")
        error("copy given up", given_up)
        show("count", cursor.execute("SELECT count(*) FROM parts WHERE item_id >= 100").fetchone())


def transactions(connection):
    try:
        with connection.transaction():
            connection.execute("UPDATE items SET price = price + 1")
            with connection.transaction(force_rollback=True):
                connection.execute("DELETE FROM items")
            show("inside", connection.execute("SELECT count(*), sum(price) FROM items").fetchone())
            connection.execute("INSERT INTO items (id) VALUES (1)")
    except psycopg.errors.UniqueViolation as problem:
        show("unique", (problem.diag.table_name is not None, problem.sqlstate))
    show("outside", connection.execute("SELECT count(*), sum(price) FROM items").fetchone())
    notices = []
    connection.add_notice_handler(lambda notice: notices.append((notice.severity, notice.message_primary)))
    connection.execute("DROP TABLE IF EXISTS nothing_here")
    show("notices", notices)


def cancellation(connection):
    timer = threading.Timer(0.4, connection.cancel)
    timer.start()
    error("cancelled", lambda: connection.execute("SELECT pg_sleep(20) FROM items"))
    timer.join()
    show("status", connection.info.transaction_status.name)


def main():
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # it warns or not, depending on timing
    connection = psycopg.connect("", autocommit=True)
    rows_and_types(connection)
    prepared(connection)
    pipelines(connection)
    cursors(connection)
    copies(connection)
    transactions(connection)
    for statement in ("SELEC", "SELECT * FROM nothing", "SELECT 1/0", "SELECT id FROM items WHERE id = 'x'"):
        error(statement, lambda: connection.execute(statement))
    error("wrong type", lambda: connection.execute("SELECT id FROM items WHERE id = %s", ("x",)))
    error("array", lambda: connection.execute("SELECT %s::int[]", ("{1,x}",)))
    cancellation(connection)
    connection.execute("SET TimeZone = 'Asia/Tokyo'")
    show("timezone", (connection.info.parameter_status("TimeZone"), str(connection.info.timezone)))
    show("time", connection.execute("SELECT at FROM items WHERE id = 7").fetchone()[0].isoformat())
    connection.execute("LISTEN news")
    connection.execute("NOTIFY news, 'for psycopg'")
    connection.close()
    error("closed", lambda: connection.execute("SELECT 1"))
    with psycopg.connect("") as again:
        show("reconnected", again.execute("SELECT count(*) FROM items").fetchone())
    print("done")


main()
