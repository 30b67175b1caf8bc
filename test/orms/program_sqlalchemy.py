"""SQLAlchemy and Alembic: tables made, reflected, compared with their declaration, altered, compared again."""
import os
import pprint
import warnings

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, declarative_base, relationship

warnings.simplefilter("ignore")
URL = sa.engine.URL.create("postgresql+psycopg2", os.environ["PGUSER"], os.environ["PGPASSWORD"], os.environ["PGHOST"],
                           int(os.environ["PGPORT"]), os.environ["PGDATABASE"])
Base = declarative_base()


class Author(Base):
    __tablename__ = "author"
    __table_args__ = {"comment": "people who write"}
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(50), nullable=False, index=True)
    mood = sa.Column(postgresql.ENUM("sad", "ok", name="mood"))
    made = sa.Column(sa.DateTime(timezone=True), server_default=sa.func.now())
    books = relationship("Book", back_populates="author", order_by="Book.id")


class Book(Base):
    __tablename__ = "book"
    __table_args__ = (sa.CheckConstraint("price >= 0", name="price_positive"),
                      sa.UniqueConstraint("author_id", "title", name="title_once"),
                      sa.Index("long_titles", "title", postgresql_where=sa.text("price > 100")))
    id = sa.Column(sa.BigInteger, sa.Identity(), primary_key=True)
    author_id = sa.Column(sa.ForeignKey("author.id", ondelete="CASCADE", deferrable=True))
    title = sa.Column(sa.Text, comment="as on the cover")
    tags = sa.Column(postgresql.ARRAY(sa.Text))
    extra = sa.Column(postgresql.JSONB)
    price = sa.Column(sa.Numeric(10, 2), server_default="1")
    author = relationship("Author", back_populates="books")


def reflected(engine):
    inspector = sa.inspect(engine)
    found = {"schemas": inspector.get_schema_names(), "tables": sorted(inspector.get_table_names()),
             "views": inspector.get_view_names(), "enums": inspector.get_enums()}
    for table in sorted(inspector.get_table_names()):
        found[table] = {
            "columns": [{key: repr(value) for key, value in column.items()} for column in inspector.get_columns(table)],
            "primary key": inspector.get_pk_constraint(table),
            "foreign keys": inspector.get_foreign_keys(table),
            "indexes": sorted(inspector.get_indexes(table), key=lambda index: index["name"]),
            "unique": inspector.get_unique_constraints(table),
            "checks": inspector.get_check_constraints(table),
            "comment": inspector.get_table_comment(table)}
    return found


def differences(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, Base.metadata)


def use(engine):
    with Session(engine) as session:
        ann = Author(name="Ann", mood="ok", books=[Book(title=f"t{i}", tags=["x"], extra={"i": i}) for i in range(4)])
        session.add_all([ann, Author(name="Bob")])
        session.commit()
        print(ann.id, [book.id for book in ann.books], ann.made is not None)
        print(session.query(Author.name, sa.func.count(Book.id)).outerjoin(Book).group_by(Author.name)
              .order_by(Author.name).all())
        ann.books[0].title = "first"
        session.flush()
        session.rollback()
        print(ann.books[0].title, session.get(Book, 2).extra, session.query(Book).filter(Book.tags.any("x")).count())
        session.add(Book(title="t1", author=ann))
        try:
            session.commit()
        except sa.exc.IntegrityError as error:
            print(str(error.orig).splitlines()[0])
            session.rollback()
        session.execute(sa.delete(Author).where(Author.name == "Bob"))
        session.commit()
        print(session.query(Author).count())


def change(engine):
    with engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        op.add_column("book", sa.Column("pages", sa.Integer, server_default="0", nullable=False))
        op.alter_column("book", "title", type_=sa.String(200), nullable=False)
        op.create_index("by_pages", "book", ["pages"])
        op.drop_constraint("title_once", "book")
        op.alter_column("author", "name", new_column_name="full_name")
        op.rename_table("author", "writer")
        op.create_foreign_key("again", "book", "writer", ["author_id"], ["id"])
        op.execute("ALTER TYPE mood ADD VALUE 'great'")


def main():
    engine = sa.create_engine(URL)
    Base.metadata.create_all(engine)
    pprint.pprint(reflected(engine), width=120)
    print("differences", differences(engine))
    use(engine)
    change(engine)
    pprint.pprint(reflected(engine), width=120)
    with engine.connect() as connection:
        print(connection.execute(sa.text("SELECT full_name, pages, title FROM book JOIN writer ON writer.id = author_id "
                                         "ORDER BY book.id")).all())
    metadata = sa.MetaData()
    metadata.reflect(engine)
    metadata.drop_all(engine)
    print(sa.inspect(engine).get_table_names(), sa.inspect(engine).get_enums())


main()
