//! Watches the heads of requests go by: one that says the length of its body in two ways can be
//! read in two ways, and hyper hides that from whoever answers it. Pure.

/// Bytes of a line that are looked at: a name and a number fit.
const LINE_MAX: usize = 64;

/// Where in its requests a connection is.
#[derive(Debug, Default)]
pub struct Framing {
    at: At,
    line: Vec<u8>,
    /// True exactly when the head has had a line that was not empty.
    begun: bool,
    length: Option<u64>,
    is_chunked: bool,
    is_ambiguous: bool,
}

#[derive(Debug, Default)]
enum At {
    #[default]
    Head,
    /// So many bytes of it are to come.
    Body(u64),
    /// Nothing that follows is another request: a chunked one is the last of its connection.
    Last,
}

impl Framing {
    /// True exactly when a request had a `Content-Length` and a `Transfer-Encoding`.
    pub fn is_ambiguous(&self) -> bool {
        self.is_ambiguous
    }

    /// Takes the next bytes in.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.at {
                At::Last => return,
                At::Body(left) => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= skipped as u64;
                    bytes = &bytes[skipped..];
                    if *left == 0 {
                        self.at = At::Head;
                    }
                }
                At::Head => {
                    bytes = rest;
                    match first {
                        b'\n' => self.end_of_line(),
                        byte if self.line.len() < LINE_MAX => self.line.push(*byte),
                        _ => {}
                    }
                }
            }
        }
    }

    fn end_of_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii();
        if line.is_empty() {
            if self.begun {
                self.end_of_head();
            }
            return;
        }
        self.begun = true;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let number = str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            self.length = Some(number.unwrap_or(0));
        }
        self.is_chunked |= name.eq_ignore_ascii_case(b"transfer-encoding");
    }

    fn end_of_head(&mut self) {
        let (length, is_chunked) = (self.length.take(), std::mem::take(&mut self.is_chunked));
        self.begun = false;
        self.is_ambiguous |= length.is_some() && is_chunked;
        self.at = match (is_chunked, length) {
            (true, _) => At::Last,
            (false, Some(length)) if length > 0 => At::Body(length),
            (false, _) => At::Head,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_ambiguous(text: &str, step: usize) -> bool {
        let mut framing = Framing::default();
        text.as_bytes().chunks(step).for_each(|chunk| framing.read(chunk));
        framing.is_ambiguous()
    }

    #[test]
    fn two_lengths_in_one_head_are_seen_however_they_come() {
        let both = "PATCH /x HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        let other = "PATCH /x HTTP/1.1\nTRANSFER-ENCODING: chunked\ncontent-length:3\n\n";
        let later = format!(
            "\r\nGET / HTTP/1.1\r\n\r\nPUT / HTTP/1.1\r\n\
                             content-length: 2\r\n\r\n{{}}{both}"
        );
        for (text, step) in
            [both, other, &later].into_iter().flat_map(|t| [1, 7, 1000].map(|step| (t, step)))
        {
            assert!(is_ambiguous(text, step), "{text:?} by {step}");
        }
    }

    #[test]
    fn one_length_is_fine_and_a_body_is_no_head() {
        let name = "transfer-encoding: chunked\r\n\r\n";
        let in_body = format!("PATCH / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        let chunked = "PATCH / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                       13\r\ncontent-length: 5\r\n\r\n0\r\n\r\n";
        let apart = "PATCH / HTTP/1.1\r\ncontent-length: 0\r\n\r\nPATCH / HTTP/1.1\r\n\
                     transfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        let long = format!("GET /{} HTTP/1.1\r\ncontent-length: 2\r\n\r\n{{}}", "x".repeat(9999));
        for text in [&in_body, chunked, apart, &long] {
            assert!([1, 7, 1000].iter().all(|step| !is_ambiguous(text, *step)), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_changes_nothing(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "GET / HTTP/1.1\r\n", "content-length: 3\r\n", "Content-Length:0\n",
                "transfer-encoding: chunked\r\n", "\r\n", "\n", "abc", "x: y\r\n", ":", "\0",
            ]), 0..12),
            step in 1_usize..9,
        ) {
            let text = pieces.concat();
            prop_assert_eq!(is_ambiguous(&text, step), is_ambiguous(&text, text.len().max(1)));
        }
    }
}
