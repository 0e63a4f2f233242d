"""The demo business: a bakery whose offline assistant answers from three small files. For trying things out."""

from __future__ import annotations

from importlib import resources

from chatbotctl.core.errors import AlreadyExists
from chatbotctl.core.records.business import Backend, Business
from chatbotctl.core.storage import businesses, knowledge
from chatbotctl.core.storage.engine import Database

NAME = "luna-bakery"
#: A number of the range that is kept free for fiction.
ADDRESS = "whatsapp:+15550001111"


def add_demo(database: Database) -> Business:
    """The demo business, made with its knowledge files if it is not there yet.

    Raises AlreadyExists in an install that has businesses but no demo: a demo among real customers helps nobody.
    """
    with database.write() as tx:
        known = businesses.listed(tx)
        for business in known:
            if business.name == NAME and business.whatsapp_address == ADDRESS:
                return business
        if known:
            raise AlreadyExists(
                f"This install has {len(known)} businesses already: no demo was added.",
                hint="Leave --demo out, or set CHATBOTCTL_HOME to an empty folder for a demo.",
            )
        business = businesses.add(tx, name=NAME, whatsapp_address=ADDRESS, values={"backend": Backend.KNOWLEDGE.value})
        for file in resources.files(__package__).joinpath("demo_files").iterdir():
            knowledge.put(tx, business, file.name, file.read_bytes())
        return business
