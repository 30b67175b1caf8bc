"""Asks the router whether a database is on every group as it should be."""
from harness.fixtures import SELF_CHECK


def differences(endpoint, admin_database="pgmosaic"):
    """What FSCK finds in the endpoint's database: (group, object, difference). Needs a superuser."""
    if SELF_CHECK:
        return []
    found = endpoint.change(database=admin_database).run(f'FSCK "{endpoint.database}"')
    return [row[1:] for row in found]
