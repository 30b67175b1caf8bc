"""Django: two versions of an application's models, each migrated; reflection; the ORM; an empty migration at the end."""
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap

SETTINGS = """
import os
SECRET_KEY = "nothing is secret here"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.postgres",
                  "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "HOST": os.environ["PGHOST"],
                         "PORT": os.environ["PGPORT"], "USER": os.environ["PGUSER"],
                         "PASSWORD": os.environ["PGPASSWORD"], "NAME": os.environ["PGDATABASE"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""
FIRST = """
from django.contrib.postgres.fields import ArrayField
from django.db import models

class Customer(models.Model):
    name = models.CharField(max_length=50, db_index=True)
    email = models.EmailField(unique=True)
    tags = ArrayField(models.CharField(max_length=20), default=list)
    extra = models.JSONField(default=dict)
    created = models.DateTimeField(auto_now_add=True)

class Item(models.Model):
    sku = models.CharField(max_length=20, unique=True)
    note = models.TextField(blank=True, null=True)

class Order(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    total = models.DecimalField(max_digits=10, decimal_places=2)
    items = models.ManyToManyField(Item)
    class Meta:
        indexes = [models.Index(fields=["customer", "total"], name="by_customer")]
        constraints = [models.CheckConstraint(check=models.Q(total__gte=0), name="total_positive")]
"""
SECOND = FIRST.replace("max_length=50, db_index=True", "max_length=200").replace(
    "note = models.TextField(blank=True, null=True)",
    "note = models.TextField(blank=True, default='')\n    weight = models.FloatField(default=1.5)").replace(
    '[models.Index(fields=["customer", "total"], name="by_customer")]',
    '[models.Index(fields=["total"], name="by_total", condition=models.Q(total__gt=1))]') + """
class Payment(models.Model):
    order = models.OneToOneField(Order, on_delete=models.CASCADE, primary_key=True)
    reference = models.UUIDField()
    class Meta:
        unique_together = [("order", "reference")]
"""
USE = """
import django
django.setup()
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, connection, transaction
from django.db.models import Count, F, Sum
from shop.models import Customer, Item, Order
ann = Customer.objects.create(name="Ann", email="ann@example.org", tags=["a", "b"], extra={"k": [1]})
Customer.objects.bulk_create([Customer(name=f"c{i}", email=f"c{i}@example.org") for i in range(10)])
pen, cup = Item.objects.bulk_create([Item(sku="pen"), Item(sku="cup")])
for total in ("5.50", "1.25"):
    Order.objects.create(customer=ann, total=total).items.add(pen, cup)
print(ann.pk, pen.pk, list(Order.objects.values_list("id", "total")))
try:
    with transaction.atomic():
        Customer.objects.create(name="again", email="ann@example.org")
except IntegrityError as error:
    print(str(error).splitlines())
print(Customer.objects.annotate(n=Count("order"), s=Sum("order__total")).filter(n__gt=0).values_list("name", "n", "s"))
print(Customer.objects.filter(tags__contains=["a"]).values_list("name"), Customer.objects.filter(extra__k__0=1).count())
Order.objects.filter(total__gt=2).update(total=F("total") + 1)
print(Order.objects.aggregate(Sum("total")))
with transaction.atomic():
    print(Order.objects.select_for_update().get(pk=1).total)
print(Item.objects.get_or_create(sku="pen")[1], Item.objects.get_or_create(sku="hat")[1])
for customer in Customer.objects.order_by("-id").iterator(chunk_size=3):
    last = customer.name
print(last, Customer.objects.order_by("name")[2:4].values_list("name"))
user = User.objects.create_user("joe", "joe@example.org", "secret")
user.groups.add(Group.objects.create(name="staff"))
print(user.pk, user.groups.count(), user.check_password("secret"))
ann.delete()
print(Order.objects.count(), Order.items.through.objects.count())
with connection.cursor() as cursor:
    print(sorted(t.name for t in connection.introspection.get_table_list(cursor)))
    for table in ("shop_order", "shop_customer"):
        print([tuple(c) for c in connection.introspection.get_table_description(cursor, table)])
        print(sorted(connection.introspection.get_constraints(cursor, table).items()))
        print(connection.introspection.get_sequences(cursor, table), connection.introspection.get_relations(cursor, table))
"""


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "shop").mkdir()
        (folder / "settings.py").write_text(SETTINGS)
        (folder / "shop" / "__init__.py").write_text("")
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": name, "PYTHONHASHSEED": "0"}

        def run(*command):
            print("$", *(word if "\n" not in word else "…" for word in command), flush=True)
            result = subprocess.run([sys.executable, *command], cwd=folder, env=environment, text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            print(result.stdout, end="", flush=True)
            if result.returncode != 0:
                sys.exit(result.returncode)

        for step, models in (("first", FIRST), ("second", SECOND)):
            (folder / "shop" / "models.py").write_text(textwrap.dedent(models))
            run("-m", "django", "makemigrations", "shop", "-n", step, "-v0", "--no-header")
            run("-m", "django", "migrate", "-v0")
            run("-m", "django", "makemigrations", "--check", "--dry-run")
        run("-m", "django", "inspectdb")
        run("-c", USE)
        run("-m", "django", "sqlsequencereset", "shop")
        run("-m", "django", "flush", "--no-input")
        run("-m", "django", "migrate", "shop", "zero", "-v0")
        run("-m", "django", "showmigrations", "shop")


main()
