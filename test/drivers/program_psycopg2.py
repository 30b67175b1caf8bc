"""What users of psycopg2 do. Prints what happened; connects by libpq's environment variables."""
import datetime
import decimal
import io
import json
import threading

import psycopg2
import psycopg2.extensions
import psycopg2.extras


def show(what, value):
    print(f"{what}: {value!r}")


def error(what, function):
    try:
        function()
        show(what, "no error")
    except psycopg2.Error as problem:
        show(what, (type(problem).__name__, problem.pgcode, (problem.diag.message_primary or "").strip()))


def rows_and_types(cursor):
    for number in range(1, 61):
        cursor.execute(
            "INSERT INTO items VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (number, f"item '{number}'", decimal.Decimal(number) / 4, ["a", None, f"t,{number}"],
             psycopg2.extras.Json({"n": number, "list": [1, None, "x"]}),
             datetime.datetime(2024, 5, 1, 12, number % 60, tzinfo=datetime.timezone.utc),
             datetime.date(2024, 1, 1 + number % 28), bytes([number, 0, 255]), number % 2 == 0,
             f"00000000-0000-0000-0000-{number:012}", number / 8))
    cursor.execute("SELECT * FROM items WHERE id = %s", (7,))
    row = cursor.fetchone()
    show("row", [bytes(value) if isinstance(value, memoryview) else value for value in row])
    show("description", [(column.name, column.type_code) for column in cursor.description])
    cursor.execute("SELECT id, name FROM items WHERE id = ANY(%s) ORDER BY id", ([3, 1, 2],))
    show("any", cursor.fetchall())
    cursor.execute("SELECT id FROM items WHERE id IN %s ORDER BY id", ((5, 6, 7),))
    show("in", cursor.fetchall())
    cursor.execute("SELECT count(*), sum(price), avg(score), max(at) FROM items")
    show("aggregates", cursor.fetchone())
    cursor.execute("SELECT doc->>'n', doc->'list' FROM items WHERE doc->>'n' = '9'")
    show("json", cursor.fetchall())


def many(cursor):
    psycopg2.extras.execute_values(cursor, "INSERT INTO parts (item_id, n, label) VALUES %s",
                                   [(1 + n % 60, n, ["red", "green", "blue", None][n % 4]) for n in range(300)],
                                   page_size=120)
    show("execute_values", cursor.rowcount)
    psycopg2.extras.execute_batch(cursor, "UPDATE parts SET n = n + 1000 WHERE item_id = %s AND n = %s",
                                  [(1 + n % 60, n) for n in range(10)])
    cursor.executemany("DELETE FROM parts WHERE item_id = %s AND n > 1000", [(1,), (2,), (3,)])
    cursor.execute("SELECT label, count(*) FROM parts GROUP BY label ORDER BY label")
    show("groups", cursor.fetchall())
    cursor.execute("SELECT i.id, p.n, l.text FROM items i JOIN parts p ON p.item_id = i.id JOIN labels l USING (label) "
                   "WHERE i.id = 10 ORDER BY p.n")
    show("join", cursor.fetchall())


def copies(cursor):
    cursor.copy_from(io.StringIO("501\tcopied\n502\t\\N\n"), "notes", columns=("id", "text"))
    cursor.copy_expert("COPY parts FROM STDIN WITH (FORMAT csv)",
                       io.StringIO("".join(f"{n},{n},green\n" for n in range(2000, 2500))))
    out = io.StringIO()
    cursor.copy_expert("COPY (SELECT * FROM parts WHERE item_id = 2100) TO STDOUT WITH (FORMAT csv, HEADER)", out)
    show("copy out", out.getvalue())
    out = io.StringIO()
    cursor.copy_to(out, "parts")
    show("copy all", len(out.getvalue().splitlines()))


def cursors(connection):
    with connection.cursor("by_name") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT id FROM items WHERE id = 5")
        show("named cursor", [row[0] for row in cursor])
    with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        cursor.execute("SELECT id, ok FROM items WHERE id = 4")
        show("dict", dict(cursor.fetchone()))
    with connection.cursor() as cursor:
        cursor.execute("PREPARE p AS SELECT name FROM items WHERE id = $1")
        for number in (1, 2, 3):
            cursor.execute("EXECUTE p (%s)", (number,))
            show("prepared", cursor.fetchone())


def transactions(connection):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE items SET price = price + 1")
        show("updated", cursor.rowcount)
        cursor.execute("SAVEPOINT s")
        error("duplicate", lambda: cursor.execute("INSERT INTO items (id) VALUES (7)"))
        error("failed block", lambda: cursor.execute("SELECT 1"))
        cursor.execute("ROLLBACK TO s")
        cursor.execute("DELETE FROM items WHERE id > 50 RETURNING id")
        show("deleted", sorted(cursor.fetchall()))
    connection.rollback()
    with connection, connection.cursor() as cursor:
        cursor.execute("UPDATE items SET name = upper(name) WHERE id <= 10")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), sum(price) FROM items")
        show("after", cursor.fetchone())
    connection.commit()
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        show("isolation", cursor.fetchone())
        error("read only", lambda: cursor.execute("DELETE FROM items"))
    connection.rollback()
    connection.set_session(isolation_level="DEFAULT", readonly=False)


def large_objects(connection):
    made = connection.lobject(0, "wb", 770077)
    show("written", made.write(b"first second third"))
    made.close()
    connection.commit()
    read = connection.lobject(made.oid, "rb")
    show("sought", read.seek(6))
    show("read", read.read(6).decode())
    show("at", read.tell())
    read.close()
    error("closed", lambda: read.read())
    connection.rollback()
    again = connection.lobject(made.oid, "rwb")
    again.truncate(5)
    connection.commit()
    show("truncated", connection.lobject(made.oid, "rb").read().decode())
    connection.lobject(made.oid).unlink()
    error("gone", lambda: connection.lobject(made.oid, "rb"))
    connection.rollback()


def cancellation(connection):
    with connection.cursor() as cursor:
        timer = threading.Timer(0.4, connection.cancel)
        timer.start()
        error("cancelled", lambda: cursor.execute("SELECT pg_sleep(20) FROM items WHERE id = 1"))
        timer.join()
    connection.rollback()
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '300ms'")
        error("timeout", lambda: cursor.execute("SELECT pg_sleep(20)"))
    connection.rollback()
    connection.reset()


def main():
    connection = psycopg2.connect("")
    show("encoding", connection.encoding)
    with connection, connection.cursor() as cursor:
        rows_and_types(cursor)
        many(cursor)
        copies(cursor)
    cursors(connection)
    connection.commit()
    transactions(connection)
    large_objects(connection)
    for statement in ("SELEC", "SELECT * FROM nothing", "SELECT nothing FROM items", "SELECT 1/0", "SELECT 'x'::int"):
        with connection.cursor() as cursor:
            error(statement, lambda: cursor.execute(statement))
        connection.rollback()
    cancellation(connection)
    connection.close()
    error("closed", lambda: connection.cursor())
    connection = psycopg2.connect("", application_name="again")
    connection.set_session(autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("SHOW application_name")
        show("reconnected", cursor.fetchone())
        cursor.execute("LISTEN news")
        cursor.execute("NOTIFY news, 'for psycopg2'")
        cursor.execute("SELECT 1")
        connection.poll()
        show("notifies", [(notify.channel, notify.payload, notify.pid == connection.info.backend_pid)
                          for notify in connection.notifies])
    print(json.dumps("done"))


main()
