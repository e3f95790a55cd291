//! Which form of `/metrics` a scraper gets: what its `Accept` header likes best of what there is.

/// A form of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Prometheus' own text, which everybody reads.
    Classic,
    OpenMetrics,
    /// The only form with native histograms.
    Protobuf,
}

impl Form {
    /// The content type that it is sent with.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Form::Protobuf => {
                "application/vnd.google.protobuf; \
                 proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The form that is liked best; of two the one that says more. Classic text where none of ours
    /// is named: whoever asks with a browser or with curl wants to read it.
    pub fn negotiated(accept: &str) -> Form {
        let liked = accept.split(',').filter_map(liked).filter(|(_, quality)| *quality > 0.0);
        let best = liked.max_by(|(a, a_quality), (b, b_quality)| {
            a_quality.total_cmp(b_quality).then((*a as u8).cmp(&(*b as u8)))
        });
        best.map_or(Form::Classic, |(form, _)| form)
    }
}

/// The form that one range of the header means, and how much it is liked.
fn liked(range: &str) -> Option<(Form, f64)> {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let parameters: Vec<(String, &str)> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"')))
        .collect();
    let given = |key: &str| parameters.iter().find(|(k, _)| k == key).map(|(_, value)| *value);
    let form = match kind.as_str() {
        "application/vnd.google.protobuf" => {
            let message = given("proto") == Some("io.prometheus.client.MetricFamily");
            (message && given("encoding") == Some("delimited")).then_some(Form::Protobuf)
        }
        "application/openmetrics-text" => {
            given("version").is_none_or(|version| version == "1.0.0").then_some(Form::OpenMetrics)
        }
        "text/plain" => {
            given("version").is_none_or(|version| version == "0.0.4").then_some(Form::Classic)
        }
        "text/*" | "*/*" => Some(Form::Classic),
        _ => None,
    }?;
    // A quality that is no number is no reason to send nothing.
    Some((form, given("q").and_then(|q| q.parse().ok()).unwrap_or(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOBUF: &str = "application/vnd.google.protobuf;\
        proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn prometheus_gets_the_best_it_asks_for() {
        let rest = "application/openmetrics-text;version=0.0.1;q=0.75,\
                    text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let texts = format!("application/openmetrics-text;version=1.0.0,{rest}");
        assert_eq!(Form::negotiated(&texts), Form::OpenMetrics);
        let native = format!("{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,{rest}");
        assert_eq!(Form::negotiated(&native), Form::Protobuf);
        let third = format!(
            "{PROTOBUF};escaping=allow-utf-8;q=0.6, text/plain;version=1.0.0;q=0.5, */*;q=0.2"
        );
        assert_eq!(Form::negotiated(&third), Form::Protobuf);
    }

    #[test]
    fn people_get_the_classic_text() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for accept in ["", "*/*", "text/*", "text/plain", browser, "image/png", ";;,=", "*/*;q=x"] {
            assert_eq!(Form::negotiated(accept), Form::Classic, "{accept}");
        }
    }

    #[test]
    fn what_is_liked_less_or_meant_otherwise_is_not_sent() {
        let less = format!("{PROTOBUF};q=0.2, Text/Plain; Version=\"0.0.4\"; Q=0.3");
        let never = format!("{PROTOBUF};q=0, application/openmetrics-text;q=0.1");
        let other = "application/vnd.google.protobuf;encoding=text, text/plain;q=0.1";
        assert_eq!(Form::negotiated(&less), Form::Classic);
        assert_eq!(Form::negotiated(&never), Form::OpenMetrics);
        assert_eq!(Form::negotiated(other), Form::Classic);
        let draft = "application/openmetrics-text;version=0.0.1";
        assert_eq!(Form::negotiated(draft), Form::Classic);
    }
}
