"""The configuration: one typed model, every default of which works against a Kafka on localhost:9092.

`streamer.config.load` fills it from bearwire.yaml, the environment and flags. Durations are seconds, written
as a number or as `30s`, `15m`, `1h30m`, `7d`. The descriptions here are the reference manual.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from streamer.config.privacy_settings import PrivacySettings
from streamer.config.secret import Secret
from streamer.config.sink_settings import SinksSettings
from streamer.config.types import Duration, FilePath, Names, Section, TopicName
from streamer.core.documents import DocumentLimits

Retention = Annotated[float, Meta(gt=0, description="How long records are kept, in hours.")]
Partitions = Annotated[int, Meta(ge=1, le=10_000, description="Partitions when the topic is created.")]


class KafkaSettings(Section, frozen=True, kw_only=True):
    """How to reach Kafka."""

    bootstrap_servers: Annotated[str, Meta(min_length=1, description="Brokers, `host:port`, comma separated.")] = (
        "localhost:9092"
    )
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Meta(description="Encryption (SSL) and authentication (SASL) of the connection."),
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"],
        Meta(description="How the client proves who it is, with a SASL protocol."),
    ] = "PLAIN"
    sasl_username: Annotated[str | None, Meta(description="User of PLAIN and SCRAM.")] = None
    sasl_password: Annotated[
        Secret | None, Meta(description="Its password; better in the environment or in `sasl_password_file`.")
    ] = None
    sasl_password_file: Annotated[
        FilePath | None, Meta(description="A file that holds the password; the last line end does not count.")
    ] = None
    sasl_token_file: Annotated[
        FilePath | None,
        Meta(description="OAUTHBEARER: a file that holds the token, read anew at every login so that it may rotate."),
    ] = None
    ssl_cafile: Annotated[
        FilePath | None, Meta(description="Certificates (PEM) to trust; the system's own where not given.")
    ] = None
    ssl_certfile: Annotated[FilePath | None, Meta(description="This client's certificate (PEM), for mutual TLS.")] = (
        None
    )
    ssl_keyfile: Annotated[FilePath | None, Meta(description="The private key of `ssl_certfile` (PEM).")] = None
    ssl_key_password: Annotated[Secret | None, Meta(description="Password of `ssl_keyfile`, if it has one.")] = None
    ssl_key_password_file: Annotated[FilePath | None, Meta(description="A file that holds that password.")] = None
    ssl_check_hostname: Annotated[
        bool, Meta(description="Whether the broker's certificate must carry the name it was reached by.")
    ] = True
    client_id: Annotated[str, Meta(min_length=1, description="Name of this client in the broker's logs.")] = "bearwire"
    group_prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._-]{1,200}$",
            description="Consumer groups, transactional ids and the changelog of the watchers begin with it. Two "
            "deployments on one cluster need two of them, and other names for all topics but that of the documents, "
            "`topics.digests.name` included.",
        ),
    ] = "bearwire"
    request_timeout_seconds: Annotated[
        Duration, Meta(gt=0, description="How long a broker may take to answer one request.")
    ] = 40.0


class TopicSettings(Section, frozen=True, kw_only=True):
    """One Kafka topic."""

    name: Annotated[TopicName, Meta(description="Its name in Kafka.")]
    partitions: Partitions = 1
    retention_hours: Retention = 168.0


class ScoresTopicSettings(Section, frozen=True, kw_only=True):
    """One scored document per document."""

    name: Annotated[TopicName, Meta(description="Its name in Kafka.")] = "bearwire.scores"
    partitions: Partitions = 8
    retention_hours: Retention = 720.0
    enabled: Annotated[bool, Meta(description="Whether scored documents are published at all.")] = True


class DigestsTopicSettings(Section, frozen=True, kw_only=True):
    """Internal: condensed scored documents on their way to the watchers, one partition per book."""

    name: Annotated[TopicName, Meta(description="Its name in Kafka.")] = "bearwire.digests"
    partitions: Annotated[
        int, Meta(ge=0, le=10_000, description="Partitions when the topic is created; 0 means one per book.")
    ] = 0
    retention_hours: Retention = 168.0


class TopicsSettings(Section, frozen=True, kw_only=True):
    """The topics, and how they are created when they do not exist."""

    documents: Annotated[TopicSettings, Meta(description="Input: the texts, written by others.")] = TopicSettings(
        name="bearwire.documents", partitions=8
    )
    scores: Annotated[ScoresTopicSettings, Meta(description="Output: one scored document per document.")] = (
        ScoresTopicSettings()
    )
    digests: Annotated[DigestsTopicSettings, Meta(description="Internal: what the watchers read.")] = (
        DigestsTopicSettings()
    )
    windows: Annotated[TopicSettings, Meta(description="Output: closed panes and their windows.")] = TopicSettings(
        name="bearwire.windows", retention_hours=2160.0
    )
    alerts: Annotated[TopicSettings, Meta(description="Output: every change of an alert.")] = TopicSettings(
        name="bearwire.alerts", retention_hours=8760.0
    )
    notifications: Annotated[
        TopicSettings, Meta(description="Output: what is to be told to whom about a group of alerts.")
    ] = TopicSettings(name="bearwire.notifications", retention_hours=8760.0)
    silences: Annotated[
        TopicSettings, Meta(description="Silences, as people ask for them and as each book took them in.")
    ] = TopicSettings(name="bearwire.silences", retention_hours=17_520.0)
    dead_letters: Annotated[TopicSettings, Meta(description="Output: messages that are no documents.")] = TopicSettings(
        name="bearwire.dead-letters", retention_hours=720.0
    )
    late: Annotated[TopicSettings, Meta(description="Output: scored documents that came too late.")] = TopicSettings(
        name="bearwire.late", retention_hours=720.0
    )
    replication_factor: Annotated[
        int,
        Meta(ge=0, le=100, description="Copies of each created topic; 0 means three, or one per broker if fewer."),
    ] = 0


class ModelRoute(Section, frozen=True, kw_only=True):
    """A model of its own for some languages."""

    languages: Annotated[Names, Meta(min_length=1, description="Language tags, such as `zh` or `de`.")]
    bundle: Annotated[FilePath, Meta(description="The directory of the bundle that reads them.")]


class ModelSettings(Section, frozen=True, kw_only=True):
    """The model and what it runs on."""

    bundle: Annotated[
        FilePath, Meta(description="The bundle's directory; `default` is the one that comes with Bearwire.")
    ] = "default"
    provider: Annotated[
        Literal["cpu", "cuda", "tensorrt"],
        Meta(description="Hardware to run on. A GPU that is asked for and not there is an error."),
    ] = "cpu"
    threads: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="Runs of the models that go on at once: on a CPU threads, tokenising included, and 0 takes "
            "every core; on a GPU streams, and 0 takes two.",
        ),
    ] = 0
    max_batch_tokens: Annotated[
        int, Meta(ge=64, le=4_194_304, description="Padded tokens in one batch: longest text times texts.")
    ] = 1024
    cache_entries: Annotated[
        int, Meta(ge=0, le=100_000_000, description="Texts whose scores are remembered; 0 switches it off.")
    ] = 65_536
    long_texts: Annotated[
        Literal["truncate", "chunks"],
        Meta(description="Judge a long text by its beginning, or score it in overlapping chunks and combine them."),
    ] = "truncate"
    routes: Annotated[
        tuple[ModelRoute, ...], Meta(description="Models for some languages, beside `bundle` for all others.")
    ] = ()
    other_languages: Annotated[
        Literal["default", "dead_letter", "skip"],
        Meta(
            description="What becomes of a text in a language that no bundle is made for: with `default` the model in "
            "`bundle` reads it anyway, with `dead_letter` it becomes a dead letter, with `skip` it is only counted."
        ),
    ] = "default"
    detect_language: Annotated[
        bool,
        Meta(
            description="Tell the language of a document without `lang` by its text, where it matters; "
            "needs the extra `languages`."
        ),
    ] = True
    shadow: Annotated[
        FilePath | None,
        Meta(description="A candidate bundle that scores the same texts; only how far it agrees is published."),
    ] = None


class TimeSettings(Section, frozen=True, kw_only=True):
    """Event time."""

    pane_seconds: Annotated[Duration, Meta(ge=1, description="Length of a pane; windows are whole panes.")] = 60.0
    allowed_lateness_seconds: Annotated[
        Duration, Meta(ge=0, description="How far behind the newest document of its partition a document may be.")
    ] = 300.0
    idle_timeout_seconds: Annotated[
        Duration, Meta(gt=0, description="After this long without a record a partition no longer holds time back.")
    ] = 30.0
    future_tolerance_seconds: Annotated[
        Duration, Meta(ge=0, description="How far `published_at` may be ahead of the Kafka record's own time.")
    ] = 300.0

    @property
    def pane_ms(self) -> int:
        """Length of a pane in milliseconds."""
        return milliseconds(self.pane_seconds)

    @property
    def allowed_lateness_ms(self) -> int:
        """Allowed lateness in milliseconds."""
        return milliseconds(self.allowed_lateness_seconds)

    @property
    def idle_timeout_ms(self) -> int:
        """Idle timeout in milliseconds."""
        return milliseconds(self.idle_timeout_seconds)

    @property
    def future_tolerance_ms(self) -> int:
        """Future tolerance in milliseconds."""
        return milliseconds(self.future_tolerance_seconds)


class NoveltySettings(Section, frozen=True, kw_only=True):
    """When two documents tell one story."""

    horizon_hours: Annotated[
        float, Meta(gt=0, le=720, description="How far back copies are looked for, or up to a 24th further.")
    ] = 24.0
    similarity: Annotated[
        float, Meta(gt=0, le=1, description="Share of words and word pairs (Jaccard) from which a text is a copy.")
    ] = 0.5

    @property
    def horizon_ms(self) -> int:
        """The horizon in milliseconds."""
        return milliseconds(self.horizon_hours * 3600)


class LimitSettings(Section, frozen=True, kw_only=True):
    """What a document may not exceed; beyond it lies the dead letter."""

    max_message_bytes: Annotated[int, Meta(ge=1024, le=1 << 30, description="Bytes of a whole message.")] = 1_000_000
    max_text_bytes: Annotated[int, Meta(ge=16, le=1 << 30, description="Bytes of title and text together.")] = 200_000
    max_depth: Annotated[int, Meta(ge=2, le=512, description="Levels of nested objects and arrays.")] = 32
    max_symbols: Annotated[int, Meta(ge=0, le=10_000, description="Symbols of one document.")] = 64


class SelectSettings(Section, frozen=True, kw_only=True):
    """Which documents a book holds: those that match every list that is not empty."""

    topics: Annotated[Names, Meta(description="Topic labels of the model.")] = ()
    symbols: Annotated[Names, Meta(description="Tickers; one match is enough.")] = ()
    sources: Annotated[Names, Meta(description="Sources, as the documents name them.")] = ()
    languages: Annotated[Names, Meta(description="Language codes; `en` also admits `en-GB` and `eng`.")] = ()


class BookSettings(Section, frozen=True, kw_only=True):
    """What one desk watches."""

    name: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Its name, unique among the books.")
    ] = "main"
    select: Annotated[SelectSettings, Meta(description="Which documents it holds; empty lists hold all.")] = (
        SelectSettings()
    )
    windows: Annotated[
        tuple[Annotated[Duration, Meta(gt=0)], ...],
        Meta(min_length=1, max_length=16, description="Lengths of its sliding windows, whole panes."),
    ] = (900.0, 3600.0, 86_400.0)
    company_topics: Annotated[bool, Meta(description="Whether each company is also followed per topic.")] = False
    companies: Annotated[Names, Meta(description="Tickers to follow; empty follows every one that is seen.")] = ()
    sectors: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^|]*$")], Names],
        Meta(
            description="Sector to the tickers in it. A sector is a series of all texts about any of them, whether "
            "or not `companies` lists them; a new company leans on its sector, and its alerts carry the label `sector`."
        ),
    ] = field(default_factory=dict)
    max_series: Annotated[
        int,
        Meta(
            ge=100,
            le=1_048_576,
            description="Series at once; beyond it new tickers are not followed until others are forgotten.",
        ),
    ] = 200_000
    source_weights: Annotated[
        dict[str, Annotated[float, Meta(gt=0, le=1000)]],
        Meta(description="Source to the factor by which its documents weigh in shares and means; 1 where not named."),
    ] = field(default_factory=dict)
    rules: Annotated[
        dict[str, Any] | FilePath | None,
        Meta(description="Alert rules: a mapping, or the path of a YAML file; the default rules where not given."),
    ] = None

    @property
    def windows_ms(self) -> tuple[int, ...]:
        """Window lengths in milliseconds, ascending."""
        return tuple(sorted(milliseconds(window) for window in self.windows))

    @property
    def sector_of(self) -> dict[str, str]:
        """Ticker to sector, in order of ticker."""
        return dict(sorted((symbol, sector) for sector, symbols in self.sectors.items() for symbol in symbols))


class WebSettings(Section, frozen=True, kw_only=True):
    """The page, health and metrics of a worker."""

    enabled: Annotated[bool, Meta(description="Whether the worker serves them.")] = True
    host: Annotated[str, Meta(min_length=1, description="Address to listen on; 0.0.0.0 is every interface.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")] = 8080
    names: Annotated[
        Names,
        Meta(
            description="Host names that people reach the page by, beside `localhost` and `host`, for example through "
            "a proxy. Requests under other names change nothing, and do not read the page either, but for addresses "
            "and names without a dot where `host` is not loopback."
        ),
    ] = ()
    silences: Annotated[
        bool,
        Meta(
            description="Whether silences may be made and ended on the page. On a loopback address everyone on the "
            "machine may; on any other, and under `names`, only who knows the token."
        ),
    ] = True
    token: Annotated[
        Secret | None,
        Meta(description="What a request that changes silences must show, 16 characters at least; better in the file."),
    ] = None
    token_file: Annotated[
        FilePath | None, Meta(description="A file that holds the token instead; it may be replaced at any time.")
    ] = None


class LogSettings(Section, frozen=True, kw_only=True):
    """Logging, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least severe records that are written.")
    ] = "info"
    format: Annotated[Literal["text", "json"], Meta(description="Lines for people or for machines.")] = "text"


class WorkerSettings(Section, frozen=True, kw_only=True):
    """How a worker runs."""

    role: Annotated[
        Literal["all", "score", "watch", "sinks"],
        Meta(description="`score` runs the model, `watch` the windows and alerts, `sinks` tells the receivers."),
    ] = "all"
    fetch_max_records: Annotated[
        int, Meta(ge=1, le=100_000, description="Records scored and committed together, per partition.")
    ] = 500
    max_in_flight: Annotated[
        int, Meta(ge=1, le=64, description="Batches of one partition that are on their way at once.")
    ] = 2
    snapshot_seconds: Annotated[
        Duration, Meta(gt=0, description="How often a watcher writes down its state; a restart replays less.")
    ] = 10.0
    session_timeout_seconds: Annotated[
        Duration, Meta(ge=1, description="A worker silent for this long is taken for dead.")
    ] = 30.0
    rebalance_timeout_seconds: Annotated[
        Duration, Meta(ge=1, description="How long workers may take to agree on a new division of partitions.")
    ] = 60.0
    shutdown_timeout_seconds: Annotated[
        Duration, Meta(gt=0, description="How long a graceful stop may take before it is cut off.")
    ] = 30.0
    stall_timeout_seconds: Annotated[
        Duration, Meta(gt=0, description="A worker that has work and gets nothing done for this long ends itself.")
    ] = 180.0
    unusable_state: Annotated[
        Literal["refuse", "rebuild"],
        Meta(
            description="What to do where a book's stored state is damaged, of another version, or of other settings: "
            "end with an error, or watch the digests that are kept from their beginning."
        ),
    ] = "refuse"
    data_dir: Annotated[
        FilePath, Meta(description="Scratch directory of Faust; holds nothing that Kafka does not hold as well.")
    ] = ".bearwire"


class Config(Section, frozen=True, kw_only=True):
    """Everything that can be set."""

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicsSettings = TopicsSettings()
    model: ModelSettings = ModelSettings()
    time: TimeSettings = TimeSettings()
    novelty: NoveltySettings = NoveltySettings()
    limits: LimitSettings = LimitSettings()
    books: Annotated[tuple[BookSettings, ...], Meta(min_length=1, max_length=10_000, description="The books.")] = (
        BookSettings(),
    )
    sinks: SinksSettings = SinksSettings()
    privacy: PrivacySettings = PrivacySettings()
    worker: WorkerSettings = WorkerSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()

    @property
    def document_limits(self) -> DocumentLimits:
        """The limits in the form that `parse_document` takes."""
        limits = self.limits
        return DocumentLimits(
            max_message_bytes=limits.max_message_bytes,
            max_text_bytes=limits.max_text_bytes,
            max_depth=limits.max_depth,
            max_symbols=limits.max_symbols,
            future_tolerance_ms=self.time.future_tolerance_ms,
        )

    @property
    def digest_partitions(self) -> int:
        """Partitions of the digests topic: one per book unless more are asked for."""
        return max(self.topics.digests.partitions, len(self.books))


def milliseconds(seconds: float) -> int:
    """Whole milliseconds of a duration in seconds."""
    return round(seconds * 1000)
