//! The HTTP requests of handlers in the format of Prometheus. Counts of this host, since it started.

use super::{Labels, head, sample};
use crate::bus::requests::{CLASSES, Requests, SECONDS};

const ENDED: &str = "fishway_outgoing_requests_total";
const RETRIES: &str = "fishway_outgoing_request_retries_total";
const IN_PROGRESS: &str = "fishway_outgoing_requests_in_progress";
const DURATION: &str = "fishway_outgoing_request_duration_seconds";

/// As text.
pub fn requests(requests: &Requests) -> String {
    let mut text = String::new();
    let all = requests.counts();
    let pair = |handler: &str, host: &str, more: &[(&str, &str)]| -> Labels {
        let own = [("handler", handler), ("host", host)];
        let labels = own.iter().chain(more);
        labels
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let about = "HTTP requests of handlers that have ended, by the class of the status.";
    head(&mut text, ENDED, "counter", about);
    for ((handler, host), counts) in &all {
        for (class, count) in CLASSES.iter().zip(counts.ended) {
            let labels = pair(handler, host, &[("class", class)]);
            sample(&mut text, ENDED, &labels, count as f64);
        }
    }
    let about = "HTTP requests of handlers that were sent again as their grant says.";
    head(&mut text, RETRIES, "counter", about);
    for ((handler, host), counts) in &all {
        let labels = pair(handler, host, &[]);
        sample(&mut text, RETRIES, &labels, counts.retries as f64);
    }
    let about = "HTTP requests of handlers whose response has not come to its end.";
    head(&mut text, IN_PROGRESS, "gauge", about);
    let count = requests.in_progress() as f64;
    sample(&mut text, IN_PROGRESS, &Labels::new(), count);
    let about = "Time from the send of an HTTP request of a handler to the end of its response.";
    head(&mut text, DURATION, "histogram", about);
    for ((handler, host), counts) in &all {
        let bounds = SECONDS.iter().map(ToString::to_string);
        let bounds = bounds.chain(["+Inf".to_owned()]);
        let mut count = 0;
        for (le, bucket) in bounds.zip(counts.buckets) {
            count += bucket;
            let labels = pair(handler, host, &[("le", &le)]);
            sample(
                &mut text,
                &format!("{DURATION}_bucket"),
                &labels,
                count as f64,
            );
        }
        let labels = pair(handler, host, &[]);
        sample(
            &mut text,
            &format!("{DURATION}_sum"),
            &labels,
            counts.seconds,
        );
        sample(
            &mut text,
            &format!("{DURATION}_count"),
            &labels,
            count as f64,
        );
    }
    text
}
