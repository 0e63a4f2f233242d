"""The bare loop that `cache rebuild` is compared with: the same hashes, pipelined with redis-py, out of thin air.

`python redis_loop.py REDIS_URL COUNT`. It reads no database, checks nothing and removes nothing.
"""

import sys

import redis

#: Entries per round trip, as the product has it.
BATCH = 1000


def main(url: str, count: int) -> None:
    """Write `count` hashes."""
    with redis.Redis.from_url(url) as client:
        for start in range(1, count + 1, BATCH):
            with client.pipeline(transaction=False) as pipe:
                for number in range(start, min(start + BATCH, count + 1)):
                    sender, receiver = f"whatsapp:+1555{number:07d}", f"whatsapp:+1444{number % 100:07d}"
                    entry = {"from": sender, "to": receiver, "thread_id": f"conv_{number:048x}"}
                    pipe.hset(f"{sender}_{receiver}", mapping=entry)
                pipe.execute()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
