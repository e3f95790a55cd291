//! Pages for those who take them packed. Pure.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

/// Whether an `Accept-Encoding` takes gzip (RFC 9110, 12.5.3).
pub fn is_taken(accepted: &str) -> bool {
    let quality = |coding: &str| {
        let wanted = accepted.split(',').find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let named = parts.next()?.eq_ignore_ascii_case(coding);
            let mut weights = parts.filter_map(|part| part.strip_prefix("q="));
            named.then(|| weights.next().map_or(1.0, |q| q.parse().unwrap_or(0.0)))
        });
        wanted.map(|quality: f64| quality > 0.0)
    };
    quality("gzip").or_else(|| quality("*")).unwrap_or(false)
}

/// The page, packed: the fastest level, which is enough for text that says the same again and
/// again.
pub fn pack(page: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(page).expect("memory takes every byte");
    packed.finish().expect("memory takes every byte")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_named_and_not_refused() {
        for yes in ["gzip", "deflate, gzip;q=0.5", "GZIP", "*", "br, *;q=0.1", "gzip;q=1.0"] {
            assert!(is_taken(yes), "{yes}");
        }
        for no in ["", "identity", "gzip;q=0", "*, gzip;q=0", "br", "gzip;q=x", "x-gzip"] {
            assert!(!is_taken(no), "{no}");
        }
    }

    #[test]
    fn what_is_packed_is_there_again() {
        let page = "ringway_backend_state{pool=\"web\"} 1\n".repeat(10_000);
        let packed = pack(page.as_bytes());
        assert!(packed.len() < page.len() / 20, "{} of {} bytes", packed.len(), page.len());
        let mut again = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut again).unwrap();
        assert_eq!(again, page);
    }
}
