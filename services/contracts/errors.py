"""Every error a caller can meet: a stable code, its HTTP status, a sentence and the remedy. Spelled here only."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Kind:
    """What a code means. `detail` and `remedy` are sentences for people; the code is for programs."""

    status: int
    title: str
    remedy: str
    retryable: bool = False


class Code(StrEnum):
    """Stable error codes; they are never renamed."""

    NO_KEY = "no_key"
    WRONG_KEY = "wrong_key"
    SCOPE = "scope_missing"
    SIGNUP_CLOSED = "signup_closed"
    INVITE = "invite_needed"
    USERNAME = "username_invalid"
    QUOTA = "quota_exceeded"
    TOO_MANY_JOBS = "too_many_jobs"
    TOO_MANY_KEYS = "too_many_keys"
    RATE_LIMIT = "rate_limited"
    TICKET = "ticket_invalid"
    ORIGIN = "origin_refused"
    TOO_MANY_STREAMS = "too_many_streams"
    NO_ROOM = "no_room_for_live"
    TAKEN = "session_taken"
    SESSION_ENDED = "session_ended"
    TOO_LARGE = "too_large"
    LENGTH_REQUIRED = "length_required"
    LENGTH_MISMATCH = "length_mismatch"
    CHECKSUM = "checksum_mismatch"
    UPLOAD_SLOW = "upload_too_slow"
    ENCODED = "content_encoding"
    MALFORMED = "malformed_request"
    PARAMETER = "parameter_unknown"
    NO_FILE = "no_file"
    SUBMISSION = "submission_malformed"
    NO_OBJECT = "object_not_found"
    UPLOAD_NOT_FOUND = "upload_not_found"
    UPLOAD_INCOMPLETE = "upload_incomplete"
    UPLOAD_USED = "upload_used"
    EMPTY = "empty_file"
    TOO_LONG = "too_long"
    NOT_AUDIO = "not_audio"
    NO_TRACK = "no_audio_track"
    NO_SOUND = "empty_audio"
    MEDIA_LIMITS = "media_limits"
    MODEL_UNKNOWN = "model_unknown"
    MODEL_AWAY = "model_not_available"
    LANGUAGE = "language_unknown"
    LANGUAGE_MODEL = "language_not_in_model"
    OPTION_UNKNOWN = "option_unknown"
    OPTION_VALUE = "option_invalid"
    OPTION_REFUSED = "option_not_supported"
    FORMAT = "format_unknown"
    CALLBACK_URL = "callback_url_refused"
    NO_CALLBACK = "no_callback"
    IDEMPOTENCY = "idempotency_mismatch"
    JOB_NOT_FOUND = "job_not_found"
    KEY_NOT_FOUND = "key_not_found"
    DROP_KEY = "drop_key"
    NOT_FINISHED = "job_not_finished"
    CANCELLED = "job_cancelled"
    FAILED = "job_failed"
    ERASED = "job_erased"
    NOT_FOUND = "not_found"
    METHOD = "method_not_allowed"
    VERSION_NOT_FOUND = "version_not_found"
    VERSION_CONFLICT = "version_conflict"
    TOO_MANY_VERSIONS = "too_many_versions"
    CORRECTION = "correction_invalid"
    SHARE_NOT_FOUND = "share_not_found"
    SHARE = "share_invalid"
    TOO_MANY_SHARES = "too_many_shares"
    NO_PEAKS = "peaks_not_available"
    UNAVAILABLE = "unavailable"
    STORE_FULL = "storage_full"
    INTERNAL = "internal_error"
    POISON = "poison"
    INTERRUPTED = "interrupted"
    ENGINE = "engine_failed"


ERRORS: dict[Code, Kind] = {
    Code.NO_KEY: Kind(401, "No API key", "Send your key in the x-api-key header, or as Authorization: Bearer."),
    Code.WRONG_KEY: Kind(403, "The API key is not valid", "Check the key; it may be mistyped, expired or revoked."),
    Code.SCOPE: Kind(403, "The API key may not do this", "Use a key that has the scope named in the detail."),
    Code.SIGNUP_CLOSED: Kind(403, "Sign-up is closed", "Ask the operator for a key."),
    Code.INVITE: Kind(403, "Sign-up needs an invitation", "Send the invitation in the x-invite header."),
    Code.USERNAME: Kind(422, "The user name is not valid", "Use 1 to 64 printable characters."),
    Code.QUOTA: Kind(429, "The quota is used up", "Wait for the day to turn, or ask the operator for more.", True),
    Code.TOO_MANY_JOBS: Kind(429, "Too many unfinished jobs", "Wait until some of your jobs have finished.", True),
    Code.TOO_MANY_KEYS: Kind(409, "Too many keys", "Revoke a key that is no longer used."),
    Code.RATE_LIMIT: Kind(429, "Too many requests", "Wait as long as Retry-After says.", True),
    Code.TICKET: Kind(403, "The ticket is not valid", "Get a new one where you got this one: tickets do not last."),
    Code.ORIGIN: Kind(403, "Pages of this origin may not connect", "Ask the operator to allow the origin."),
    Code.TOO_MANY_STREAMS: Kind(
        429, "Too many open streams", "Close a stream; one socket can watch many jobs, or all of them.", True
    ),
    Code.NO_ROOM: Kind(
        503, "No engine has room for another live session", "Come back after Retry-After, or send a recording.", True
    ),
    Code.TAKEN: Kind(409, "Another socket goes on with this session", "Use that one, or resume it here again."),
    Code.SESSION_ENDED: Kind(409, "The session has ended", "Its words are those of its job; open another session."),
    Code.TOO_LARGE: Kind(413, "The upload is too large", "Split the recording, or use a compressed format."),
    Code.LENGTH_REQUIRED: Kind(411, "No Content-Length", "Send the length of the body in Content-Length."),
    Code.LENGTH_MISMATCH: Kind(400, "The upload broke off", "Send the whole body again.", True),
    Code.CHECKSUM: Kind(400, "The checksum does not match", "Send the body again; it was changed on its way.", True),
    Code.UPLOAD_SLOW: Kind(408, "The upload was too slow", "Send the body faster, or in another format.", True),
    Code.ENCODED: Kind(415, "Compressed bodies are not read", "Send the body without Content-Encoding."),
    Code.MALFORMED: Kind(400, "The request cannot be read", "Compare the request with the HTTP reference."),
    Code.PARAMETER: Kind(
        400, "Unknown parameter in the query", "Remove it, or use one of those that the detail names."
    ),
    Code.NO_FILE: Kind(400, "No file in the request", "Send the recording as the multipart field `file`."),
    Code.SUBMISSION: Kind(400, "The message cannot be read", "Compare the message with the reference of submissions."),
    Code.NO_OBJECT: Kind(404, "There is no such object", "Put it into the bucket first, below your own prefix."),
    Code.UPLOAD_NOT_FOUND: Kind(404, "There is no such upload", "Begin again with POST /uploads; it may be too old."),
    Code.UPLOAD_INCOMPLETE: Kind(409, "Not all of the upload is there", "PUT what is missing, then try again.", True),
    Code.UPLOAD_USED: Kind(
        409, "The upload is a job already", "Do its recording again: send the job's id as `source`."
    ),
    Code.EMPTY: Kind(400, "The file is empty", "Send a recording."),
    Code.TOO_LONG: Kind(422, "The recording is too long", "Split the recording."),
    Code.NOT_AUDIO: Kind(422, "This is not audio that can be read", "Send one of the formats in the media reference."),
    Code.NO_TRACK: Kind(422, "There is no audio track", "Send a recording with sound."),
    Code.NO_SOUND: Kind(422, "The recording holds no samples", "Check that the recording was finished and saved."),
    Code.MEDIA_LIMITS: Kind(422, "The recording is outside the limits", "Convert it to 16 kHz mono and try again."),
    Code.MODEL_UNKNOWN: Kind(422, "There is no model of that name", "Use one of the models named in the detail."),
    Code.MODEL_AWAY: Kind(
        422, "That model has no weights here", "Use an available model, or have its weights installed."
    ),
    Code.LANGUAGE: Kind(422, "That language is not known", "Use an ISO 639-1 code such as `tr`, or leave it out."),
    Code.LANGUAGE_MODEL: Kind(422, "That model hears English only", "Use a model without `.en` for other languages."),
    Code.OPTION_UNKNOWN: Kind(422, "Unknown option", "Remove the options named in the detail."),
    Code.OPTION_VALUE: Kind(422, "An option has an invalid value", "Correct the option named in the detail."),
    Code.OPTION_REFUSED: Kind(
        422, "An option that this engine cannot honour", "Remove the option named in the detail."
    ),
    Code.FORMAT: Kind(422, "There is no such format", "Use json, verbose_json, text, srt, vtt or tsv."),
    Code.CALLBACK_URL: Kind(422, "That address is not called back", "Use an https address on port 443 or 8443."),
    Code.NO_CALLBACK: Kind(404, "The job calls nobody back", "Submit it with `callback_url`, or set one for the key."),
    Code.IDEMPOTENCY: Kind(422, "The Idempotency-Key was used for another request", "Use a new Idempotency-Key."),
    Code.JOB_NOT_FOUND: Kind(404, "There is no such job", "Check the id; it belongs to the key that made it."),
    Code.KEY_NOT_FOUND: Kind(404, "There is no such key", "List your keys to see their ids."),
    Code.DROP_KEY: Kind(
        403,
        "The key that pays for the bucket is no longer good",
        "Have the operator name another one (`desifre drop key`); the recording is then taken by itself.",
        True,
    ),
    Code.NOT_FINISHED: Kind(409, "The job has not finished", "Wait for it: GET /jobs/{id}?wait=30.", True),
    Code.CANCELLED: Kind(409, "The job was cancelled", "Submit it again if you want its transcript."),
    Code.FAILED: Kind(409, "The job failed", "See `failure` in GET /jobs/{id}."),
    Code.ERASED: Kind(410, "The job was erased", "Its data are gone; submit the recording again."),
    Code.NOT_FOUND: Kind(404, "There is nothing at this address", "See /docs for the routes."),
    Code.METHOD: Kind(405, "The address does not take this method", "See /docs for the routes."),
    Code.VERSION_NOT_FOUND: Kind(404, "The transcript has no such version", "GET /jobs/{id}/versions lists them."),
    Code.VERSION_CONFLICT: Kind(
        409, "The transcript was corrected meanwhile", "Read the version named in `latest` and correct that."
    ),
    Code.TOO_MANY_VERSIONS: Kind(409, "The transcript has too many versions", "Send more corrections at once."),
    Code.CORRECTION: Kind(
        422, "A correction that does not fit", "Correct what the detail names; see docs/versions.md."
    ),
    Code.SHARE_NOT_FOUND: Kind(404, "There is no such share", "Ask its owner for a new link; it may have expired."),
    Code.SHARE: Kind(422, "A share that cannot be made", "Correct what the detail names."),
    Code.TOO_MANY_SHARES: Kind(409, "The job has too many shares", "Revoke one that is no longer used."),
    Code.NO_PEAKS: Kind(
        404,
        "There is no waveform",
        "Wait until the job is prepared, or drawn where a live session changed engines; older jobs have none.",
    ),
    Code.UNAVAILABLE: Kind(
        503, "A part of the service is away", "Try again after Retry-After; nothing was done.", True
    ),
    Code.STORE_FULL: Kind(507, "The storage is full", "Try again later; the operator must make room.", True),
    Code.INTERNAL: Kind(500, "Something went wrong on our side", "Try again; give the operator the request id.", True),
    Code.POISON: Kind(
        422, "The recording makes the decoder or the engine fail", "Convert the recording and try again."
    ),
    Code.INTERRUPTED: Kind(500, "The job was interrupted too often", "Submit it again; it was not charged.", True),
    Code.ENGINE: Kind(500, "The engine could not do this job", "Submit it again; it was not charged.", True),
}


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An error with a stable code, raised anywhere and rendered once as `application/problem+json` (RFC 9457).

    `detail` is shown to the caller: it must hold no key, file name or transcript.
    """

    def __init__(
        self, code: Code, detail: str | None = None, *, retry_after: float | None = None, **more: object
    ) -> None:
        super().__init__(code.value)
        self.code = code
        self.kind = ERRORS[code]
        self.detail = detail
        self.retry_after = retry_after
        self.more = more

    def body(self) -> dict[str, object]:
        """The members of the problem document; `more` are its extensions."""
        body: dict[str, object] = {
            "type": f"/docs#error-{self.code.value}",
            "title": self.kind.title,
            "status": self.kind.status,
            "code": self.code.value,
        }
        if self.detail:
            body["detail"] = self.detail
        body["remedy"] = self.kind.remedy
        return body | self.more
