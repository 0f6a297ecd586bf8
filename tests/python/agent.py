"""An agent's tool: takes every offer and echoes what the customer writes.  pip install nats-py"""
import asyncio, json, os, uuid
import nats

TENANT, AGENT = "main", os.environ.get("THROUGHLINE_AGENT", "echo")


async def main():
    user = os.environ["THROUGHLINE_USER"]
    nc = await nats.connect(os.environ["THROUGHLINE_URL"], user=user, password=os.environ["THROUGHLINE_PASSWORD"],
                            inbox_prefix=f"_INBOX_{user}".encode())

    async def ask(verb, **args):
        request = json.dumps({"id": str(uuid.uuid4()), "args": args}).encode()  # One id, however often it is sent.
        while True:
            try:
                reply = await nc.request(f"tl.v1.cmd.{TENANT}.agent.{AGENT}.{verb}", request, timeout=5,
                                         headers={"content-type": "application/json"})
                reply = json.loads(reply.data)
                if reply["ok"] or reply["refusal"]["kind"] != "unavailable":
                    print(verb, reply.get("refusal", "done"), flush=True)
                    return reply.get("result")
            except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
                pass
            await asyncio.sleep(0.25)

    feed, since = await nc.subscribe(f"tl.v1.agent.{TENANT}.{AGENT}.>"), None
    await ask("presence.set", presence="available")
    while True:
        sync = await ask("feed.sync", since=since)
        for offer in sync.get("snapshot", {}).get("offers", []):
            await ask("offer.accept", offer=offer["offer"])
        for event in (item["record"]["event"] for item in sync.get("items", [])):
            if event["type"] == "offer.created":
                await ask("offer.accept", offer=event["data"]["offer"])
            elif event["type"] == "message.received":
                await ask("message.send", conversation=event["data"]["conversation"],
                          content=event["data"]["envelope"]["content"])
        since = {"seq": sync["head"]}
        await ask("feed.ack", **since)
        await feed.next_msg(timeout=None)  # Rings at every item, and every five seconds.


asyncio.run(main())
