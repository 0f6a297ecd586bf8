//! Mails per second through the pure half of the email channel, beside the parser alone on the same mails.

use std::hint::black_box;
use std::time::Instant;

use mail_parser::MessageParser;

/// How many different mails there are.
const DIFFERENT: usize = 500;

/// A mixed post: plain and quoted, in HTML, with a picture, with a large file, an auto-reply, a bounce.
fn post() -> Vec<Vec<u8>> {
    (0..DIFFERENT).map(mail).collect()
}

fn head(n: usize, more: &str) -> String {
    format!(
        "Return-Path: <somebody{n}@customer.example>\r\nAuthentication-Results: mx.shop.example; dkim=pass header.d=customer.example; dmarc=pass header.from=customer.example\r\n\
         Received: from mail.customer.example by mx.shop.example; Mon, 2 Nov 2026 10:00:00 +0000\r\nFrom: =?utf-8?q?S=C3=B6mebody?= {n} <somebody{n}@customer.example>\r\n\
         To: Shop <support@shop.example>\r\nSubject: Re: order {n}\r\nMessage-ID: <mail{n}@customer.example>\r\n\
         In-Reply-To: <earlier{n}@customer.example>\r\nReferences: <first{n}@customer.example> <earlier{n}@customer.example>\r\n\
         Date: Mon, 2 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n{more}"
    )
}

fn mail(n: usize) -> Vec<u8> {
    let said = format!("Good morning, my order {n} has not come. What can I do?\r\n").repeat(1 + n % 7);
    let quoted =
        "On Mon, 2 Nov 2026 at 09:00, Shop <support@shop.example> wrote:\r\n> Good morning,\r\n> it is on its way.\r\n";
    let plain = "Content-Type: text/plain; charset=utf-8\r\n";
    let file = "QmljeWNsZXMgdGhhdCBhcmUgc3RpbGwgZ29vZCBpbiB0ZW4geWVhcnMuIEFzayB1cyE=\r\n";
    let text = match n % 6 {
        0 => format!("{}{plain}\r\n{said}", head(n, "")),
        1 => format!("{}{plain}\r\n{said}\r\n{quoted}", head(n, "")),
        2 => format!(
            "{}Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n{plain}\r\n{said}\r\n--b\r\n\
             Content-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>{said}</p><blockquote type=cite><p>it is on its way</p></blockquote></body></html>\r\n--b--\r\n",
            head(n, "")
        ),
        3 => format!(
            "{}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{plain}\r\n{said}\r\n--b\r\nContent-Type: image/png; name=a.png\r\n\
             Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=a.png\r\n\r\n{}--b--\r\n",
            head(n, ""),
            file.repeat(if n % 60 == 3 { 15_000 } else { 300 })
        ),
        4 => format!("{}{plain}\r\nI am away until Monday.\r\n", head(n, "Auto-Submitted: auto-replied\r\n")),
        _ => format!(
            "{}Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n{plain}\r\nIt did not arrive.\r\n--b\r\n\
             Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.customer.example\r\n\r\nFinal-Recipient: rfc822; somebody{n}@customer.example\r\n\
             Action: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n",
            head(n, "")
        ),
    };
    text.into_bytes()
}

/// Reads the post a few times over, both ways.
pub fn run(quick: bool) {
    let post = post();
    let bytes: usize = post.iter().map(Vec::len).sum();
    let times = if quick { 1 } else { 20 };
    let measure = |read: &dyn Fn(&[u8])| {
        let start = Instant::now();
        for _ in 0..times {
            post.iter().for_each(|mail| read(mail));
        }
        (times * post.len()) as f64 / start.elapsed().as_secs_f64()
    };
    let alone = measure(&|mail| drop(black_box(MessageParser::default().parse(mail))));
    let whole = measure(&|mail| drop(black_box(channel_email::fuzzing::envelopes(mail))));
    println!(
        "mails of {} bytes in the mean: {whole:.0} a second to envelopes on one core, {alone:.0} through the parser alone, {:.2} of it",
        bytes / post.len(),
        whole / alone
    );
}
