use super::*;
use crate::kit;

/// Published with the provider's own libraries.
const TOKEN: &str = "12345";
const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
const BODY: &str = "CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309";
const GOOD: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";

fn judge(url: &str, body: &str, signature: &str, tokens: &[&str]) -> Result<Said, &'static str> {
    let mut request = kit::request(Method::POST, "x", &[(SIGNATURE, signature)], body.as_bytes());
    request.url = url.to_owned();
    request.query = url.split_once('?').map(|(_, query)| query.to_owned());
    let tokens: Vec<SecretString> = tokens.iter().map(|token| SecretString::new(*token)).collect();
    said(&request, &tokens)
}

#[test]
fn the_published_vectors_hold() {
    let Ok(Said::Form(form)) = judge(URL, BODY, GOOD, &[TOKEN]) else { panic!("authentic") };
    assert_eq!(form[2], ("From".to_owned(), "+14158675309".to_owned()));
    // In another order, and a pair twice: sorted and each once.
    let reordered =
        "To=%2B18005551212&Caller=%2B14158675309&Digits=1234&Digits=1234&From=%2B14158675309&CallSid=CA1234567890ABCDE";
    assert!(judge(URL, reordered, GOOD, &[TOKEN]).is_ok());
    let twice = "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234";
    assert!(judge(URL, twice, "IK+Dwps556ElfBT0I3Rgjkr1wJU=", &[TOKEN]).is_ok());
    let hash = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let with_hash = format!("{URL}&bodySHA256={hash}");
    let json = r#"{"property": "value", "boolean": true}"#;
    assert_eq!(judge(&with_hash, json, "a9nBmqA0ju/hNViExpshrM61xv4=", &[TOKEN]), Ok(Said::Other));
    assert_eq!(judge(&with_hash, "{}", "a9nBmqA0ju/hNViExpshrM61xv4=", &[TOKEN]), Err("hash of the body"));
    assert_eq!(judge(&with_hash, json, GOOD, &[TOKEN]), Err("signature"));
}

#[test]
fn ports_that_go_without_saying_may_be_signed_or_not() {
    let fields = [("a".to_owned(), "b".to_owned())];
    let secret = SecretString::new(TOKEN);
    for (signed, ours, holds) in [
        ("https://a.example:443/x?y=1", "https://a.example/x?y=1", true),
        ("https://a.example/x?y=1", "https://a.example:443/x?y=1", true),
        ("http://a.example:80?y", "http://a.example?y", true),
        ("https://u:p@a.example:443/", "https://u:p@a.example/", true),
        ("https://[2001:db8::1]:443/", "https://[2001:db8::1]/", true),
        ("https://a.example:8443/x", "https://a.example:8443/x", true),
        ("https://a.example/x", "https://a.example:8443/x", false),
        ("https://a.example:443/x", "https://a.example:8443/x", false),
        ("http://a.example/x", "https://a.example/x", false),
        ("https://a.example/x", "https://a.example/x?", false),
    ] {
        let signature = signature(signed, &fields, &secret);
        assert_eq!(judge(ours, "a=b", &signature, &[TOKEN]).is_ok(), holds, "{signed} {ours}");
    }
}

#[test]
fn nothing_else_holds() {
    assert!(judge(URL, BODY, GOOD, &["new", TOKEN]).is_ok(), "two tokens while one is changed");
    assert_eq!(judge(URL, BODY, GOOD, &[]), Err("signature"));
    assert_eq!(judge(URL, BODY, GOOD, &[""]), Err("signature"));
    assert_eq!(judge(URL, BODY, GOOD, &["54321"]), Err("signature"));
    assert_eq!(judge(URL, &BODY.replace("1234&From", "1235&From"), GOOD, &[TOKEN]), Err("signature"));
    assert_eq!(judge(URL, &format!("{BODY}&More=1"), GOOD, &[TOKEN]), Err("signature"));
    assert_eq!(judge(&URL.replace("bar=2", "bar=3"), BODY, GOOD, &[TOKEN]), Err("signature"));
    assert_eq!(judge(URL, "a=%zz", GOOD, &[TOKEN]), Err("not a form"));
    assert_eq!(judge(URL, &"a&".repeat(FIELDS_MAX + 1), GOOD, &[TOKEN]), Err("not a form"));
    let mut request = kit::request(Method::POST, "x", &[], BODY.as_bytes());
    assert_eq!(said(&request, &[SecretString::new(TOKEN)]), Err("no signature"));
    // Who signs sends one.
    request.headers.append(SIGNATURE, GOOD.parse().unwrap());
    request.headers.append(SIGNATURE, GOOD.parse().unwrap());
    assert_eq!(said(&request, &[SecretString::new(TOKEN)]), Err("no signature"));
}
