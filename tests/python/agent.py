"""An agent's tool: takes every offer, says hello, and echoes what the customer writes then.  pip install nats-py"""
import asyncio, contextlib, json, os, uuid, nats

URL, USER, PASSWORD = (os.environ[f"THROUGHLINE_{name}"] for name in ("URL", "USER", "PASSWORD"))
AGENT, JSON = os.environ.get("THROUGHLINE_AGENT", "echo"), {"content-type": "application/json"}
HELLO = [{"type": "text", "body": "Hello, this is an echo."}]


async def ask(nc, verb, **args):
    request = json.dumps({"id": str(uuid.uuid4()), "args": args}).encode()
    while True:  # Until it is answered, always with the same id, so that it is done once.
        with contextlib.suppress(nats.errors.TimeoutError, nats.errors.NoRespondersError):
            answer = await nc.request(f"tl.v1.cmd.main.agent.{AGENT}.{verb}", request, timeout=5, headers=JSON)
            reply = json.loads(answer.data)
            if reply["ok"] or reply["refusal"]["kind"] != "unavailable":
                print(verb, reply.get("refusal", "done"), flush=True)
                return reply.get("result")
        await asyncio.sleep(0.25)


async def main():
    nc = await nats.connect(URL, user=USER, password=PASSWORD, inbox_prefix=f"_INBOX_{USER}".encode())
    feed, since = await nc.subscribe(f"tl.v1.agent.main.{AGENT}.>"), None
    await ask(nc, "presence.set", presence="available")
    async for _ in feed.messages:  # A bell: it rings at every event, and every five seconds.
        sync = await ask(nc, "feed.sync", since=since)  # What happened since; this says that we are there, too.
        events = [item["record"]["event"] for item in sync.get("items", [])]
        events += [{"type": "offer.created", "data": offer} for offer in sync.get("snapshot", {}).get("offers", [])]
        for name, data in ((event["type"], event["data"]) for event in events):
            if name == "offer.created":
                await ask(nc, "offer.accept", offer=data["offer"])
            elif name in ("conversation.assigned", "message.received"):
                content = data["envelope"]["content"] if "envelope" in data else HELLO
                await ask(nc, "message.send", conversation=data["conversation"], content=content)
        since = {"seq": sync["head"]}


asyncio.run(main())
