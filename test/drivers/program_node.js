// What users of node-postgres do. Prints what happened; connects by libpq's environment variables.
'use strict';
const { Client, Pool } = require('pg');

const show = (what, value) => console.log(`${what}: ${JSON.stringify(value)}`);

async function error(what, promise) {
  try {
    await promise;
    show(what, 'no error');
  } catch (problem) {
    show(what, [problem.code, problem.message, problem.position]);
  }
}

const item = (n) => [n, `item ${n}`, n / 4, ['a', null, `t,${n}`], { n, list: [1, null] },
  new Date(Date.UTC(2024, 4, 1, 12, n % 60)), `2024-01-${String(1 + (n % 28)).padStart(2, '0')}`,
  Buffer.from([n % 256, 0, 255]), n % 2 === 0, `00000000-0000-0000-0000-${String(n).padStart(12, '0')}`, n / 8];

// A date is a Date or a text, as the driver's version has it.
const dayOf = (value) => (value instanceof Date ? value.toDateString() : value);

async function rowsAndTypes(client) {
  const places = Array.from({ length: 11 }, (_, i) => `$${i + 1}`).join(', ');
  for (let n = 1; n <= 60; n++) await client.query(`INSERT INTO items VALUES (${places})`, item(n));
  const row = (await client.query('SELECT * FROM items WHERE id = $1', [7])).rows[0];
  show('row', { ...row, at: row.at.toISOString(), day: dayOf(row.day), raw: row.raw.toString('hex') });
  const any = await client.query('SELECT id, name FROM items WHERE id = ANY($1) ORDER BY id', [[3, 1, 2]]);
  show('any', any.rows);
  show('fields', any.fields.map((field) => [field.name, field.dataTypeID, field.format]));
  show('aggregates', (await client.query('SELECT count(*), sum(price), avg(score) FROM items')).rows);
  show('array rows', (await client.query({ text: 'SELECT id, ok FROM items ORDER BY id LIMIT 3', rowMode: 'array' })).rows);
  const updated = await client.query('UPDATE items SET price = price + 1 WHERE id < 30');
  show('updated', [updated.command, updated.rowCount]);
  const multi = await client.query('SELECT 1 AS a; SELECT count(*) FROM items; SELECT 2 AS b');
  show('several', multi.map((result) => result.rows));
}

async function prepared(client) {
  for (const n of [1, 2, 3, 1]) {
    const result = await client.query({ name: 'by-id', text: 'SELECT name FROM items WHERE id = $1', values: [n] });
    show('prepared', result.rows);
  }
  await error('prepared error', client.query({ name: 'bad', text: 'SELECT $1::int', values: ['x'] }));
  for (let n = 0; n < 200; n++) await client.query({ name: `n${n}`, text: `SELECT $1::int + ${n} AS s`, values: [n] });
  show('many', (await client.query({ name: 'n77', text: 'SELECT $1::int + 77 AS s', values: [1] })).rows);
}

async function transactions(client) {
  await client.query('BEGIN');
  await client.query('UPDATE items SET price = 0');
  await client.query('SAVEPOINT s');
  await error('duplicate', client.query('INSERT INTO items (id) VALUES (7)'));
  await error('failed block', client.query('SELECT 1'));
  await client.query('ROLLBACK TO s');
  show('inside', (await client.query('SELECT sum(price) FROM items')).rows);
  await client.query('ROLLBACK');
  show('outside', (await client.query('SELECT sum(price) FROM items')).rows);
}

async function queued(client) {
  const promises = [];
  for (let n = 1; n <= 30; n++) promises.push(client.query('SELECT name FROM items WHERE id = $1', [n]));
  show('queued', (await Promise.all(promises)).map((result) => result.rows[0].name));
}

async function pooled() {
  const pool = new Pool({ max: 5 });
  const results = await Promise.all(
    Array.from({ length: 40 }, (_, n) => pool.query('SELECT id FROM items WHERE id = $1', [n + 1])));
  show('pool', results.map((result) => result.rows[0].id));
  await pool.end();
}

async function main() {
  const client = new Client();
  await client.connect();
  const notices = [];
  client.on('notice', (notice) => notices.push(notice.message));
  await rowsAndTypes(client);
  await prepared(client);
  await transactions(client);
  await queued(client);
  for (const statement of ['SELEC', 'SELECT * FROM nothing', 'SELECT 1/0', 'SELECT nothing FROM items']) {
    await error(statement, client.query(statement));
  }
  await client.query("DROP TABLE IF EXISTS nothing_here");
  show('notices', notices);
  await client.query("SET statement_timeout = '300ms'");
  await error('timeout', client.query('SELECT pg_sleep(20) FROM items WHERE id = 1'));
  await client.query('RESET statement_timeout');
  const heard = new Promise((resolve) => client.on('notification', (message) => resolve(message.payload)));
  await client.query('LISTEN news');
  await client.query("NOTIFY news, 'for node'");
  show('heard', await heard);
  await client.end();
  await pooled();
  const again = new Client({ application_name: 'again' });
  await again.connect();
  show('reconnected', (await again.query('SHOW application_name')).rows);
  await again.end();
  console.log('done');
}

main().catch((problem) => {
  console.error(problem);
  process.exit(1);
});
