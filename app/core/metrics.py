"""What is counted and measured in the web process; `app.site.metrics` serves it to Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_STEP_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)

HTTP_REQUESTS = Counter(
    "xray_http_requests", "Requests answered.", labelnames=("method", "route", "status")
)
HTTP_SECONDS = Histogram(
    "xray_http_request_seconds",
    "Seconds from a request to the end of its response, event streams excepted.",
    labelnames=("method", "route"),
    buckets=_REQUEST_BUCKETS,
)
DECODE_SECONDS = Histogram(
    "xray_decode_seconds", "Seconds to decode an image, waiting included.", buckets=_STEP_BUCKETS
)
INFERENCE_SECONDS = Histogram(
    "xray_inference_seconds", "Seconds to classify an image.", buckets=_STEP_BUCKETS
)
DECODER_QUEUE = Gauge("xray_decoder_queue_length", "Images that wait for a decoder process.")
SCREENINGS = Counter(
    "xray_screenings",
    "Predictions recorded, by decision and by the reason for abstaining (empty where there is"
    " none). The share of out-of-distribution images is that of"
    ' reason="out-of-distribution".',
    labelnames=("decision", "reason"),
)
