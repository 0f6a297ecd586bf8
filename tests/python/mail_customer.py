#!/usr/bin/env python3
"""A customer's mail program, with nothing but Python's own library. Prints JSON.

    mail_customer.py send --to support@shop.example --subject Lamp --text "It does not light."
    mail_customer.py read
    mail_customer.py reply --to-id '<id of a mail in the mailbox>' --text "It does now."
    mail_customer.py threads

The mailbox is told by the environment: MAIL_HOST, MAIL_SMTP_PORT (STARTTLS), MAIL_IMAP_PORT (TLS),
MAIL_MX_PORT (no login), MAIL_CA, MAIL_USER, MAIL_PASSWORD.
"""

import argparse
import email
import email.policy
import imaplib
import json
import os
import re
import smtplib
import ssl
import sys
import time
from email.message import EmailMessage
from email.utils import format_datetime, localtime, make_msgid, parseaddr
from pathlib import Path

TIMEOUT_S = 20
ENV = os.environ


def tls():
    return ssl.create_default_context(cafile=ENV["MAIL_CA"])


def mailbox(folder="INBOX", readonly=True):
    connection = imaplib.IMAP4_SSL(
        ENV["MAIL_HOST"], int(ENV["MAIL_IMAP_PORT"]), ssl_context=tls(), timeout=TIMEOUT_S
    )
    connection.login(ENV["MAIL_USER"], ENV["MAIL_PASSWORD"])
    status, answer = connection.select(folder, readonly=readonly)
    if status != "OK":
        raise SystemExit(f"{folder}: {answer}")
    return connection


def transmit(message, sender, recipients, mx):
    """Hands a mail over; says per recipient what was refused."""
    port = int(ENV["MAIL_MX_PORT" if mx else "MAIL_SMTP_PORT"])
    with smtplib.SMTP(ENV["MAIL_HOST"], port, timeout=TIMEOUT_S) as smtp:
        smtp.starttls(context=tls())
        if not mx:
            smtp.login(ENV["MAIL_USER"], ENV["MAIL_PASSWORD"])
        try:
            refused = smtp.send_message(message, from_addr=sender, to_addrs=recipients)
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
        except smtplib.SMTPResponseException as error:
            refused = {"": (error.smtp_code, error.smtp_error)}
    return {
        address: {"code": code, "text": text.decode(errors="replace")}
        for address, (code, text) in refused.items()
    }


def compose(options, to, subject, in_reply_to=None, references=None):
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = options.sender or ENV["MAIL_USER"]
    message["To"] = to
    if options.cc:
        message["Cc"] = options.cc
    if subject is not None:
        message["Subject"] = subject
    message["Date"] = options.date or format_datetime(localtime())
    if options.message_id != "":
        domain = parseaddr(ENV["MAIL_USER"])[1].rpartition("@")[2]
        message["Message-ID"] = options.message_id or make_msgid(domain=domain)
    for name, value in (
        ("Reply-To", options.reply_to),
        ("In-Reply-To", in_reply_to),
        ("References", references),
    ):
        if value:
            message[name] = value
    for header in options.header:
        name, _, value = header.partition(":")
        message[name.strip()] = value.strip()
    return message


def fill(message, options, text):
    message.set_content(text)
    if options.html:
        message.add_alternative(options.html, subtype="html")
    for path in options.attach:
        kind, _, subtype = (options.attach_type or "application/octet-stream").partition("/")
        content = Path(path).read_bytes()
        message.add_attachment(content, maintype=kind, subtype=subtype, filename=Path(path).name)


def deliver(message, options, recipients):
    if options.copy:
        recipients = [*recipients, ENV["MAIL_USER"]]
    envelope_from = ENV["MAIL_USER"] if options.envelope_from is None else options.envelope_from
    refused = transmit(message, envelope_from, recipients, options.mx)
    return {"message_id": message["Message-ID"], "subject": message["Subject"], "refused": refused}


def addresses(*fields):
    return [address for field in fields if field for _, address in email.utils.getaddresses([field])]


def send(options):
    message = compose(options, options.to, options.subject, options.in_reply_to, options.references)
    fill(message, options, options.text)
    return deliver(message, options, addresses(options.to, options.cc))


def fetch(connection):
    """Every mail of the selected folder: uid, flags, parsed."""
    _, found = connection.uid("SEARCH", None, "ALL")
    uids = found[0].split()
    if not uids:
        return
    _, answer = connection.uid("FETCH", b",".join(uids), "(UID FLAGS BODY.PEEK[])")
    for item in answer:
        if isinstance(item, tuple):
            uid = int(re.search(rb"UID (\d+)", item[0]).group(1))
            flags = re.search(rb"FLAGS \(([^)]*)\)", item[0]).group(1).decode().split()
            yield uid, flags, email.message_from_bytes(item[1], policy=email.policy.default)


def body(message, kind):
    part = message.get_body(preferencelist=(kind,))
    return part.get_content() if part else None


def describe(uid, flags, message):
    header = lambda name: None if message[name] is None else str(message[name])
    return {
        "uid": uid,
        "flags": flags,
        "message_id": header("Message-ID"),
        "from": header("From"),
        "to": header("To"),
        "reply_to": header("Reply-To"),
        "subject": header("Subject"),
        "in_reply_to": header("In-Reply-To"),
        "references": (header("References") or "").split(),
        "auto_submitted": header("Auto-Submitted"),
        "authentication_results": message.get_all("Authentication-Results", []),
        "text": body(message, "plain"),
        "html": body(message, "html"),
        "attachments": [
            {"name": part.get_filename(), "type": part.get_content_type(), "bytes": len(part.get_content())}
            for part in message.iter_attachments()
        ],
    }


def read(options):
    connection = mailbox(options.folder, readonly=not options.seen)
    mails = [describe(*mail) for mail in fetch(connection)]
    if options.seen and mails:
        connection.uid("STORE", "1:*", "+FLAGS", "(\\Seen)")
    connection.logout()
    return mails


def find(message_id):
    connection = mailbox()
    found = next((mail for _, _, mail in fetch(connection) if mail["Message-ID"] == message_id), None)
    connection.logout()
    if found is None:
        raise SystemExit(f"no mail {message_id} here")
    return found


def answer(options, original, text):
    """A reply as mail programs write it."""
    to = str(original["Reply-To"] or original["From"])
    subject = str(original["Subject"] or "")
    subject = subject if subject.lower().startswith("re:") else f"Re: {subject}"
    known = (original["References"] or original["In-Reply-To"] or "").split()
    references = " ".join([*known, original["Message-ID"]])
    bare = options.bare
    message = compose(
        options, to, subject, None if bare else original["Message-ID"], None if bare else references
    )
    quoted = "".join(f"> {line}\n" for line in (body(original, "plain") or "").splitlines())
    fill(message, options, f"{text}\n\nOn {original['Date']}, {original['From']} wrote:\n{quoted}")
    return deliver(message, options, addresses(to))


def reply(options):
    return answer(options, find(options.to_id), options.text)


def threads(_options):
    """The mails of the mailbox by thread, as the IMAP server puts them together (RFC 5256)."""
    connection = mailbox()
    ids = {uid: mail["Message-ID"] for uid, _, mail in fetch(connection)}
    _, found = connection.uid("THREAD", "REFERENCES", "UTF-8", "ALL")
    connection.logout()
    groups, depth = [], 0
    for token in re.findall(r"\(|\)|\d+", (found[0] or b"").decode()):
        if token == "(":
            if depth == 0:
                groups.append([])
            depth += 1
        elif token == ")":
            depth -= 1
        else:
            groups[-1].append(ids.get(int(token)))
    return groups


def autorespond(options):
    """Answers every mail of others by machine until told to stop or silent for a while."""
    answered, quiet = set(), time.monotonic()
    while len(answered) < options.count and time.monotonic() - quiet < options.seconds:
        connection = mailbox()
        mails = [mail for _, _, mail in fetch(connection)]
        connection.logout()
        new = [mail for mail in mails if mail["Message-ID"] not in answered]
        for mail in new:
            if parseaddr(str(mail["From"]))[1] == ENV["MAIL_USER"]:
                answered.add(mail["Message-ID"])
                continue
            quiet = time.monotonic()
            answered.add(mail["Message-ID"])
            answer(options, mail, options.text)
        if not new:
            time.sleep(0.1)
    return {"answered": len(answered)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    writing = argparse.ArgumentParser(add_help=False)
    writing.add_argument("--text", default="")
    writing.add_argument("--html")
    writing.add_argument("--attach", action="append", default=[], help="a file")
    writing.add_argument("--attach-type")
    writing.add_argument("--from", dest="sender", help="the header only")
    writing.add_argument("--envelope-from")
    writing.add_argument("--cc")
    writing.add_argument("--date")
    writing.add_argument("--reply-to")
    writing.add_argument("--message-id", help="empty: none")
    writing.add_argument("--header", action="append", default=[], help="Name: value")
    writing.add_argument("--copy", action="store_true", help="keep a copy in the own mailbox")
    writing.add_argument("--mx", action="store_true", help="hand over without a login")

    command = commands.add_parser("send", parents=[writing])
    command.add_argument("--to", required=True)
    command.add_argument("--subject")
    command.add_argument("--in-reply-to")
    command.add_argument("--references")
    command.set_defaults(run=send)

    command = commands.add_parser("reply", parents=[writing])
    command.add_argument("--to-id", required=True)
    command.add_argument("--bare", action="store_true", help="without In-Reply-To and References")
    command.set_defaults(run=reply)

    command = commands.add_parser("autorespond", parents=[writing])
    command.add_argument("--count", type=int, default=30, help="stop after so many")
    command.add_argument("--seconds", type=float, default=10, help="stop when so long nothing came")
    command.set_defaults(run=autorespond, bare=False)

    command = commands.add_parser("read")
    command.add_argument("--folder", default="INBOX")
    command.add_argument("--seen", action="store_true", help="mark them as read")
    command.set_defaults(run=read)

    command = commands.add_parser("threads")
    command.set_defaults(run=threads)

    options = parser.parse_args()
    json.dump(options.run(options), sys.stdout)
    print()


main()
