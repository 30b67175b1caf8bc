"""What users of asyncpg do: prepared statements for everything, binary formats, portals with limits, pools."""
import asyncio
import datetime
import decimal
import json
import os
import uuid

import asyncpg


def show(what, value):
    print(f"{what}: {value!r}")


async def error(what, awaitable):
    try:
        await awaitable
        show(what, "no error")
    except asyncpg.PostgresError as problem:
        show(what, (type(problem).__name__, problem.sqlstate, str(problem)))
    except asyncio.TimeoutError:
        show(what, "timeout")


def item(number):
    return (number, f"item {number}", decimal.Decimal(number) / 4, ["a", None, f"t,{number}"],
            json.dumps({"n": number, "list": [1, None]}),
            datetime.datetime(2024, 5, 1, 12, number % 60, tzinfo=datetime.timezone.utc),
            datetime.date(2024, 1, 1 + number % 28), bytes([number % 256, 0, 255]), number % 2 == 0,
            uuid.UUID(int=number), number / 8)


def plain(record):
    return [str(value) if isinstance(value, uuid.UUID) else value for value in record]


async def rows_and_types(connection):
    places = ", ".join(f"${number}" for number in range(1, 12))
    await connection.executemany(f"INSERT INTO items VALUES ({places})", [item(number) for number in range(1, 61)])
    show("row", plain(await connection.fetchrow("SELECT * FROM items WHERE id = $1", 7)))
    show("any", [tuple(row) for row in
                 await connection.fetch("SELECT id, name FROM items WHERE id = ANY($1::int[]) ORDER BY id", [3, 1, 2])])
    show("aggregates", tuple(await connection.fetchrow("SELECT count(*), sum(price), avg(score), max(at) FROM items")))
    show("all", [plain(row) for row in await connection.fetch("SELECT * FROM items ORDER BY id LIMIT 3")])
    show("value", await connection.fetchval("SELECT doc->>'n' FROM items WHERE id = $1", 12))
    show("status", await connection.execute("UPDATE items SET price = price + 1 WHERE id < 30"))
    show("status", await connection.execute("DELETE FROM items WHERE id = $1", 60))
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    show("jsonb", await connection.fetchval("SELECT doc FROM items WHERE id = 9"))
    show("composite", await connection.fetchval("SELECT (1, 'x'::text)"))


async def prepared(connection):
    statement = await connection.prepare("SELECT id, name FROM items WHERE id = $1")
    show("parameters", [kind.name for kind in statement.get_parameters()])
    show("attributes", [(attribute.name, attribute.type.name) for attribute in statement.get_attributes()])
    for number in (1, 2, 3, 1):
        show("prepared", tuple(await statement.fetchrow(number)))
    await connection.execute("ALTER TABLE items ADD COLUMN extra int DEFAULT 5")
    show("after ddl", tuple(await statement.fetchrow(4)))
    star = await connection.fetchrow("SELECT * FROM items WHERE id = 1")
    show("star", len(star))
    await connection.execute("ALTER TABLE items DROP COLUMN extra")
    for number in range(250):
        await connection.fetchval(f"SELECT $1::int + {number}", number)
    show("many", await connection.fetchval("SELECT count(*) FROM items"))


async def cursors(connection):
    async with connection.transaction():
        found = []
        async for row in connection.cursor("SELECT g FROM generate_series(1, 40) g", prefetch=7):
            found.append(row["g"])
        show("cursor", found)
        cursor = await connection.cursor("SELECT id FROM items ORDER BY id")
        show("fetch", [row["id"] for row in await cursor.fetch(5)])
        await cursor.forward(10)
        show("fetchrow", tuple(await cursor.fetchrow()))


async def copies(connection, folder):
    show("records", await connection.copy_records_to_table(
        "parts", records=[(number, number, "green") for number in range(100, 600)], columns=["item_id", "n", "label"]))
    path = os.path.join(folder, "parts.csv")
    show("to file", await connection.copy_from_query("SELECT * FROM parts WHERE item_id = $1", 105, output=path,
                                                     format="csv", header=True))
    with open(path, encoding="utf-8") as file:
        show("file", file.read())
    show("from table", await connection.copy_from_table("parts", output=path))
    with open(path, encoding="utf-8") as file:
        show("lines", len(file.readlines()))
    await error("copy error", connection.copy_records_to_table(
        "parts", records=[(1000, 1, "x"), (100, 100, "again")], columns=["item_id", "n", "label"]))
    show("count", await connection.fetchval("SELECT count(*) FROM parts"))


async def transactions(connection):
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("UPDATE items SET price = 0")
    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM items")
            raise ValueError
    except ValueError:
        pass
    show("inside", tuple(await connection.fetchrow("SELECT count(*), sum(price) FROM items")))
    await transaction.rollback()
    show("outside", tuple(await connection.fetchrow("SELECT count(*), sum(price) FROM items")))
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        show("isolation", await connection.fetchval("SHOW transaction_isolation"))


async def pool():
    async with asyncpg.create_pool(min_size=3, max_size=6) as made:
        async def one(number):
            async with made.acquire() as connection:
                await connection.execute(f"SET work_mem = '{number % 7 + 1}MB'")
                return await connection.fetchval("SELECT name FROM items WHERE id = $1", number)
        show("pool", await asyncio.gather(*[one(number) for number in range(1, 40)]))
        show("reset", await made.fetchval("SHOW work_mem"))


async def main():
    connection = await asyncpg.connect()
    show("version", connection.get_server_version().major)
    await rows_and_types(connection)
    await prepared(connection)
    await cursors(connection)
    await copies(connection, os.environ["SCRATCH"])
    await transactions(connection)
    for statement in ("SELEC", "SELECT * FROM nothing", "SELECT 1/0", "INSERT INTO items (id) VALUES (1)"):
        await error(statement, connection.execute(statement))
        await error(statement, connection.fetch(statement))
    await error("cancelled", connection.fetch("SELECT pg_sleep(20) FROM items", timeout=0.4))
    show("after", await connection.fetchval("SELECT count(*) FROM items"))
    heard = asyncio.get_running_loop().create_future()
    await connection.add_listener("news", lambda _, pid, channel, payload: heard.set_result((channel, payload)))
    await connection.execute("NOTIFY news, 'for asyncpg'")
    show("heard", await asyncio.wait_for(heard, 10))
    await connection.close()
    connection = await asyncpg.connect(server_settings={"application_name": "again"})
    show("reconnected", await connection.fetchval("SHOW application_name"))
    await connection.close()
    await pool()
    print("done")


asyncio.run(main())
