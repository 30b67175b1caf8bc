"""Django before the database that libpq's variables name: `migrate` makes its tables, `start` prints as JSON the statements that a
start of Django asks: are all migrations applied, and what does every table look like (inspectdb)."""
import contextlib
import io
import json
import os
import sys

import django
from django.conf import settings

settings.configure(
    DEBUG=True,  # keeps the text of all statements
    SECRET_KEY="nothing is secret here",
    INSTALLED_APPS=["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages",
                    "django.contrib.redirects", "django.contrib.sessions", "django.contrib.sites", "django.contrib.flatpages"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
                           "USER": os.environ["PGUSER"], "PASSWORD": os.environ["PGPASSWORD"], "NAME": os.environ["PGDATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    SILENCED_SYSTEM_CHECKS=["admin"],
    SITE_ID=1,
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402


def main():
    if sys.argv[1] == "migrate":
        call_command("migrate", verbosity=0, skip_checks=True)
        return
    with CaptureQueriesContext(connection) as captured, contextlib.redirect_stdout(io.StringIO()):
        call_command("migrate", check_unapplied=True, verbosity=0, skip_checks=True)
        call_command("inspectdb", include_views=True)
    print(json.dumps([query["sql"] for query in captured.captured_queries]))


main()
