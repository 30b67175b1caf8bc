// Knex: migrations up, back and again; what it reads of the schema; its queries, transactions and streams.
// Prints what happened; connects by libpq's environment variables.
'use strict';
const makeKnex = require('knex');

const show = (what, value) => console.log(`${what}: ${JSON.stringify(value)}`);

async function error(what, promise) {
  try {
    show(what, ['no error', await promise]);
  } catch (problem) {
    // The detail of some errors is a whole row, with what was random or the time in it.
    const detail = problem.detail && !problem.detail.startsWith('Failing row') ? problem.detail : null;
    show(what, [problem.code, problem.message, detail, problem.constraint, problem.table]);
  }
}

// Each step of the application's life: what it changes, and how that is taken back.
const STEPS = {
  '01_first': {
    async up(knex) {
      await knex.schema.createTable('customers', (table) => {
        table.increments('id');
        table.string('name', 50).notNullable().index();
        table.string('email').unique();
        table.enu('state', ['new', 'known', 'gone'], { useNative: true, enumName: 'customer_state' }).defaultTo('new');
        table.jsonb('extra').defaultTo('{}');
        table.specificType('tags', 'text[]').defaultTo('{}');
        table.timestamps(true, true);
        table.comment('who buys');
      });
      await knex.schema.createTable('items', (table) => {
        table.uuid('id').primary().defaultTo(knex.raw('gen_random_uuid()'));
        table.string('sku').notNullable().comment('on the shelf');
        table.decimal('price', 10, 2).defaultTo(1.5);
        table.enu('size', ['s', 'm', 'l']);
        table.double('weight');
        table.binary('picture');
        table.date('since');
      });
      await knex.schema.createTable('orders', (table) => {
        table.bigIncrements('id');
        table.integer('customer_id').unsigned().notNullable().references('customers.id').onDelete('CASCADE');
        table.decimal('total', 12, 2).notNullable().defaultTo(0);
        table.boolean('paid').defaultTo(false);
        table.timestamp('at', { useTz: true }).defaultTo(knex.fn.now());
        table.check('total >= 0', {}, 'total_positive');
      });
      await knex.schema.createTable('order_items', (table) => {
        table.bigInteger('order_id').references('id').inTable('orders').onDelete('CASCADE');
        table.uuid('item_id').references('id').inTable('items');
        table.integer('line').notNullable();
        table.primary(['order_id', 'line']);
        table.unique(['order_id', 'item_id'], { indexName: 'item_once', deferrable: 'deferred' });
      });
    },
    async down(knex) {
      for (const name of ['order_items', 'orders', 'items', 'customers']) await knex.schema.dropTable(name);
      await knex.raw('DROP TYPE customer_state');
    },
  },
  '02_columns': {
    async up(knex) {
      await knex.schema.alterTable('customers', (table) => {
        table.integer('points').notNullable().defaultTo(0);
        table.string('phone', 20).nullable();
        table.string('name', 200).notNullable().alter();
        table.dropIndex('name');
        table.index(['points', 'name'], 'by_points');
      });
      await knex.schema.alterTable('items', (table) => {
        table.renameColumn('sku', 'code');
        table.setNullable('code');
        table.dropColumn('weight');
        table.text('note').defaultTo('');
        table.unique(['code'], { indexName: 'code_once' });
      });
      await knex.schema.alterTable('orders', (table) => {
        table.index(['customer_id'], 'unpaid', { predicate: knex.whereRaw('NOT paid') });
        table.dropChecks('total_positive');
        table.float('rate').defaultTo(1);
      });
    },
    async down(knex) {
      await knex.schema.alterTable('orders', (table) => {
        table.dropIndex([], 'unpaid');
        table.dropColumn('rate');
        table.check('total >= 0', {}, 'total_positive');
      });
      await knex.schema.alterTable('items', (table) => {
        table.dropUnique(['code'], 'code_once');
        table.dropNullable('code');
        table.renameColumn('code', 'sku');
        table.dropColumns('note');
        table.double('weight');
      });
      await knex.schema.alterTable('customers', (table) => {
        table.dropIndex([], 'by_points');
        table.index('name');
        table.dropColumns('points', 'phone');
        table.string('name', 50).notNullable().alter();
      });
    },
  },
  '03_tables': {
    async up(knex) {
      await knex.schema.renameTable('order_items', 'lines');
      await knex.schema.alterTable('lines', (table) => {
        table.dropForeign('item_id', 'order_items_item_id_foreign');
        table.foreign('item_id', 'line_of_item').references('items.id').onUpdate('CASCADE').deferrable('deferred');
      });
      await knex.schema.createView('big_orders', (view) => {
        view.columns(['id', 'total']);
        view.as(knex('orders').select('id', 'total').where('total', '>', 10));
      });
      await knex.schema.createTableLike('old_orders', 'orders', (table) => table.string('why'));
      await knex.raw("ALTER TYPE customer_state ADD VALUE IF NOT EXISTS 'lost'");
    },
    async down(knex) {
      await knex.schema.dropTable('old_orders');
      await knex.schema.dropView('big_orders');
      await knex.schema.alterTable('lines', (table) => {
        table.dropForeign([], 'line_of_item');
        table.foreign('item_id', 'order_items_item_id_foreign').references('items.id');
      });
      await knex.schema.renameTable('lines', 'order_items');
    },
    config: { transaction: false },
  },
};

const migrationSource = {
  getMigrations: async () => Object.keys(STEPS),
  getMigrationName: (name) => name,
  getMigration: async (name) => STEPS[name],
};

const brokenSource = {
  getMigrations: async () => [...Object.keys(STEPS), '04_broken'],
  getMigrationName: (name) => name,
  getMigration: async (name) => STEPS[name] || {
    async up(knex) {
      await knex.schema.createTable('never', (table) => table.increments());
      await knex.schema.alterTable('nowhere', (table) => table.text('x'));
    },
    async down() {},
  },
};

async function schema(knex, when) {
  for (const table of ['customers', 'items', 'orders', 'order_items', 'lines', 'old_orders', 'big_orders', 'never']) {
    if (!(await knex.schema.hasTable(table))) {
      show(`${when} has no`, table);
      continue;
    }
    show(`${when} ${table}`, await knex(table).columnInfo());
  }
  for (const [table, column] of [['items', 'sku'], ['items', 'code'], ['customers', 'points']]) {
    show(`${when} ${table}.${column}`, await knex.schema.hasColumn(table, column));
  }
  show(`${when} constraints`, await knex('pg_constraint').select('conname', knex.raw('pg_get_constraintdef(oid) AS def'))
    .whereRaw("connamespace = 'public'::regnamespace").orderBy('conname'));
  show(`${when} indexes`, await knex('pg_indexes').select('indexname', 'indexdef').where({ schemaname: 'public' }).orderBy('indexname'));
}

async function migrations(knex) {
  const { migrate } = knex;
  show('to do', (await migrate.list())[1]);
  show('up', await migrate.up());
  show('version', await migrate.currentVersion());
  await schema(knex, 'first');
  show('latest', await migrate.latest());
  await schema(knex, 'latest');
  show('latest again', await migrate.latest());
  show('down', await migrate.down());
  show('down', await migrate.down());
  await schema(knex, 'back');
  show('latest', await migrate.latest());
  show('rollback', await migrate.rollback());
  show('status', await migrate.status());
  show('rollback all', await migrate.rollback(undefined, true));
  await schema(knex, 'empty');
  show('latest', await migrate.latest());
  await error('broken', migrate.latest({ migrationSource: brokenSource }));
  show('status', await migrate.status({ migrationSource: brokenSource }));
  show('half done', await knex.schema.hasTable('never'));
  show('lock', await knex('knex_migrations_lock').select());
  show('done', await knex('knex_migrations').select('id', 'name', 'batch').orderBy('id'));
}

async function writing(knex) {
  const [ann] = await knex('customers').insert({ name: 'Ann', email: 'ann@example.org', tags: ['a', 'b'], extra: { k: [1] } })
    .returning(['id', 'name', 'state', 'tags', 'extra', 'points']);
  show('inserted', ann);
  show('several', await knex('customers').insert([{ name: 'Bob' }, { name: 'Cid', points: 3 }], ['id', 'points']));
  show('batch', await knex.batchInsert('customers', Array.from({ length: 25 }, (_, n) => ({ name: `c${n}`, points: n })), 7)
    .returning('id'));
  const items = await knex('items').insert([{ code: 'pen', size: 's' }, { code: 'cup', price: 4, picture: Buffer.from([0, 255]) }])
    .returning(['id', 'code', 'price', 'picture']);
  show('items', items.map(({ code, price, picture }) => [code, price, picture && picture.toString('hex')]));
  const orders = await knex('orders').insert([{ customer_id: ann.id, total: 12.5 }, { customer_id: ann.id, total: 1 }]).returning('id');
  await knex('lines').insert(items.map((item, line) => ({ order_id: orders[0].id, item_id: item.id, line })));
  show('ignored', await knex('customers').insert({ name: 'x', email: 'ann@example.org' }).onConflict('email').ignore().returning('id'));
  show('merged', await knex('customers').insert({ name: 'Anna', email: 'ann@example.org', points: 5 }).onConflict('email')
    .merge(['name', 'points']).returning(['id', 'name', 'points']));
  show('merged where', await knex('customers').insert({ name: 'Anne', email: 'ann@example.org' }).onConflict('email')
    .merge({ name: knex.raw('excluded.name || ?', ['!']) }).where('customers.points', '>', 4).returning('name'));
  show('updated', await knex('customers').where('points', '>', 20).update({ state: 'known' }, ['name', 'state']));
  show('counted', await knex('customers').where({ name: 'Bob' }).increment('points', 2));
  show('deleted', await knex('customers').where('name', 'like', 'c1%').del());
  await error('duplicate', knex('items').insert({ code: 'pen' }));
  await error('no parent', knex('orders').insert({ customer_id: 0 }));
  await error('no such size', knex('items').insert({ code: 'hat', size: 'xxl' }));
  await error('no such state', knex('customers').insert({ name: 'x', state: 'odd' }));
  await error('no name', knex('customers').insert({ email: 'x' }));
  await error('no such column', knex('customers').select('nothing'));
}

async function reading(knex) {
  show('first', await knex('customers').first('name', 'points').where({ email: 'ann@example.org' }));
  show('join', await knex('lines').join('items', 'items.id', 'lines.item_id').join('orders', 'orders.id', 'lines.order_id')
    .select('code', 'line', 'total').orderBy('line'));
  show('grouped', await knex('customers as c').leftJoin('orders as o', 'o.customer_id', 'c.id').groupBy('c.name')
    .havingRaw('count(o.id) > ?', [0]).select('c.name').count('o.id as n').sum('o.total as s'));
  show('in', await knex('customers').whereIn('id', [1, 2, 3]).orWhereNull('phone').orderBy('id').limit(4).offset(1).pluck('name'));
  show('sub', await knex('customers').whereExists(knex('orders').whereRaw('customer_id = customers.id')).select('name'));
  show('with', await knex.with('w', knex('orders').sum('total as s')).select('s').from('w'));
  show('union', await knex('items').select('code as x').union(knex('customers').select('name').where('points', '>', 22)).orderBy('x'));
  show('json', await knex('customers').whereJsonPath('extra', '$.k[0]', '=', 1).select('name', knex.raw("extra -> 'k' AS k")));
  show('window', await knex('orders').select('id').rowNumber('r', 'total').orderBy('id'));
  show('distinct', await knex('customers').countDistinct('state as n').first());
  show('view', await knex('big_orders').select());
  const raw = await knex.raw('SELECT ?::int + ?::int AS x', [20, 22]);
  show('raw', [raw.command, raw.rowCount, raw.rows, raw.fields.map((field) => [field.name, field.dataTypeID])]);
  const names = [];
  for await (const row of knex('customers').select('name').orderBy('id').stream({ highWaterMark: 3, batchSize: 4 })) names.push(row.name);
  show('stream', names);
  let broken = 0;
  for await (const row of knex.raw('SELECT n FROM generate_series(1, 5000) n').stream()) if (row.n > broken && ++broken === 100) break;
  show('after a broken stream', [broken, await knex('items').count()]);
  await error('bad stream', (async () => {
    for await (const row of knex.raw('SELECT 1 / (n - 300) FROM generate_series(1, 500) n').stream()) broken += row ? 1 : 0;
  })());
}

async function transactions(knex) {
  await knex.transaction(async (trx) => {
    await trx('orders').update({ paid: true });
    await error('inside', trx.transaction(async (inner) => {
      await inner('items').insert({ code: 'hat' });
      await inner('items').insert({ code: 'pen' });
    }));
    await trx('items').insert({ code: 'bag' });
    show('locked', await trx('orders').where({ total: 1 }).forUpdate().skipLocked().pluck('paid'));
  });
  show('committed', await knex('items').orderBy('code').pluck('code'));
  await error('rolled back', knex.transaction(async (trx) => {
    await trx('orders').del();
    throw new Error('changed my mind');
  }));
  const trx = await knex.transaction({ isolationLevel: 'repeatable read' });
  show('isolation', (await trx.raw('SHOW transaction_isolation')).rows);
  await trx('lines').del();
  await trx.rollback();
  show('still there', [await knex('orders').count(), await knex('lines').count()]);
  const read = (_, n) => knex.transaction((inner) => inner('orders').max('id').where('id', '<=', n));
  show('readers', await Promise.all(Array.from({ length: 20 }, read)));
  await error('timeout', knex.raw('SELECT pg_sleep(20)').timeout(200, { cancel: true }));
  await knex('lines').truncate();
  show('emptied', await knex('lines').count());
}

// A table that was there before, and whose rows are on several groups.
async function spread(knex) {
  show('events', [await knex('events').columnInfo(), await knex.schema.hasColumn('events', 'amount')]);
  const events = Array.from({ length: 100 }, (_, n) => ({ customer: 1 + (n % 10), id: n, amount: n / 4, data: { n } }));
  show('batch', (await knex.batchInsert('events', events, 30).returning(['customer', 'id'])).length);
  show('merged', await knex('events').insert({ customer: 3, id: 12, amount: 1000 }).onConflict(['customer', 'id']).merge()
    .returning(['customer', 'amount', 'data']));
  show('ignored', (await knex('events').insert(events).onConflict(['customer', 'id']).ignore().returning('id')).length);
  show('page', await knex('events').orderBy('amount', 'desc').limit(5).offset(2).select('id', 'data'));
  show('totals', await knex('events').groupBy('customer').select('customer').sum('amount as s').count().orderBy('s', 'desc').limit(3));
  show('of one', await knex('events').where({ customer: 4 }).where('amount', '>', 10).orderBy('id').pluck('id'));
  const streamed = [];
  for await (const row of knex('events').select('id').orderBy('id').stream({ batchSize: 7 })) streamed.push(row.id);
  show('streamed', streamed);
  await error('transaction', knex.transaction(async (trx) => {
    show('changed', await trx('events').where('amount', '<', 5).update({ amount: 0 }));
    show('inside', await trx('events').sum('amount as s').first());
    await trx('events').insert({ customer: 1, id: 0 });
  }));
  await knex.transaction(async (trx) => show('removed', await trx('events').whereIn('id', [1, 2, 33, 99]).del()));
  show('left', await knex('events').count('id as n').sum('amount as s').max('id as last'));
  await knex.schema.alterTable('events', (table) => {
    table.text('note').notNullable().defaultTo('none');
    table.index('amount', 'by_amount');
  });
  show('altered', await knex('events').where({ note: 'none' }).count());
  await knex('events').truncate();
  show('emptied', await knex('events').count());
  await knex.schema.dropTable('events');
}

async function main() {
  const knex = makeKnex({ client: 'pg', connection: {}, pool: { min: 0, max: 4 }, migrations: { migrationSource } });
  await migrations(knex);
  await writing(knex);
  await reading(knex);
  await transactions(knex);
  await spread(knex);
  show('all back', await knex.migrate.rollback(undefined, true));
  await schema(knex, 'end');
  await knex.destroy();
  console.log('done');
}

main().catch((problem) => {
  console.error(problem);
  process.exit(1);
});
