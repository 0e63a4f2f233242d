"""Posts what Slack is owed: in order per channel, at Slack's pace, patiently. Off the customer's path altogether.

The first post of a conversation makes its place (a channel, or a Slack thread in the business's channel). A post that
Slack refuses for good is a dead letter; everything else is kept until Slack takes it.
"""

from __future__ import annotations
